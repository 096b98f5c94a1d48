"""Every error as `application/problem+json` (RFC 9457): what rule was broken, what was seen, what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from duchenne.records import NotFoundError, RecordsConflictError, RecordsError, RecordsUnavailableError
from duchenne.records.cursors import CursorError
from duchenne.records.errors import RecordsFaultError
from duchenne.server.headers import security_headers

LOGGER = logging.getLogger("duchenne.server")
MEDIA_TYPE = "application/problem+json"


class FieldFault(BaseModel):
    """One part of a request that is wrong."""

    where: str
    what: str


class ProblemBody(BaseModel):
    """The body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    faults: list[FieldFault] = []


class Problem(HTTPException):
    """An answer that is an error. Derived from HTTPException, since only that passes through what reads bodies.

    Args:
        status: 4xx or 5xx.
        detail: one line: the rule broken, the value seen, the next action.
        headers: such as Retry-After.
    """

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


def install(app: FastAPI) -> None:
    """Answer every exception of the app with a problem. `app.state.render_problem`, where set, draws those of pages."""
    app.state.render_problem = None
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(RecordsError, _records)
    app.add_exception_handler(Exception, _fault)


def answer(
    request: Request,
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    faults: list[FieldFault] | None = None,
) -> Response:
    """The response of an error: JSON below /api, else as the pages draw it."""
    body = ProblemBody(title=HTTPStatus(status).phrase, status=status, detail=detail, faults=faults or [])
    render = getattr(request.app.state, "render_problem", None)
    if render is not None and not request.url.path.startswith("/api/"):
        drawn: Response = render(request, body)
        drawn.headers.update(headers or {})
        return drawn
    return JSONResponse(body.model_dump(), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for it alone
    return answer(request, error.status_code, error.detail, headers=error.headers)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    said = {
        404: f"an address must exist, but there is no {request.url.path!r:.120}; see /api/v1/openapi.json",
        405: f"{request.method} is not what this address takes; see /api/v1/openapi.json",
        400: "a body must be readable as its content type says, but it is not; correct it",
    }
    return answer(request, error.status_code, said.get(error.status_code, str(error.detail)), headers=error.headers)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it alone
    faults = [
        FieldFault(where=".".join(_plain(part) for part in fault["loc"]), what=_plain(fault["msg"]))
        for fault in error.errors()[:20]
    ]
    first = f"{faults[0].where}: {faults[0].what}" if faults else "it can't be read"
    detail = f"a request must be as /api/v1/openapi.json says, but {first}; correct it"
    return answer(request, 422, detail, faults=faults)


def _plain(value: Any) -> str:
    """Text that JSON can carry: a name that came with the request may hold lone surrogates."""
    return str(value)[:200].encode("utf-8", "backslashreplace").decode("utf-8")


def _records(request: Request, error: Exception) -> Response:
    if isinstance(error, NotFoundError):
        return answer(request, 404, _plain_line(error))
    if isinstance(error, RecordsUnavailableError):
        LOGGER.error("%s", error)
        detail = "the records must be in reach, but they are not at the moment; try again with the same idempotency key"
        return answer(request, 503, detail, headers={"Retry-After": "2"})
    if isinstance(error, RecordsFaultError):
        return _fault(request, error)
    if isinstance(error, RecordsConflictError):
        return answer(request, 409, _plain_line(error))
    return answer(request, 400 if isinstance(error, CursorError) else 422, _plain_line(error))


def _plain_line(error: Exception) -> str:
    return str(error).encode("utf-8", "backslashreplace").decode("utf-8")


def _fault(request: Request, error: Exception) -> Response:
    LOGGER.error("%s %s failed", request.method, request.url.path, exc_info=error)
    # Answered outside of every middleware, which therefore adds nothing to it.
    headers = security_headers(request.app.state.settings.secure)
    return answer(request, 500, "the server failed on this request; its log says why; report it", headers=headers)
