"""Verbs about Grafana: put the dashboards there, or write them and the alert rules as files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

TOKEN_VARIABLE = "GRAFANA_TOKEN"  # noqa: S105 - the name of a variable

app = typer.Typer(no_args_is_help=True, help="Dashboards and alert rules.", rich_markup_mode=None)


def register(main: typer.Typer) -> None:
    """Add the verbs to the command line."""
    main.add_typer(app, name="grafana")


@app.command()
def push(
    url: Annotated[str, typer.Option("--url", help="Grafana's address, such as https://grafana.example.org.")],
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help=f"File with a service account's token; else {TOKEN_VARIABLE}.")
    ] = None,
    folder: Annotated[str, typer.Option("--folder", help="Title of the folder, where it is new.")] = "Duchenne",
) -> None:
    """Create or overwrite the dashboards in a Grafana."""
    from duchenne.monitoring.dashboards import dashboards
    from duchenne.monitoring.errors import MonitoringError
    from duchenne.monitoring.grafana import push as push_dashboards

    token = (
        os.environ.get(TOKEN_VARIABLE, "") if token_file is None else token_file.read_text(encoding="utf-8")
    ).strip()
    if not token:
        where = TOKEN_VARIABLE if token_file is None else str(token_file)
        raise MonitoringError(f"a token is needed, but {where} has none; put a service account's there")
    for name, address in push_dashboards(url, token, dashboards(), folder=folder).items():
        typer.echo(f"{name}: {address}")


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; the chart is helm/duchenne.")],
) -> None:
    """Write the dashboards (JSON) and the alert rules (YAML) below a folder."""
    from duchenne.monitoring.files import write_files

    for path in write_files(out):
        typer.echo(str(path))
