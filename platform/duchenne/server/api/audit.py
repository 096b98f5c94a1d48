"""The audit: every write, who did it and when; to be read page by page, or taken away as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from duchenne.records import Event, RecordStore
from duchenne.records.board_rows import Sight
from duchenne.records.cursors import MAX_ROWS
from duchenne.server.access import Store, Who
from duchenne.server.api.boards import Cursor, Limit, Moment, Name, checked_name, utc
from duchenne.server.api.shapes import PageOf

router = APIRouter(tags=["audit"])
_ADDRESS: Final = re.compile(r"[^\s@]+@[^\s@]+")
Text = Annotated[str | None, Query(max_length=200)]
_COLUMNS = ("id", "at", "team", "sweep", "actor", "what", "detail")


@router.get("/audit")
def list_audit(
    who: Who,
    store: Store,
    team: Name = None,
    sweep: Name = None,
    actor: Text = None,
    since: Moment = None,
    until: Moment = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> PageOf[Event]:
    """The lines about your teams and their sweeps, in order."""
    page = store.event_page(who.sight, **_wanted(team, sweep, actor, since, until), cursor=cursor, limit=limit)
    return PageOf(items=list(page.items), next=page.next)


@router.get(
    "/audit.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "One line a write"}},
)
def export_audit(
    who: Who,
    store: Store,
    team: Name = None,
    sweep: Name = None,
    actor: Text = None,
    since: Moment = None,
    until: Moment = None,
) -> StreamingResponse:
    """All of the lines, as CSV."""
    wanted = _wanted(team, sweep, actor, since, until)
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    return StreamingResponse(_csv(store, who.sight, wanted), media_type="text/csv", headers=headers)


def _checked_actor(actor: str | None) -> str | None:
    """A name, or an e-mail address, in which an apostrophe is no quote: o'brien@example.org."""
    if actor is not None and _ADDRESS.fullmatch(actor):
        checked_name(actor.replace("'", ""))
        return actor
    return checked_name(actor)


def _wanted(team: str | None, sweep: str | None, actor: str | None, since: Any, until: Any) -> dict[str, Any]:
    return {
        "team": checked_name(team),
        "sweep": checked_name(sweep),
        "actor": _checked_actor(actor),
        "since": utc(since),
        "until": utc(until),
    }


def _csv(store: RecordStore, sight: Sight, wanted: dict[str, Any]) -> Iterator[str]:
    """Page by page: the audit grows for as long as the server lives."""
    yield _line(_COLUMNS)
    cursor: str | None = None
    while True:
        page = store.event_page(sight, **wanted, cursor=cursor, limit=MAX_ROWS)
        yield "".join(_line(_fields(event)) for event in page.items)
        cursor = page.next
        if cursor is None:
            return


def _fields(event: Event) -> tuple[str, ...]:
    detail = json.dumps(event.detail, sort_keys=True)
    plain = (event.id, event.at.isoformat(), event.team or "", event.sweep or "", event.actor, event.what, detail)
    # A spreadsheet runs what begins like a formula.
    return tuple(
        f"'{text}" if (text := str(field))[:1] in ("=", "+", "-", "@", "\t", "\r") else text for field in plain
    )


def _line(fields: tuple[str, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(fields)
    return buffer.getvalue()
