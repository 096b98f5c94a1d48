"""Teams: what one may spend and has spent, its sweeps, boards, people, tokens and audit."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from duchenne.records.board_rows import ROLES, Role
from duchenne.server import queries
from duchenne.server.access import Store, Who, check_csrf, require_admin
from duchenne.server.api import teams as api
from duchenne.server.api.shapes import TokenIn, TokenOut
from duchenne.server.pages.links import team_path
from duchenne.server.pages.plots.intervals import share_bar
from duchenne.server.pages.reads import latest_events
from duchenne.server.pages.rendering import page
from duchenne.server.problems import Problem

router = APIRouter(include_in_schema=False)
LINES = 50


@router.get("/teams")
def list_teams(request: Request, who: Who, store: Store) -> Response:
    """The viewer's teams with what each has spent this month."""
    spends = [queries.team_spend(store, who, team) for team in queries.teams(store, who)]
    return page(request, who, "teams.html", spends=spends)


@router.get("/teams/{team}")
def show_team(request: Request, team: str, who: Who, store: Store) -> Response:
    """One team."""
    spend = queries.team_spend(store, who, team)
    boards = [board for board in queries.boards(store, who, limit=200).items if board.team == team]
    admin = who.may_administer(team)
    return page(
        request,
        who,
        "team.html",
        spend=spend,
        role=who.role_in(team),
        limits=_limits(spend),
        sweeps=queries.sweeps(store, who, team=team, limit=12).items,
        boards=boards,
        members=store.members(team),
        tokens=store.tokens(team) if admin else None,
        roles=ROLES,
        events=latest_events(store, team=team, limit=12),
    )


@router.get("/teams/{team}/audit")
def show_audit(
    request: Request,
    team: str,
    who: Who,
    store: Store,
    before: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> Response:
    """Every write about a team and its sweeps, the newest first."""
    queries.team_spend(store, who, team)
    events = latest_events(store, team=team, before=before, limit=LINES)
    older = events[-1].id if len(events) == LINES else None
    return page(request, who, "audit.html", team=team, events=events, older=older, before=before)


@router.post("/teams/{team}/tokens", dependencies=[Depends(check_csrf)])
def create_token(
    request: Request,
    team: str,
    who: Who,
    store: Store,
    name: Annotated[str, Form(max_length=200)],
    role: Annotated[Role, Form()],
    days: Annotated[int, Form(ge=1, le=3650)] = 90,
) -> Response:
    """Make a token, as the API does; the page that answers is the only one that shows it."""
    require_admin(who, team)
    try:
        wanted = TokenIn(name=name, role=role, days=days)
    except ValidationError as error:
        raise Problem(422, f"a token has a name of 1 to 80 printable characters, but got {name!r:.90}") from error
    made = TokenOut.model_validate_json(bytes(api.create_token(team, wanted, who, store).body))
    answer = page(request, who, "token.html", status=201, made=made, team=team)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.post("/teams/{team}/tokens/{token}/revoke", dependencies=[Depends(check_csrf)])
def revoke_token(team: str, token: str, who: Who, store: Store) -> Response:
    """Make a token worthless from now on."""
    api.revoke_token(team, token, who, store)
    return RedirectResponse(team_path(team) + "#tokens", 303)


def _limits(spend: queries.TeamSpend) -> list[tuple[str, str, float | None, float | None, float | None, str]]:
    """(key, title, limit, spent, reserved, bar) of each unit that is limited or was spent."""
    sides = [amounts.as_json() for amounts in (spend.limits, spend.spent, spend.reserved)]
    rows = []
    for key, title in (("usd", "USD"), ("gpu_hours", "GPU-hours")):
        limit, spent, reserved = (side[key] for side in sides)
        bar = ""
        if limit:
            shares = ((spent or 0.0) / limit, (reserved or 0.0) / limit)
            words = f"{100 * shares[0]:.0f} % of the month's limit spent, {100 * shares[1]:.0f} % reserved"
            bar = share_bar([(shares[0], "spent"), (shares[1], "reserved")], words)
        rows.append((key, title, limit, spent, reserved, bar))
    return rows
