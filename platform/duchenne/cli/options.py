"""Arguments that several verbs share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from duchenne.paths import DEFAULT_HOME, HOME_VARIABLE, sweep_file

Home = Annotated[
    Path,
    typer.Option("--home", envvar=HOME_VARIABLE, help="Folder of records, datasets, checkpoints and predictions."),
]
HOME = Path(DEFAULT_HOME)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
SweepFile = Annotated[
    Path,
    typer.Argument(
        metavar="S.yaml",
        parser=sweep_file,
        help="The sweep file, or the name of one that comes along: quickstart, toy, thesis/table_2_1.",
    ),
]
EpochSeconds = Annotated[
    float | None,
    typer.Option(
        "--epoch-seconds",
        min=1e-6,
        help="Seconds of an epoch of the file's configuration on an inner fold; others are scaled by k, M, T, hidden "
        "size, rows. Default: learned from the jobs of this home.",
    ),
]
SweepId = Annotated[str, typer.Argument(metavar="ID", help="The sweep's id, or the beginning of it.")]


def resolve(home: Path) -> Path:
    """The home as an absolute path.

    Raises:
        typer.BadParameter: an address of object storage, of which a path would make a folder of that odd name.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(home)):
        raise typer.BadParameter(
            f"a home must be a folder, but got {home}: records and checkpoints need a file system; name a folder, on a "
            "volume where machines share it (pvc://CLAIM as a cluster's `storage`); datasets may stay at s3://"
        )
    return home.expanduser().absolute()


def print_json(document: Any) -> None:
    """One JSON document on stdout; NaN has no place in it."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False, default=str))
