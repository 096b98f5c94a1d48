"""The REST API below /api/v1: thin handlers over `duchenne.server.queries` and the records' writes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi

from duchenne.server.access import check_csrf
from duchenne.server.problems import MEDIA_TYPE, FieldFault, ProblemBody

_STATUSES = {
    400: "A cursor or body that can't be read",
    401: "A token that opens nothing, or none where one is needed",
    403: "A role that is not enough, or a write by session without its CSRF token",
    404: "Nothing of that name that you may see",
    409: "Something is not in the state that the change needs",
    413: "A body that is too long",
    415: "A body in another format",
    422: "A request that breaks a rule",
    429: "Too many requests; Retry-After says how long to wait",
    503: "The records are not in reach for a moment; retry with the same idempotency key",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": what,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
    }
    for status, what in _STATUSES.items()
}


def install(app: FastAPI, prefix: str) -> None:
    """Mount every route of the API, and describe its errors as they are."""
    from duchenne.server.api import audit, boards, entries, figures, submissions, sweeps, teams, uploads

    router = APIRouter(prefix=prefix, responses=PROBLEMS, dependencies=[Depends(check_csrf)])
    for part in (boards, entries, uploads, sweeps, figures, submissions, teams, audit):
        router.include_router(part.router)
    app.include_router(router)

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
            _describe(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _describe(schema: dict[str, Any]) -> None:
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in (FieldFault, ProblemBody):
        made = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        made.pop("$defs", None)
        schemas[model.__name__] = made
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "dch_ID_SECRET"}}
    schema["security"] = [{}, {"token": []}]
