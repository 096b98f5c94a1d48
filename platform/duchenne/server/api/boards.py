"""Boards: which there are, what stands on them, what papers reached, and what the money bought."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from duchenne.records.board_rows import Kind, StandingFilter, StandingStatus
from duchenne.records.cursors import MAX_ROWS
from duchenne.records.standing_pages import DEFAULT_SORT
from duchenne.records.standings import move_board
from duchenne.server import queries
from duchenne.server.access import Store, Who, require_admin
from duchenne.server.api.shapes import BoardOut, EntryLine, PageOf, VisibilityIn
from duchenne.server.once import Key, do_once, request_digest
from duchenne.server.problems import Problem
from duchenne.server.registration import rank_changed

router = APIRouter(tags=["boards"])

Cursor = Annotated[str | None, Query(max_length=600, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_ROWS, description="Rows of a page.")]
Name = Annotated[str | None, Query(max_length=80)]
_NO_NAME: Final = re.compile(r"['\"`;\\<>()\x00-\x1f\x7f]")
Money = Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)]
Moment = Annotated[datetime | None, Query(description="RFC 3339; without a zone it is UTC.")]


@router.get("/boards")
def list_boards(who: Who, store: Store, cursor: Cursor = None, limit: Limit = 50) -> PageOf[BoardOut]:
    """Public boards, and those of your teams, by id."""
    page = queries.boards(store, who, cursor=cursor, limit=limit)
    return PageOf(items=[BoardOut.of(board) for board in page.items], next=page.next)


@router.get("/boards/{board}")
def show_board(board: str, who: Who, store: Store) -> BoardOut:
    """One board."""
    return BoardOut.of(queries.board(store, who, board))


@router.get("/boards/{board}/entries", response_model=PageOf[EntryLine])
def list_entries(
    board: str,
    who: Who,
    store: Store,
    sort: Annotated[
        str,
        Query(
            max_length=20,
            description="f1, f1_deflated, auc, cost, gpu_hours, trials or date; - before it: the highest first.",
        ),
    ] = DEFAULT_SORT,
    team: Name = None,
    method: Name = None,
    status: StandingStatus | None = None,
    kind: Kind | None = None,
    since: Moment = None,
    until: Moment = None,
    min_cost: Money = None,
    max_cost: Money = None,
    on_frontier: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """A page of a board: best F1 first, unless sorted otherwise. `total` counts the whole board, without a filter."""
    wanted = StandingFilter(
        team=checked_name(team),
        method=checked_name(method),
        status=status,
        kind=kind,
        since=utc(since),
        until=utc(until),
        min_cost=min_cost,
        max_cost=max_cost,
        on_frontier=on_frontier,
    )
    page = queries.board_page(store, who, board, wanted=wanted, sort=sort, cursor=cursor, limit=limit)
    return _lines(
        PageOf[EntryLine].model_construct(
            items=[EntryLine.of(item) for item in page.items], next=page.next, total=page.total
        )
    )


@router.get("/boards/{board}/frontier", response_model=PageOf[EntryLine])
def show_frontier(board: str, who: Who, store: Store) -> Response:
    """Score for money: the verified entries that no other undercuts, the cheapest first."""
    found = [EntryLine.of(item) for item in queries.frontier(store, who, board)]
    return _lines(PageOf[EntryLine].model_construct(items=found, next=None, total=len(found)))


@router.get("/boards/{board}/references")
def list_references(board: str, who: Who, store: Store) -> list[queries.Reference]:
    """Numbers that papers have published of the board's dataset, in percent; never ours, never ranked."""
    return list(queries.references(store, who, board))


@router.put("/boards/{board}/visibility", response_model=BoardOut)
def set_visibility(
    request: Request, board: str, body: VisibilityIn, who: Who, store: Store, key: Key = None
) -> Response:
    """Put all of a team's entries of a board on the public one of its name, or take them back. Needs the role admin."""
    team, _, name = board.partition(".")
    if not name or not who.may_see(team):
        raise Problem(404, "a board that is published is a team's own, TEAM.NAME, of a team of yours; check its name")
    require_admin(who, team)
    queries.board(store, who, board)
    database = store.database
    answer = do_once(
        store,
        who,
        key,
        request_digest(request, body),
        lambda session: (
            200,
            BoardOut.of(move_board(database, session, team, name, public=body.public, actor=who.name)),
        ),
    )
    rank_changed(store, request.app.state.settings)
    return answer


def checked_name(value: str | None) -> str | None:
    """A name to filter by.

    Raises:
        Problem: 422, nothing that is called so can be on record: it holds quotes, brackets or control characters.
    """
    if value is not None and _NO_NAME.search(value):
        raise Problem(
            422,
            f"a name to filter by has no quotes, brackets, semicolons or control characters, but got {value!r:.40}; "
            "correct it",
        )
    return value


def utc(moment: datetime | None) -> datetime | None:
    """A moment that knows its zone.

    Raises:
        Problem: 422, it lies outside the years that UTC can say.
    """
    if moment is None:
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise Problem(422, f"a time lies between the years 1 and 9999 in UTC, but got {moment}; correct it") from error


def _lines(page: PageOf[Any]) -> Response:
    """Written once by pydantic's serialiser: FastAPI would check each line again."""
    return Response(page.model_dump_json(), media_type="application/json")
