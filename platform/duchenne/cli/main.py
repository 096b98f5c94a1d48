"""`duchenne`: the verbs, and how a mistake ends."""

from __future__ import annotations

import sys
import traceback

import typer

from duchenne.cli import data, files, look, predict, run
from duchenne.cli.mistakes import explain

app = typer.Typer(
    name="duchenne",
    help="One sweep YAML to one honest leaderboard entry, within its budget.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
files.register(app)
run.register(app)
look.register(app)
predict.register(app)
app.add_typer(data.app, name="data")


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("duchenne"))
        raise typer.Exit


def main() -> None:
    """Entry point: exit code 0 done, 1 the job failed, 2 the input is wrong, 3 stopped by the budget."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command line and return its exit code; a user's mistake is one line, never a traceback."""
    try:
        code = app(arguments, standalone_mode=False)
    except typer.Exit as end:
        return int(end.exit_code)
    except typer.TyperException as error:
        typer.echo(f"error: {str(error).rstrip('.')}; see `duchenne --help`", err=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        return 1
    except BrokenPipeError:
        return 0
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        message, code = explain(error)
        typer.echo(message, err=True)
        return code
    return code if isinstance(code, int) else 0
