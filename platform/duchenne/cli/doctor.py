"""`duchenne doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from duchenne.cli.cluster import ClusterFile, ClusterName
from duchenne.cli.mistakes import DONE, FAILED
from duchenne.cli.options import HOME, Home, Json, print_json, resolve


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(doctor)


def doctor(
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
    data: Annotated[
        str | None, typer.Option("--data", help="s3://BUCKET/PREFIX that sweeps shall read from this machine.")
    ] = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Say what this machine and its clusters have, and how to mend what is missing. Exit 0 if nothing needed is."""
    from duchenne.doctor import examine

    found = []
    for finding in examine(resolve(home), cluster_file, cluster, data):
        found.append(finding)
        if not as_json:
            typer.echo(finding.line)
            sys.stdout.flush()
    if as_json:
        print_json([asdict(finding) for finding in found])
    raise typer.Exit(FAILED if any(finding.state == "missing" for finding in found) else DONE)
