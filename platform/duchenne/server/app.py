"""The FastAPI app: one record store, its settings, and everything that answers below /."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.sessions import SessionMiddleware

from duchenne.monitoring import asgi
from duchenne.records import RecordStore
from duchenne.server import api, health, login, pages, problems, queries
from duchenne.server.etags import ETags
from duchenne.server.headers import SecurityHeaders
from duchenne.server.limits import BodyLimit, RateLimiter
from duchenne.server.registration import Registrar
from duchenne.server.settings import Settings
from duchenne.server.tokens import TokenChecker

API = "/api/v1"


def create_app(store: RecordStore, settings: Settings) -> FastAPI:
    """The server of one record store.

    `app.state` holds `store`, `settings`, `tokens` and `rates`. Set `app.state.render_problem` to draw the errors of
    pages.
    """
    registrar = Registrar(store, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for name in queries.reference_boards():
            store.ensure_public_board(name)
        registrar.start()
        try:
            with metrics.endpoint():
                yield
        finally:
            await run_in_threadpool(registrar.stop)

    app = FastAPI(
        lifespan=lifespan,
        title="Duchenne",
        version="1",
        summary="Leaderboards, sweeps and their costs.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.store, app.state.settings = store, settings
    app.state.tokens = TokenChecker(store, settings.token_cache_seconds)
    app.state.rates = RateLimiter(settings.rate_per_second, settings.rate_burst)
    app.state.registrar = registrar
    problems.install(app)
    health.install(app)
    login.install(app, settings)
    api.install(app, API)
    pages.install(app)
    app.add_middleware(
        SessionMiddleware,
        secret_key=settings.secret.get_secret_value(),
        session_cookie="__Host-duchenne" if settings.secure else "duchenne",
        max_age=int(settings.session_hours * 3600),
        same_site="lax",
        https_only=settings.secure,
    )
    app.add_middleware(ETags, prefix=API)
    app.add_middleware(BodyLimit, limit_of=partial(_body_limit, settings))
    app.add_middleware(SecurityHeaders, secure=settings.secure)
    metrics = asgi.install(app, store, home=settings.home)
    return app


def _body_limit(settings: Settings, method: str, path: str) -> int:
    upload = (method == "POST" and path.endswith("/entries") and path.startswith(f"{API}/boards/")) or (
        method == "PUT" and path.startswith(f"{API}/sweeps/")
    )
    return settings.upload_bytes if upload else settings.body_bytes
