"""The picture of a simulated sweep: how busy its workers were, and what was left of its budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from duchenne.figures.style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    VERMILION,
    colour_key,
    label_ends,
    new_figure,
    percent,
    save,
    styled,
)
from duchenne.records import Lease
from duchenne.simulation.model import Cluster
from duchenne.simulation.report import Report
from duchenne.simulation.sweep import Played
from duchenne.simulation.truth import Held

NAME = "simulation"
PLOT_HEIGHT = 3.2
BINS = 240
KINDS = (("search", BLUE), ("evaluation", GREEN), ("wasted", VERMILION))
UNITS = (("usd", "USD", 1.0), ("gpu_seconds", "GPU-hours", 3600.0), ("wall_seconds", "Wall time (s)", 1.0))

FloatArray = NDArray[np.float64]


def save_figure(played: Played, cluster: Cluster, summed: Report, out: Path) -> list[Path]:
    """Write `OUT/simulation.png` and `.svg`.

    Raises:
        OSError: the folder can't be written.
    """
    return save(draw(played, cluster, summed), out, NAME)


@styled
def draw(played: Played, cluster: Cluster, summed: Report) -> Figure:
    """Workers that held a fold job over time, by what they did, and each limit less what was spent."""
    limits = [(unit, name, scale) for unit, name, scale in UNITS if _limit(played, unit) is not None]
    idle = "" if summed.idle_share is None else f", {percent(summed.idle_share)} of the workers' time idle"
    title = (
        f"{summed.makespan_seconds / 3600:.2f} h on {cluster.nodes.count} nodes{idle}: held up by {_held_by(summed)}"
    )
    subtitle = "Left: workers with a fold job, of those that there are (dotted). Right: what was left of the budget."
    footer = f"simulated   ·   {summed.trials} trials, {summed.fold_jobs} fold jobs   ·   ended {summed.state}"
    figure = new_figure(footer, title, subtitle, PLOT_HEIGHT)
    panels = figure.subplots(1, 1 + len(limits), squeeze=False)[0]
    scale, unit_name = (60.0, "minutes") if played.seconds < 3 * 3600 else (3600.0, "hours")
    _workers(panels[0], played, cluster, scale)
    leases = [lease for lease in played.records.ledger.leases(played.sweep) if lease.settled_at is not None]
    for axes, (unit, name, size) in zip(panels[1:], limits, strict=True):
        _burn_down(axes, leases, unit, name, (_limit(played, unit) or 0.0) / size, size, played, scale)
    for axes in panels:
        axes.set_xlabel(f"{unit_name} since the start")
        axes.set_xlim(0, played.seconds / scale)
    return figure


def _held_by(summed: Report) -> str:
    return {"nodes": "its nodes"}.get(summed.bottleneck, f"the {summed.bottleneck}")


def _limit(played: Played, unit: str) -> float | None:
    limit: float | None = getattr(played.records.get_sweep(played.sweep).budget, unit)
    return limit


def _workers(axes: Axes, played: Played, cluster: Cluster, scale: float) -> None:
    edges = np.linspace(0.0, max(played.seconds, 1e-3), BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2 / scale
    base = np.zeros(BINS)
    for kind, colour in KINDS:
        segments = [held for held in played.truth.held if _kind(held) == kind]
        top = base + played.truth.workers * _mean_held(segments, edges)
        axes.fill_between(middles, base, top, color=colour, alpha=0.45, linewidth=0, step="mid", gid=kind)
        base = top
    axes.axhline(cluster.nodes.workers, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)))
    axes.set_ylim(0, 1.08 * cluster.nodes.workers)
    colour_key(axes, KINDS)


def _kind(held: Held) -> str:
    return "wasted" if held.fate in ("error", "lost") else held.phase


def _mean_held(segments: Sequence[Held], edges: FloatArray) -> FloatArray:
    """How many of the segments were held, on average over each bin."""
    starts, ends = np.sort([held.start for held in segments]), np.sort([held.end for held in segments])

    def until(moments: FloatArray) -> FloatArray:
        """Seconds from each moment to the edges before which it lies, summed: the integral of a count of moments."""
        sums = np.concatenate([[0.0], np.cumsum(moments)])
        count = np.searchsorted(moments, edges)
        return np.asarray(count * edges - sums[count])

    return np.asarray(np.diff(until(starts) - until(ends)) / np.diff(edges))


def _burn_down(
    axes: Axes, leases: Sequence[Lease], unit: str, name: str, limit: float, size: float, played: Played, scale: float
) -> None:
    """The limit less what leases that were settled by then spent; open leases count when they settle."""
    begin = played.records.get_sweep(played.sweep).created_at
    settled = sorted(
        ((lease.settled_at - begin).total_seconds(), getattr(lease.spent, unit) or 0.0)
        for lease in leases
        if lease.settled_at is not None
    )
    moments = np.array([0.0, *(min(max(moment, 0.0), played.seconds) for moment, _ in settled), played.seconds])
    left = limit - np.concatenate([[0.0], np.cumsum([amount for _, amount in settled]), [0.0]]) / size
    left[-1] = left[-2]
    axes.set_title(f"{name} left")
    axes.step(moments / scale, left, where="post", color=ORANGE, gid=f"{unit}-left")
    axes.plot([0, played.seconds / scale], [limit, 0.0], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_ylim(0, 1.05 * limit)
    label_ends(axes, [(max(0.0, float(left[-1])), f"left {max(0.0, float(left[-1])):.3g}", ORANGE)], PLOT_HEIGHT - 0.8)
