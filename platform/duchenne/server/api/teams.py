"""Teams: budgets and this month's spend, members, tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from duchenne.records import NotFoundError
from duchenne.records.teams import add_team, change_team_budget, drop_member, find_team, put_member
from duchenne.records.tokens import end_token, insert_token
from duchenne.server import queries
from duchenne.server.access import Configured, Store, Who, require_admin, require_operator, require_seen
from duchenne.server.api.shapes import BudgetIn, MemberIn, MemberOut, SpendOut, TeamIn, TeamOut, TokenIn, TokenOut
from duchenne.server.once import Key, do_once, request_digest
from duchenne.server.tokens import make_token

router = APIRouter(tags=["teams"])
TeamName = Annotated[str, Path(max_length=80)]
Address = Annotated[str, Path(max_length=260, description="The member's e-mail address.")]


@router.get("/teams")
def list_teams(who: Who, store: Store) -> list[TeamOut]:
    """Your teams, with your role in each."""
    return [TeamOut.of(team, role) for team in store.teams() if (role := who.role_in(team.name)) is not None]


@router.post("/teams", status_code=201, response_model=TeamOut)
def create_team(request: Request, body: TeamIn, who: Who, store: Store, key: Key = None) -> Response:
    """Make a team; one of that name that is there stays as it is. Needs an operator's token."""
    require_operator(who)
    return do_once(
        store,
        who,
        key,
        request_digest(request, body),
        lambda session: (201, TeamOut.of(add_team(store.database, session, body.name, who.name), "admin")),
    )


@router.get("/teams/{team}")
def show_team(team: TeamName, who: Who, store: Store) -> TeamOut:
    """One team."""
    role = who.role_in(team)
    if role is None:
        raise NotFoundError(f"a team must be one of yours, but there is no {team!r:.60}; list yours at /api/v1/teams")
    return TeamOut.of(store.get_team(team), role)


@router.get("/teams/{team}/spend")
def show_spend(team: TeamName, who: Who, store: Store, settings: Configured) -> SpendOut:
    """What a team may spend this month, has spent and has reserved."""
    return SpendOut.of(queries.team_spend(store, who, team, settings.home))


@router.put("/teams/{team}/budget", response_model=TeamOut)
def set_budget(request: Request, team: TeamName, body: BudgetIn, who: Who, store: Store, key: Key = None) -> Response:
    """Set what a team may spend in a calendar month. Needs an operator's token."""
    require_operator(who)
    return do_once(
        store,
        who,
        key,
        request_digest(request, body),
        lambda session: (
            200,
            TeamOut.of(
                change_team_budget(
                    store.database, session, team, body.usd_per_month, body.gpu_hours_per_month, who.name
                ),
                "admin",
            ),
        ),
    )


@router.get("/teams/{team}/members")
def list_members(team: TeamName, who: Who, store: Store) -> list[MemberOut]:
    """The people of a team."""
    require_seen(who, team, "a team")
    return [MemberOut.of(member) for member in store.members(team)]


@router.put("/teams/{team}/members/{address}", response_model=MemberOut)
def set_member(
    request: Request, team: TeamName, address: Address, body: MemberIn, who: Who, store: Store, key: Key = None
) -> Response:
    """Give a person a role in a team. Needs the role admin."""
    require_admin(who, team)
    return do_once(
        store,
        who,
        key,
        request_digest(request, body),
        lambda session: (200, MemberOut.of(put_member(store.database, session, team, address, body.role, who.name))),
    )


@router.delete("/teams/{team}/members/{address}", status_code=204, response_model=None)
def remove_member(team: TeamName, address: Address, who: Who, store: Store) -> Response:
    """Take a person out of a team. Needs the role admin."""
    require_admin(who, team)
    with store.database.write() as session:
        if not drop_member(store.database, session, team, address.replace("\x00", ""), who.name):
            raise NotFoundError("a member is removed by their address, but the team has none of it; list its members")
    return Response(status_code=204)


@router.get("/teams/{team}/tokens")
def list_tokens(team: TeamName, who: Who, store: Store) -> list[TokenOut]:
    """The tokens of a team, without what opens it. Needs the role admin."""
    require_admin(who, team)
    return [TokenOut.of(token) for token in store.tokens(team)]


@router.post("/teams/{team}/tokens", status_code=201, response_model=TokenOut)
def create_token(team: TeamName, body: TokenIn, who: Who, store: Store) -> Response:
    """Make a token for a team; its text is in this answer and nowhere else. Needs the role admin.

    It takes no idempotency key: the answer would have to be kept, and the text with it. Revoke what is too many.
    """
    require_admin(who, team)
    made = make_token()
    with store.database.write() as session:
        find_team(session, team)
        token = insert_token(
            store.database,
            session,
            made.id,
            made.secret_hash,
            name=body.name,
            team=team,
            role=body.role,
            created_by=who.name,
            expires_at=store.database.now(session) + timedelta(days=body.days),
        )
    shown = TokenOut.of(token, made.text).model_dump_json()
    return Response(shown, 201, media_type="application/json", headers={"Cache-Control": "no-store"})


@router.delete("/teams/{team}/tokens/{token}")
def revoke_token(team: TeamName, token: Annotated[str, Path(max_length=80)], who: Who, store: Store) -> TokenOut:
    """Make a token worthless from now on. Needs the role admin."""
    require_admin(who, team)
    with store.database.write() as session:
        return TokenOut.of(end_token(store.database, session, token, who.name, team))
