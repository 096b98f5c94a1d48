"""Boards: which there are, and what stands on one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from duchenne.server import queries
from duchenne.server.access import Store, Who
from duchenne.server.pages.board_view import read_board
from duchenne.server.pages.cache import Recent
from duchenne.server.pages.rendering import fragment, page

router = APIRouter(include_in_schema=False)
_DRAWN: Recent[str] = Recent(128)
"""What a board shows, by its version and the query: viewers who may see it see the same."""


@router.get("/")
@router.get("/boards")
def list_boards(
    request: Request, who: Who, store: Store, cursor: Annotated[str | None, Query(max_length=600)] = None
) -> Response:
    """Public boards and those of the viewer's teams, and their newest sweeps."""
    boards = queries.boards(store, who, cursor=cursor, limit=100)
    sweeps = queries.sweeps(store, who, limit=8).items if who.how != "anonymous" else ()
    return page(request, who, "boards.html", boards=boards, sweeps=sweeps)


@router.get("/boards/{board}")
def show_board(request: Request, board: str, who: Who, store: Store) -> Response:
    """One board, sorted and filtered as the address says."""
    found = queries.board(store, who, board)
    asked = tuple(request.query_params.multi_items())
    drawn = _DRAWN.get(
        (store.address, found.id, found.version, asked),
        lambda: fragment("board_content.html", view=read_board(store, who, found, asked)),
    )
    return page(request, who, "board.html", board=found, content=drawn)
