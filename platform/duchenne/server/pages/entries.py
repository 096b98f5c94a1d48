"""One entry: what it reached, how sure that is, what it is made of, and how it differs from another."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from duchenne.server.access import Configured, Store, Who
from duchenne.server.pages.entry_view import read_entry
from duchenne.server.pages.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/entries/{entry}")
def show_entry(
    request: Request,
    entry: str,
    who: Who,
    store: Store,
    settings: Configured,
    against: Annotated[str, Query(max_length=200, description="Another entry, to compare with.")] = "",
) -> Response:
    """One entry, beside another where one is named."""
    return page(request, who, "entry.html", view=read_entry(store, who, settings.home, entry, against or None))
