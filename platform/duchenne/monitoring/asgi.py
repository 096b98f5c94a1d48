"""For the server: a middleware that times requests, and `/metrics`.

The numbers tell of every team's sweeps, so `/metrics` on the public port wants a token; without one it does not exist.
`ServerMetrics.endpoint()` serves the same on the port of DUCHENNE_METRICS_PORT, for a network that only Prometheus
reaches. One process counts its own requests: run one server process a pod, and more pods.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio.to_thread
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.routing import Route

from duchenne.monitoring import catalogue
from duchenne.monitoring.endpoint import Endpoint, metrics_address
from duchenne.monitoring.records import RecordsCollector
from duchenne.records import RecordStore

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN_VARIABLE: Final = "DUCHENNE_METRICS_TOKEN"  # noqa: S105 - the name of a variable
REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNMATCHED: Final = "unmatched"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ServerMetrics:
    """What a server process exports: the records' metrics and its own requests', in a registry of its own.

    Args:
        home: see `RecordsCollector`.
    """

    def __init__(self, store: RecordStore, *, home: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(RecordsCollector(store, home=home))
        requests, in_progress = catalogue.REQUESTS, catalogue.IN_PROGRESS
        self._seconds = Histogram(
            requests.name, requests.help, requests.labels, buckets=REQUEST_SECONDS, registry=self.registry
        )
        self._in_progress = Gauge(in_progress.name, in_progress.help, registry=self.registry)

    def began(self) -> None:
        """A request came in."""
        self._in_progress.inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """The head of an answer went out, `seconds` after the request came."""
        known = method if method in _METHODS else "OTHER"  # the client chooses it: it must not make series
        self._seconds.labels(known, route, f"{status // 100}xx").observe(seconds)

    def ended(self) -> None:
        """An answer is complete, or its connection is gone."""
        self._in_progress.dec()

    def endpoint(self) -> Endpoint:
        """The same on a port of its own, where DUCHENNE_METRICS_PORT asks for one; else nothing.

        Raises:
            MonitoringError: the variable is no port.
        """
        return Endpoint(metrics_address(), self.registry)


class MetricsApp:
    """An ASGI application that answers GET with the metrics, for whoever sends `Authorization: Bearer TOKEN`.

    Without a token every answer is 404. (A class: routes take an instance as an application, a function as a handler.)
    """

    def __init__(self, metrics: ServerMetrics, token: str | None) -> None:
        self._registry = metrics.registry
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        if not self._token:
            await _respond(send, 404)
        elif scope["method"] not in ("GET", "HEAD"):
            await _respond(send, 405, more=(b"allow", b"GET, HEAD"))
        elif not hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self._token.encode()):
            await _respond(send, 401, more=(b"www-authenticate", b"Bearer"))
        else:
            encode, kind = choose_encoder(headers.get(b"accept", b"").decode("latin-1"))
            # The records are read in a thread: requests go on meanwhile.
            body = await anyio.to_thread.run_sync(encode, self._registry)
            await _respond(send, 200, b"" if scope["method"] == "HEAD" else body, kind)


def install(app: Starlette, store: RecordStore, *, home: Path | None = None) -> ServerMetrics:
    """Add both to an application, after its other middleware: the timer then sees what those answer too."""
    metrics = ServerMetrics(store, home=home)
    answer = MetricsApp(metrics, os.environ.get(TOKEN_VARIABLE))
    app.router.routes.insert(0, Route("/metrics", answer, include_in_schema=False))  # before any that takes all paths
    app.add_middleware(RequestTimer, metrics=metrics)
    return metrics


class RequestTimer:
    """ASGI middleware: how long each HTTP request took to be answered, by the route that it matched."""

    def __init__(self, app: App, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and time it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answered = False

        def answer(status: int) -> None:
            nonlocal answered
            answered = True
            self._metrics.answered(scope["method"], route_of(scope), status, time.perf_counter() - began)

        async def timed(message: Message) -> None:
            # At the head of the answer: an event stream's body takes as long as somebody listens.
            if message["type"] == "http.response.start" and not answered:
                answer(message["status"])
            await send(message)

        self._metrics.began()
        try:
            await self._app(scope, receive, timed)
        except BaseException:
            if not answered:
                answer(500)
            raise
        finally:
            self._metrics.ended()


def route_of(scope: Scope) -> str:
    """The template of the matched route, such as `/api/v1/sweeps/{sweep}`: never the path, since paths have no end."""
    # FastAPI's routes know their prefix only in this context; Starlette's own are in the scope, or nowhere.
    context = scope.get("fastapi", {}).get("effective_route_context")
    template = getattr(context, "path_format", None) or getattr(scope.get("route"), "path", None)
    if isinstance(template, str) and template:
        return template
    # A route without parameters is its own template; below a mount a path may be anything.
    literal = "endpoint" in scope and not scope.get("path_params") and "app_root_path" not in scope
    return str(scope["path"]) if literal else UNMATCHED


async def _respond(
    send: Send,
    status: int,
    body: bytes = b"",
    kind: str = "text/plain; charset=utf-8",
    more: tuple[bytes, bytes] | None = None,
) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers + ([more] if more else [])})
    await send({"type": "http.response.body", "body": body})
