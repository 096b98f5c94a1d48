"""Who asks, and what they may see and do. Whatever a viewer may not see does not exist for them: 404, never 403."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, cast

from fastapi import Depends, Request

from duchenne.records import RecordStore
from duchenne.records.board_rows import ROLES, Role, Sight, Token
from duchenne.server.limits import RateLimiter
from duchenne.server.problems import Problem
from duchenne.server.settings import Settings
from duchenne.server.tokens import BadToken, TokenChecker, live

CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Membership:
    """A role in one team."""

    team: str
    role: Role


@dataclass(frozen=True)
class Viewer:
    """Whoever sent a request.

    Attributes:
        name: as the audit calls them: an e-mail address, `token:ID`, or `anonymous`.
        how: what they are known by.
        memberships: their teams.
        everywhere: the role that holds for every team; None for all but an operator's token.
    """

    name: str
    how: Literal["anonymous", "token", "session"]
    memberships: tuple[Membership, ...] = ()
    everywhere: Role | None = None

    def role_in(self, team: str) -> Role | None:
        """Their role in a team; None where they have none."""
        held = [membership.role for membership in self.memberships if membership.team == team]
        held += [self.everywhere] if self.everywhere is not None else []
        return max(held, key=ROLES.index, default=None)

    def may_see(self, team: str) -> bool:
        """Whether a team's own sweeps, boards and spend are theirs to see. What is public, everybody may see."""
        return self.role_in(team) is not None

    def may_write(self, team: str) -> bool:
        """Whether they may submit sweeps and entries for a team, stop and resume them."""
        return self.role_in(team) in ("submitter", "admin")

    def may_administer(self, team: str) -> bool:
        """Whether they may make tokens, set members and publish boards."""
        return self.role_in(team) == "admin"

    @property
    def is_operator(self) -> bool:
        """Whether they may make teams and set their budgets."""
        return self.everywhere == "admin"

    @property
    def sight(self) -> Sight:
        """What the records show them."""
        return Sight(frozenset(item.team for item in self.memberships), self.everywhere is not None)


ANONYMOUS = Viewer("anonymous", "anonymous")


def store_of(request: Request) -> RecordStore:
    """The app's records."""
    return cast(RecordStore, request.app.state.store)


def settings_of(request: Request) -> Settings:
    """The app's settings."""
    return cast(Settings, request.app.state.settings)


def viewer(request: Request) -> Viewer:
    """Who asks: by a bearer token, else by the session, else nobody in particular. Counts against their rate.

    Raises:
        Problem: 401 for a token that opens nothing, 429 for a client that asks too fast.
    """
    checker = cast(TokenChecker, request.app.state.tokens)
    rates = cast(RateLimiter, request.app.state.rates)
    address = f"address:{request.client.host if request.client else 'unknown'}"
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        if not checker.is_known(text.strip()):
            # Before the hash is computed: guessing must cost the guesser, not this machine.
            rates.require(address)
        found = from_token(_checked(checker, text.strip()))
        rates.require(found.name)
        return found
    found = _of_session(request)
    rates.require(address if found.how == "anonymous" else found.name)
    return found


# Coroutines: a plain function would cost a trip to another thread.
async def _store(request: Request) -> RecordStore:
    return store_of(request)


async def _settings(request: Request) -> Settings:
    return settings_of(request)


Who = Annotated[Viewer, Depends(viewer)]
Store = Annotated[RecordStore, Depends(_store)]
Configured = Annotated[Settings, Depends(_settings)]


def from_token(token: Token) -> Viewer:
    """Who a token stands for."""
    if token.team is None:
        return Viewer(f"token:{token.id}", "token", everywhere=token.role)
    return Viewer(f"token:{token.id}", "token", (Membership(token.team, token.role),))


def log_in(request: Request, *, who: str | None = None, token: str | None = None) -> None:
    """Start a session, for a person or for the holder of a token, in place of whatever session there was."""
    request.session.clear()
    request.session.update(
        {name: value for name, value in (("who", who), ("token", token)) if value} | {"csrf": secrets.token_urlsafe(24)}
    )


