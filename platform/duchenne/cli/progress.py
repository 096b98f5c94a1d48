"""What a person watches while something runs: a live panel on a terminal, a line now and then in a file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # the driver imports torch and Ray, which a bar over a dataset can do without
    from duchenne.driver.progress import Monitor
    from duchenne.driver.progress import Progress as Look

LIVE_SECONDS = 0.5
FILE_SECONDS = 10.0


class ProgressView:
    """`duchenne.driver.Observer` for the command line. Everything but the sweep's id goes to stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._sweep_id = ""
        self._last_line = ""

    def checking_data(self, done: int, total: int) -> None:
        """A dataset of more than 100 MB shows how far its check is."""
        if total > 100_000_000:
            self._console.print(f"checking data: {done / total:.0%} of {total / 1e6:.0f} MB")

    def started(self, sweep_id: str) -> None:
        """The id is the first line of stdout."""
        self._sweep_id = sweep_id
        typer.echo(f"sweep: {sweep_id}")
        sys.stdout.flush()

    def watch(self, monitor: Monitor) -> None:
        """Begin to draw."""
        draw = self._draw_live if self._console.is_terminal else self._draw_lines
        self._thread = threading.Thread(target=draw, args=(monitor,), name="progress", daemon=True)
        self._thread.start()

    def ended(self) -> None:
        """Draw once more and stop."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def _draw_live(self, monitor: Monitor) -> None:
        with Live(console=self._console, refresh_per_second=4, transient=False) as live:
            while True:
                look = self._look(monitor)
                if look is not None:
                    live.update(panel(self._sweep_id, look))
                if self._over.wait(LIVE_SECONDS):
                    return

    def _draw_lines(self, monitor: Monitor) -> None:
        printed_at = -FILE_SECONDS
        stage = ""
        while True:
            look = self._look(monitor)
            due = time.monotonic() - printed_at >= FILE_SECONDS or self._over.is_set()
            if look is not None and (due or look.stage != stage):
                printed_at, stage = time.monotonic(), look.stage
                self._console.print(line(look), highlight=False, soft_wrap=True)
            if self._over.wait(LIVE_SECONDS):
                return

    def _look(self, monitor: Monitor) -> Look | None:
        """A look that fails costs one frame, not the sweep; the same reason is told once."""
        try:
            return monitor.look()
        except Exception as error:
            message = f"no progress to show: {type(error).__name__}: {error}".splitlines()[0]
            if message != self._last_line and not self._over.is_set():
                self._last_line = message
                self._console.print(message)
            return None


def line(look: Look) -> str:
    """One line of plain text."""
    parts = [
        f"[{_clock(look.spent_seconds)}] {look.stage}",
        f"trials {look.trials_done}/{look.trials_total}",
        f"folds {look.jobs_done}/{look.jobs_total}",
        f"rung {look.rung if look.rung is not None else '-'}",
        f"best {_best(look)}",
        f"cost {_cost(look)}",
        f"left {_clock(look.seconds_left)}",
    ]
    return ", ".join(parts).replace("[", r"\[")


def panel(sweep_id: str, look: Look) -> RenderableType:
    """The live view."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, done, total in (
        ("trials", look.trials_done, look.trials_total),
        ("folds", look.jobs_done, look.jobs_total),
    ):
        grid.add_row(name, ProgressBar(total=max(total, 1), completed=done, width=40), f"{done}/{total}")
    grid.add_row("rung", str(look.rung) if look.rung is not None else "-")
    grid.add_row("best so far", _best(look))
    grid.add_row("cost so far", _cost(look))
    grid.add_row("time", f"{_clock(look.spent_seconds)} spent, about {_clock(look.seconds_left)} left")
    grid.add_row("workers", f"{look.warm} of {look.workers} warm")
    running = [Text(f"  {text}", style="dim") for text in look.running[:8]]
    if len(look.running) > 8:
        running.append(Text(f"  and {len(look.running) - 8} more", style="dim"))
    return Group(Text(f"{sweep_id}: {look.stage}", style="bold cyan"), grid, *running)


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for the time of the block; call the value with (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"{{task.completed:.0f}}/{{task.total:.0f}} {unit}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=max(total, 1))

        yield advance


def _best(look: Look) -> str:
    if look.best_value is None:
        return "-"
    return f"{look.metric} {look.best_value:.4f} (trial {look.best_trial})"


def _cost(look: Look) -> str:
    parts = [] if look.spent_usd is None else [f"${look.spent_usd:.4f}"]
    if look.spent_gpu_hours:
        parts.append(f"{look.spent_gpu_hours:.3f} GPU-h")
    return " ".join([*parts, f"{look.busy_seconds:.0f} worker-s"])


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = int(seconds)
    return (
        f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02d}"
    )
