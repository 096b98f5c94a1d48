"""`duchenne`: the verbs, and how a mistake ends."""

from __future__ import annotations

import gc
import os
import sys
import traceback

import typer

from duchenne.cli import cluster, data, doctor, files, grafana, look, predict, run, serve, simulate
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
cluster.register(app)
doctor.register(app)
grafana.register(app)
serve.register(app)
simulate.register(app)
app.add_typer(data.app, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("duchenne"))
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Options before the verb; `call` reads `--debug` itself."""


def main() -> None:
    """Entry point: exit code 0 done, 1 the job failed, 2 the input is wrong, 3 stopped by the budget."""
    # The verbs' imports are most of what a light one takes. What they make stays: it is not looked through every 700
    # objects; and pydantic need not read the metadata of every installed package for plugins that there are none of.
    gc.set_threshold(100_000, 50, 50)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command line and return its exit code; a user's mistake is one line, never a traceback."""
    command = typer.main.get_command(app)
    try:
        # Not `app(...)`, which makes 130 of Ctrl-C and 1 of a closed pipe, whatever its mode.
        with command.make_context("duchenne", arguments) as context:
            code = command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    except typer.TyperException as error:
        typer.echo(f"error: {str(error).rstrip('.')}; see `duchenne --help`", err=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        return 1
    except BrokenPipeError:  # `duchenne ls | head`: what is still to be written goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        message, code = explain(error)
        typer.echo(message, err=True)
        return code
    return code if isinstance(code, int) else 0
