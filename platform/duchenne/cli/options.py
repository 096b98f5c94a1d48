"""Arguments that several verbs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from duchenne.paths import DEFAULT_HOME, HOME_VARIABLE

Home = Annotated[
    Path,
    typer.Option("--home", envvar=HOME_VARIABLE, help="Folder of records, datasets, checkpoints and predictions."),
]
HOME = Path(DEFAULT_HOME)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
SweepFile = Annotated[Path, typer.Argument(metavar="S.yaml", help="The sweep file.")]
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
    """The home as an absolute path."""
    return home.expanduser().absolute()


def print_json(document: Any) -> None:
    """One JSON document on stdout; NaN has no place in it."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False, default=str))
