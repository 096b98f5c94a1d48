"""Idempotency keys: a write that is sent again with its key is not done again, and gets the same answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.orm import Session

from duchenne.records import RecordStore
from duchenne.records.idempotency import Answer
from duchenne.server.access import Viewer

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="Chosen by the client for one write; a retry with the same key does nothing twice. Kept two days.",
    ),
]


def request_digest(request: Request, body: BaseModel | str | None) -> str:
    """What was asked, so that a key can't be used for something else: method, address, query and body."""
    content = body.model_dump_json() if isinstance(body, BaseModel) else body or ""
    asked = f"{request.method} {request.url.path}?{request.url.query}\n{content}"
    return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()


def do_once(
    store: RecordStore,
    viewer: Viewer,
    key: str | None,
    digest: str,
    effect: Callable[[Session], tuple[int, BaseModel | dict[str, Any]]],
) -> JSONResponse:
    """Run `effect` (session -> status, body) once for the viewer's key, and answer with what it gave then."""

    def plain(session: Session) -> tuple[int, Any]:
        status, body = effect(session)
        return status, body.model_dump(mode="json") if isinstance(body, BaseModel) else body

    return response_of(store.once(viewer.name, key, digest, plain))


def response_of(answer: Answer) -> JSONResponse:
    """The response of a write; `Idempotency-Replayed` where it was done before."""
    headers = {"Idempotency-Replayed": "true"} if answer.replayed else {}
    return JSONResponse(answer.body, answer.status, headers=headers)
