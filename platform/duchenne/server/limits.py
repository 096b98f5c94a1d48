"""How much one client may ask for: requests a second, and bytes a body.

Rates are counted by each process for itself: behind several processes a token may send that many times as much.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from duchenne.server import problems

_CLIENTS = 50_000
"""Clients remembered: the one that was quiet for longest is forgotten first."""


class RateLimiter:
    """A token bucket for each client: `burst` requests at once, then `rate` a second."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_of(self, client: str, cost: float = 1.0) -> float:
        """Take `cost` from the client's bucket: 0 where it had that much, else the seconds until it will."""
        with self._lock:
            now = self._clock()
            level, seen = self._buckets.pop(client, (self._burst, now))
            level = min(self._burst, level + (now - seen) * self._rate)
            granted = level >= cost
            self._buckets[client] = (level - cost if granted else level, now)
            if len(self._buckets) > _CLIENTS:
                self._buckets.popitem(last=False)
            return 0.0 if granted else (cost - level) / self._rate

    def require(self, client: str, cost: float = 1.0) -> None:
        """Raise a 429 problem, with Retry-After, where the client asks too fast."""
        wait = self.wait_of(client, cost)
        if wait > 0:
            raise problems.Problem(
                429,
                f"a client may send {self._rate:g} requests a second, but this one sends more; "
                f"wait {math.ceil(wait)} s, then go on",
                headers={"Retry-After": str(math.ceil(wait))},
            )


class BodyLimit:
    """Refuses bodies that are too long, by what they announce and by what they send, before anybody reads them.

    Args:
        limit_of: (method, path) -> bytes that the body may have.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[str, str], int]) -> None:
        self._app, self._limit_of = app, limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        limit = self._limit_of(scope["method"], scope["path"])
        announced = request.headers.get("content-length", "0")
        coded = request.headers.get("content-encoding", "identity").strip().lower()
        if coded not in ("identity", ""):
            detail = f"a body is sent as it is, but this one is encoded as {coded!r:.40}; send it without compression"
            await problems.answer(request, 415, detail)(scope, receive, send)
            return
        if not announced.isascii() or not announced.isdigit() or len(announced) > 18 or int(announced) > limit:
            await problems.answer(request, 413, _too_long(limit))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise problems.Problem(413, _too_long(limit))
            return message

        await self._app(scope, counted, send)


def _too_long(limit: int) -> str:
    return f"a body may have {limit} bytes here, but this one has more; send less, or ask for a higher limit"