def csrf_token(request: Request) -> str:
    """What forms carry in the field `csrf_token`; a session without one gets it now."""
    return str(request.session.setdefault("csrf", secrets.token_urlsafe(24)))


async def check_csrf(request: Request) -> None:
    """Refuse a write that another site's page may have sent. A bearer token is no cookie, and needs no more.

    Raises:
        Problem: 403.
    """
    if request.method in SAFE_METHODS or request.headers.get("authorization", "").lower().startswith("bearer "):
        return
    if "who" not in request.session and "token" not in request.session:
        return  # nobody in particular, who can't write anyway: the handler says what is missing
    await require_csrf(request)


async def require_csrf(request: Request) -> None:
    """Refuse what does not carry the token of its session, whoever sends it: a login, which another site's page may
    not start in somebody's browser either.

    Raises:
        Problem: 403.
    """
    sent = request.headers.get(CSRF_HEADER)
    if sent is None and _is_small_form(request):
        field = (await request.form()).get(CSRF_FIELD)
        sent = field if isinstance(field, str) else None
    kept = request.session.get("csrf")
    if not kept or sent is None or not hmac.compare_digest(str(kept).encode(), sent.encode("utf-8", "replace")):
        raise Problem(
            403,
            f"a form carries the {CSRF_FIELD} of its session, but this one does not; load the page again and repeat "
            "it, or send a bearer token",
        )


def _is_small_form(request: Request) -> bool:
    """Whether the body is a form that may be read to the end: what an upload's address takes may be far longer."""
    length = request.headers.get("content-length", "")
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return form and length.isdigit() and int(length) <= settings_of(request).body_bytes


def require_seen(viewer: Viewer, team: str, what: str) -> None:
    """Raise a 404 problem unless the viewer may see the team."""
    if not viewer.may_see(team):
        raise Problem(404, f"{what} must be one that you may see, but there is none of that name; check its name")


def require_writer(viewer: Viewer, team: str) -> None:
    """Raise a problem unless the viewer may write for the team: 401 for nobody in particular, else 404 or 403."""
    _require(viewer, team, viewer.may_write(team), "submitter")


def require_admin(viewer: Viewer, team: str) -> None:
    """Raise a problem unless the viewer administers the team."""
    _require(viewer, team, viewer.may_administer(team), "admin")


def require_operator(viewer: Viewer) -> None:
    """Raise a problem unless the viewer runs this server."""
    _require_known(viewer)
    if not viewer.is_operator:
        raise Problem(403, "teams and their budgets are the operator's, but you are none; ask who runs this server")


def _require(viewer: Viewer, team: str, may: bool, role: Role) -> None:
    _require_known(viewer)
    require_seen(viewer, team, "a team")
    if not may:
        raise Problem(
            403, f"this needs the role {role} in team {team}, but yours is {viewer.role_in(team)}; ask an admin"
        )


def _require_known(viewer: Viewer) -> None:
    if viewer.how == "anonymous":
        raise Problem(
            401,
            "a write needs a bearer token or a login, but came without; create one with `duchenne tokens create`",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _checked(checker: TokenChecker, text: str) -> Token:
    try:
        return checker.check(text)
    except BadToken as error:
        raise Problem(401, str(error), headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}) from error


def _of_session(request: Request) -> Viewer:
    session = request.session
    store = store_of(request)
    if (token := session.get("token")) is not None:
        try:
            found = from_token(live(store.find_token(str(token))))
        except BadToken:
            session.clear()
            return ANONYMOUS
        return Viewer(found.name, "session", found.memberships, found.everywhere)
    if (who := session.get("who")) is not None:
        return Viewer(str(who), "session", _memberships(store.roles_of(str(who)).items()))
    return ANONYMOUS


def _memberships(roles: Iterable[tuple[str, Role]]) -> tuple[Membership, ...]:
    return tuple(Membership(team, role) for team, role in sorted(roles))
