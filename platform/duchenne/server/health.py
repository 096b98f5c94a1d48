"""What a load balancer and a kubelet ask: is the process alive, can it answer."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from duchenne.server.access import Store

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
def alive() -> dict[str, str]:
    """200 as long as the process answers; the database is not asked, since a restart would not mend it."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(store: Store) -> dict[str, str]:
    """200 when the records can be read; 503 otherwise (`problems`), and requests go elsewhere."""
    store.month_now()
    return {"status": "ok"}


def install(app: FastAPI) -> None:
    """Add both addresses. They ask for no token and count against no rate."""
    app.include_router(router)
