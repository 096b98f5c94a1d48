"""Sweeps: the list, one while it runs, its stream, and the two things that can be asked of it."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from duchenne.records import RecordStore, Sweep
from duchenne.records.rows import SWEEP_STATES
from duchenne.records.sweeps import ask_to_resume
from duchenne.server import queries
from duchenne.server.access import Configured, Store, Viewer, Who, check_csrf, require_writer
from duchenne.server.api.boards import checked_name
from duchenne.server.api.figures import figure_files
from duchenne.server.pages.links import changed, sweep_path
from duchenne.server.pages.rendering import page
from duchenne.server.pages.streams import Listeners, Snapshots, follow
from duchenne.server.pages.sweep_view import ENDED, Asked, draw_parts
from duchenne.server.problems import Problem
from duchenne.server.resuming import WayOn

router = APIRouter(include_in_schema=False)
Text = Annotated[str, Query(max_length=80)]


@router.get("/sweeps")
def list_sweeps(
    request: Request,
    who: Who,
    store: Store,
    team: Text = "",
    state: Text = "",
    board: Text = "",
    cursor: Annotated[str | None, Query(max_length=600)] = None,
) -> Response:
    """Sweeps of the viewer's teams, the newest first."""
    if state not in ("", *SWEEP_STATES):
        raise Problem(422, f"a state is one of {', '.join(SWEEP_STATES)}, but got {state!r:.40}; choose one")
    found = queries.sweeps(
        store,
        who,
        team=checked_name(team or None),
        board=checked_name(board or None),
        state=state or None,
        cursor=cursor,
    )
    return page(
        request,
        who,
        "sweeps.html",
        sweeps=found.items,
        asked={"team": team, "state": state, "board": board},
        states=SWEEP_STATES,
        next_href=changed(request.query_params.multi_items(), cursor=found.next) if found.next else None,
    )


@router.get("/sweeps/{sweep}")
def show_sweep(request: Request, sweep: str, who: Who, store: Store, settings: Configured) -> Response:
    """One sweep, as it is now; a stream keeps it so."""
    found = queries.sweep(store, who, sweep)
    asked = Asked.of(request.query_params)
    shot = _snapshots(request).of(found.id)
    stream = changed([*asked.pairs, ("seen", shot.mark)])
    return page(
        request,
        who,
        "sweep.html",
        sweep=shot.sweep,
        parts=draw_parts(store, shot, asked),
        ended=shot.sweep.state in ENDED,
        way_on=WayOn.of(shot.sweep),
        may_write=who.may_write(found.team),
        entries=store.standings_of_sweep(who.sight, found.id),
        figures=[name for name in figure_files(settings.home, found.id) if name.endswith(".png")],
        stream=f"{sweep_path(found.id)}/stream{stream}",
    )


@router.get("/sweeps/{sweep}/stream")
async def stream_sweep(
    request: Request, sweep: str, who: Who, store: Store, seen: Annotated[str, Query(max_length=1000)] = ""
) -> Response:
    """What changes on the page of a sweep, as server-sent events."""
    found = await run_in_threadpool(queries.sweep, store, who, sweep)
    asked = Asked.of(request.query_params)
    listeners = _listeners(request)
    listeners.require_room()
    events = follow(store, _snapshots(request), listeners, found.id, asked, seen)
    return EventSourceResponse(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


@router.post("/sweeps/{sweep}/stop", dependencies=[Depends(check_csrf)])
def stop(sweep: str, who: Who, store: Store) -> Response:
    """Ask its driver to end. Folds stop within an epoch; what is on record stays."""
    found = _own(store, who, sweep)
    store.request_stop(found.id, actor=who.name)
    return RedirectResponse(sweep_path(found.id), 303)


@router.post("/sweeps/{sweep}/resume", dependencies=[Depends(check_csrf)])
def resume(sweep: str, who: Who, store: Store) -> Response:
    """Record that it shall go on. The page says which command makes it."""
    found = _own(store, who, sweep)
    with store.database.write() as session:
        ask_to_resume(store.database, session, found.id, who.name)
    return RedirectResponse(sweep_path(found.id), 303)


def _own(store: RecordStore, who: Viewer, sweep: str) -> Sweep:
    """The sweep, if the viewer may write for its team; 401 before 404, so that nobody learns which there are."""
    if who.how == "anonymous":
        require_writer(who, "")
    found = queries.sweep(store, who, sweep)
    require_writer(who, found.team)
    return found


def _snapshots(request: Request) -> Snapshots:
    return cast(Snapshots, request.app.state.snapshots)


def _listeners(request: Request) -> Listeners:
    return cast(Listeners, request.app.state.listeners)
