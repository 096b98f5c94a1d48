"""The pages of the leaderboard: what people look at, drawn on the server.

Belongs here: routes of pages, what they show and how it is written. Does not belong here: reading records beyond the
few sums that only a page needs (`reads.py`), deciding who may see what (`duchenne.server.access`), or any write that
the API does not do as well.
"""

from __future__ import annotations

from fastapi import FastAPI


def install(app: FastAPI) -> None:
    """Mount the pages and their static files, and draw the errors of every path that is not the API's."""
    from duchenne.server.pages import boards, entries, errors, signing, sweeps, teams
    from duchenne.server.pages.assets import Assets
    from duchenne.server.pages.rendering import STATIC
    from duchenne.server.pages.streams import Listeners, Snapshots

    for part in (boards, entries, sweeps, teams, signing):
        app.include_router(part.router)
    app.mount("/static", Assets(directory=STATIC), name="static")
    app.state.snapshots, app.state.listeners = Snapshots(app.state.store), Listeners()
    app.state.render_problem = errors.render_problem
