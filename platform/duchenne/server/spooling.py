"""Bodies that may be large: written to disk as they come, never held in memory, gone when they are done with."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from duchenne.server.problems import Problem

SPOOL = "uploads/incoming"
_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


@dataclass(frozen=True)
class Spooled:
    """A body on disk: where, how long, its digest `sha256:...`, and its media type without parameters."""

    path: Path
    size: int
    digest: str
    media: str


@asynccontextmanager
async def spooled(request: Request, home: Path) -> AsyncIterator[Spooled]:
    """The request's body as a file below HOME/uploads/incoming, for as long as the block lasts.

    The middleware `BodyLimit` ends a body that is too long.

    Raises:
        Problem: 400, the client went away or sent nothing; 415, a form.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in _FORMS:
        raise Problem(415, "an upload is the file itself, but this one is a form; send the file as the body")
    folder = home / SPOOL
    folder.mkdir(parents=True, exist_ok=True)
    handle = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115 - closed below, deleted after use
    path, digest, size = Path(handle.name), hashlib.sha256(), 0
    try:
        with handle:
            try:
                async for chunk in request.stream():
                    size += len(chunk)
                    digest.update(chunk)
                    await run_in_threadpool(handle.write, chunk)
            except ClientDisconnect as error:
                raise Problem(400, "an upload must be sent to its end, but the client left; send it again") from error
        if size == 0:
            raise Problem(400, "an upload must have a body, but this one is empty; send the predictions")
        yield Spooled(path, size, f"sha256:{digest.hexdigest()}", media)
    finally:
        path.unlink(missing_ok=True)
