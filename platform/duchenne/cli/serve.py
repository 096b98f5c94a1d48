"""Verbs of the server: starting it, and who may use it."""

from __future__ import annotations

import getpass
import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from duchenne.cli.mistakes import WRONG_INPUT
from duchenne.cli.options import HOME, Home, Json, print_json, resolve

tokens = typer.Typer(help="API tokens: create, list, revoke.", no_args_is_help=True, rich_markup_mode=None)
teams = typer.Typer(help="Teams: budgets, members, published boards.", no_args_is_help=True, rich_markup_mode=None)

TeamName = Annotated[str, typer.Argument(metavar="TEAM", help="The team's name.")]
Who = Annotated[str, typer.Argument(metavar="ADDRESS", help="The member's e-mail address.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(serve)
    app.add_typer(tokens, name="tokens")
    app.add_typer(teams, name="teams")


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 8080,
    trusted_proxies: Annotated[
        str | None,
        typer.Option(
            "--trusted-proxies",
            envvar="DUCHENNE_SERVER_TRUSTED_PROXIES",
            help="Addresses and networks, with commas, whose X-Forwarded-For is believed. Default: this machine alone.",
        ),
    ] = None,
    home: Home = HOME,
) -> None:
    """Serve the leaderboards, the sweeps and the REST API. Settings: DUCHENNE_SERVER_*, see docs/server.md."""
    _require_server("uvicorn")
    import uvicorn
    from pydantic import ValidationError

    from duchenne.monitoring.endpoint import metrics_address
    from duchenne.records import open_home
    from duchenne.server.app import create_app
    from duchenne.server.settings import PREFIX, Settings

    folder = resolve(home)
    metrics_address()
    try:
        given = {} if trusted_proxies is None else {f"{PREFIX}TRUSTED_PROXIES": trusted_proxies}
        settings = Settings.from_environment(folder, os.environ | given)
    except ValidationError as error:
        for fault in error.errors():
            typer.echo(f"{PREFIX}{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}; correct it", err=True)
        raise typer.Exit(WRONG_INPUT) from None
    with open_home(folder) as store:
        typer.echo(f"records: {store.database.where}")
        typer.echo(f"serving: http://{host}:{port}")
        uvicorn.run(
            create_app(store, settings),
            host=host,
            port=port,
            log_level="warning",
            server_header=False,
            # A rate is counted by the client's address, which whoever is believed here may state.
            forwarded_allow_ips=list(settings.trusted_proxies),
        )


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the token is for.")],
    team: Annotated[str | None, typer.Option("--team", help="The team that it opens.")] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="It opens every team: an operator's token.")] = False,
    role: Annotated[str, typer.Option("--role", help="viewer, submitter or admin.")] = "submitter",
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Days until it runs out.")] = 90,
    home: Home = HOME,
) -> None:
    """Create a token and print it, once: the records keep a hash of it."""
    _require_server("argon2")
    from duchenne.records import open_home
    from duchenne.records.teams import require_role
    from duchenne.server.tokens import make_token

    if (team is None) != everywhere:
        raise typer.BadParameter("a token is for one --team, or --everywhere; give one of them")
    require_role(role)
    made = make_token()
    with open_home(resolve(home)) as store:
        if team is not None:
            store.ensure_team(team, actor=getpass.getuser())
        store.add_token(
            made.id,
            made.secret_hash,
            name=name,
            team=team,
            role=role,  # type: ignore[arg-type]
            created_by=getpass.getuser(),
            expires_at=datetime.now(UTC) + timedelta(days=days),
        )
    typer.echo(made.text)


