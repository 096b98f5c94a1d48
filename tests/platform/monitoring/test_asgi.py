"""The middleware and `/metrics` around a real FastAPI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from duchenne.monitoring.asgi import REQUEST_SECONDS, TOKEN_VARIABLE, MetricsApp, RequestTimer, ServerMetrics, install
from duchenne.records import RecordStore, open_home

TOKEN = "a-token-of-the-test"  # noqa: S105


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


@pytest.fixture
def metrics(store: RecordStore) -> ServerMetrics:
    return ServerMetrics(store)


@pytest.fixture
def app(metrics: ServerMetrics) -> FastAPI:
    made = FastAPI()
    router, nested = APIRouter(), APIRouter(prefix="/sweeps")

    @nested.get("/{sweep}")
    async def sweep(sweep: str) -> dict[str, str]:
        return {"id": sweep}

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken")

    @router.get("/live")
    async def live() -> StreamingResponse:
        async def slowly() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await asyncio.sleep(0.4)
            yield b"data: 2\n\n"

        return StreamingResponse(slowly(), media_type="text/event-stream")

    router.include_router(nested)
    made.include_router(router, prefix="/api/v1")
    made.router.routes.append(Route("/metrics", MetricsApp(metrics, TOKEN)))
    made.router.routes.append(Route("/plain/{name}", MetricsApp(metrics, TOKEN)))
    made.mount("/files", Starlette(routes=[Mount("/{team}", routes=[Route("/x", sweep)])]))
    made.add_middleware(RequestTimer, metrics=metrics)
    return made


def call(app: Any, *requests: tuple[str, str], **headers: str) -> list[httpx.Response]:
    async def send() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(method, path, headers=headers) for method, path in requests]

    return asyncio.run(send())


def count(metrics: ServerMetrics, method: str, route: str, status: str) -> float | None:
    labels = {"method": method, "route": route, "status": status}
    return metrics.registry.get_sample_value("duchenne_http_request_duration_seconds_count", labels)


def series(metrics: ServerMetrics) -> int:
    return sum(
        sample.name.endswith("_count")
        for family in metrics.registry.collect()
        if family.name == "duchenne_http_request_duration_seconds"
        for sample in family.samples
    )


def test_requests_are_told_by_the_template_of_their_route(app: FastAPI, metrics: ServerMetrics) -> None:
    call(app, ("GET", "/api/v1/sweeps/a"), ("GET", "/api/v1/sweeps/b"), ("GET", "/api/v1/broken"))
    assert count(metrics, "GET", "/api/v1/sweeps/{sweep}", "2xx") == 2
    assert count(metrics, "GET", "/api/v1/broken", "5xx") == 1


def test_paths_and_methods_that_a_client_makes_up_make_no_series(app: FastAPI, metrics: ServerMetrics) -> None:
    call(app, *((f"VERB{number}", f"/nowhere/{number}") for number in range(20)))
    call(app, *(("GET", f"/files/team{number}/{path}") for number in range(10) for path in "xy"))
    call(app, *(("GET", f"/plain/{number}") for number in range(20)))
    call(app, *(("GET", f"/api/v1/sweeps/{number}") for number in range(20)))
    assert series(metrics) <= 6
    assert count(metrics, "OTHER", "unmatched", "4xx") == 20


def test_a_stream_is_timed_to_its_first_byte(app: FastAPI, metrics: ServerMetrics) -> None:
    began = time.perf_counter()
    (answer,) = call(app, ("GET", "/api/v1/live"))
    whole = time.perf_counter() - began
    assert answer.text == "data: 1\n\ndata: 2\n\n"
    labels = {"method": "GET", "route": "/api/v1/live", "status": "2xx"}
    total = metrics.registry.get_sample_value("duchenne_http_request_duration_seconds_sum", labels)
    assert total is not None
    assert total <= whole - 0.4, "not to its last"
    assert metrics.registry.get_sample_value("duchenne_http_requests_in_progress") == 0


def test_an_application_that_dies_counts_as_5xx_and_is_not_in_progress(metrics: ServerMetrics) -> None:
    async def dies(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("before any answer")

    call(RequestTimer(dies, metrics), ("GET", "/"))
    assert count(metrics, "GET", "unmatched", "5xx") == 1
    assert metrics.registry.get_sample_value("duchenne_http_requests_in_progress") == 0


def test_the_metrics_want_their_token(app: FastAPI) -> None:
    (without, wrong) = [call(app, ("GET", "/metrics"), **headers)[0] for headers in ({}, {"authorization": "Bearer x"})]
    assert (without.status_code, wrong.status_code) == (401, 401)
    assert b"duchenne_" not in without.content + wrong.content
    (right,) = call(app, ("GET", "/metrics"), authorization=f"Bearer {TOKEN}")
    assert right.status_code == 200
    assert right.headers["content-type"].startswith("text/plain; version=")
    assert "duchenne_records_up 1.0" in right.text
    assert call(app, ("POST", "/metrics"), authorization=f"Bearer {TOKEN}")[0].status_code == 405
    (head,) = call(app, ("HEAD", "/metrics"), authorization=f"Bearer {TOKEN}")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_there_are_no_metrics(metrics: ServerMetrics, token: str | None) -> None:
    (answer,) = call(MetricsApp(metrics, token), ("GET", "/"), authorization="Bearer ")
    assert answer.status_code == 404


def test_two_servers_of_one_process_do_not_share_a_registry(store: RecordStore) -> None:
    first, second = ServerMetrics(store), ServerMetrics(store)
    first.answered("GET", "/", 200, 0.01)
    assert (count(first, "GET", "/", "2xx"), count(second, "GET", "/", "2xx")) == (1, None)


def test_the_targets_of_the_server_are_bounds_of_its_buckets() -> None:
    """A board page in 150 ms, an API list in 50 ms: a quantile is exact where its bound is a bucket's."""
    assert {0.05, 0.15} <= set(REQUEST_SECONDS)


def test_one_call_adds_both_to_an_application(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    app = FastAPI()
    metrics = install(app, store)
    (answer,) = call(app, ("GET", "/metrics"), authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    assert count(metrics, "GET", "/metrics", "2xx") == 1
    assert "/metrics" not in app.openapi()["paths"]
    with metrics.endpoint():
        """Nothing listens without DUCHENNE_METRICS_PORT."""
