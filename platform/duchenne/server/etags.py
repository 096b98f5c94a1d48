"""ETags of what the API answers: a client that has it already gets 304 and no body."""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ETags:
    """ASGI middleware: a strong ETag over the body of every 200 below `prefix` that came in one piece."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("if-none-match", "")
        start: Message | None = None

        async def tagged(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is None:
                await send(message)
                return
            first, start = start, None
            if first["status"] != 200 or message.get("more_body"):
                await send(first)
                await send(message)
                return
            body = message.get("body", b"")
            headers = MutableHeaders(scope=first)
            # Not across clients: what is in sight differs.
            headers.setdefault("Cache-Control", "private, no-cache")
            headers.setdefault("Vary", "Authorization, Cookie")
            headers.setdefault("ETag", f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            if _matches(asked, headers["ETag"]):
                first["status"] = 304
                del headers["content-length"]
                body = b""
            await send(first)
            await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, tagged)


def _matches(asked: str, etag: str) -> bool:
    names = [name.strip().removeprefix("W/") for name in asked.split(",")]
    return "*" in names or etag in names