@tokens.command("list")
def list_tokens(
    team: Annotated[str | None, typer.Option("--team", help="Only those of one team.")] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """List the tokens, the newest first, without what opens anything."""
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        found = store.tokens(team)
    if as_json:
        print_json([asdict(token) for token in found])
        return
    now = datetime.now(UTC)
    for token in found:
        state = "revoked" if token.revoked_at else "expired" if token.expires_at and token.expires_at <= now else "live"
        ends = f"{token.expires_at:%Y-%m-%d}" if token.expires_at else "never"
        typer.echo(f"{token.id}  {token.team or '(every team)'}  {token.role}  {state}  ends {ends}  {token.name}")


@tokens.command("revoke")
def revoke_token(
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `tokens list` prints it.")],
    home: Home = HOME,
) -> None:
    """Make a token worthless from now on."""
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        store.revoke_token(token, actor=getpass.getuser())
    typer.echo(f"revoked: {token}")


@teams.command("list")
def list_teams(home: Home = HOME, as_json: Json = False) -> None:
    """List the teams with their budgets and this month's spend."""
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        found = [(team, store.ledger.month(team.name)) for team in store.teams()]
    if as_json:
        print_json(
            [asdict(team) | {side: amounts.as_json() for side, amounts in month.items()} for team, month in found]
        )
        return
    for team, month in found:
        spent, hours = month["spent"].usd, month["spent"].as_json()["gpu_hours"]
        typer.echo(
            f"{team.name}  USD {_shown(spent)} of {_shown(team.usd_per_month)}  "
            f"GPU-hours {_shown(hours)} of {_shown(team.gpu_hours_per_month)} this month"
        )


@teams.command("create")
def create_team(team: TeamName, home: Home = HOME) -> None:
    """Make a team; one that is there stays as it is."""
    _write(home, lambda store, actor: store.ensure_team(team, actor=actor))
    typer.echo(f"team: {team}")


@teams.command("budget")
def set_budget(
    team: TeamName,
    usd: Annotated[float | None, typer.Option("--usd", help="US dollars a calendar month; none without it.")] = None,
    gpu_hours: Annotated[float | None, typer.Option("--gpu-hours", help="GPU-hours a month; none without it.")] = None,
    home: Home = HOME,
) -> None:
    """Set what a team may spend in a calendar month (UTC), over all its sweeps."""
    _write(
        home,
        lambda store, actor: store.set_team_budget(team, usd_per_month=usd, gpu_hours_per_month=gpu_hours, actor=actor),
    )
    typer.echo(f"{team}: USD {_shown(usd)}, GPU-hours {_shown(gpu_hours)} a month")


@teams.command("member")
def set_member(
    team: TeamName,
    who: Who,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="viewer, submitter or admin.")] = "viewer",
    home: Home = HOME,
) -> None:
    """Give a person who logs in a role in a team."""
    _write(home, lambda store, actor: store.set_member(team, who, role, actor=actor))
    typer.echo(f"{team}: {who} is {role}")


@teams.command("remove")
def remove_member(team: TeamName, who: Who, home: Home = HOME) -> None:
    """Take a person out of a team."""
    if not _write(home, lambda store, actor: store.remove_member(team, who, actor=actor)):
        raise typer.BadParameter(f"{who} is no member of {team}; nothing was changed")
    typer.echo(f"{team}: {who} is removed")


@teams.command("publish")
def publish(
    team: TeamName,
    board: Annotated[str, typer.Argument(metavar="BOARD", help="The board's name.")],
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Take the team's entries off the public board.")
    ] = False,
    home: Home = HOME,
) -> None:
    """Put all of a team's entries of a board on the public board of its name."""
    _write(home, lambda store, actor: store.publish_board(team, board, public=not take_back, actor=actor))
    typer.echo(f"{team}.{board}: " + ("its own again" if take_back else f"public as {board}"))


def _write(home: Path, change: Any) -> Any:
    from duchenne.records import open_home

    with open_home(resolve(home)) as store:
        return change(store, getpass.getuser())


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _require_server(module: str) -> None:
    """Say in one line what to install where the extra is not."""
    from importlib.util import find_spec

    if find_spec(module) is None or find_spec("fastapi") is None:
        typer.echo(
            "error: this verb needs the server's packages; install them with: pip install 'duchenne[server]'", err=True
        )
        raise typer.Exit(WRONG_INPUT)
