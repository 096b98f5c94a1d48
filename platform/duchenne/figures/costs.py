"""What the sweep spent: worker time by phase, every unit against its limit, and what was left of the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duchenne.figures.source import FloatArray, NoData, SweepData
from duchenne.figures.style import (
    BLUE,
    GREEN,
    MUTED,
    VERMILION,
    capitalised,
    label_ends,
    new_figure,
    percent,
    plural,
    styled,
)
from duchenne.records import Amounts, Lease

PLOT_HEIGHT = 3.1
OFF_SCALE = 20.0
"""A limit of more than so many times what was spent would flatten the curve: it is written, not drawn."""

POINTS = 400
PHASES = ("search", "evaluation", "other")
UNITS = {"usd": ("USD", 1.0), "gpu_seconds": ("GPU-hours", 3600.0), "wall_seconds": ("wall time", 1.0)}
"""Unit of the ledger -> its name, and how many of the ledger's make one."""


@dataclass(frozen=True)
class Stretch:
    """An amount that was spent evenly from `start` to `end`."""

    start: datetime
    end: datetime
    amount: float


def cumulative(stretches: Sequence[Stretch], origin: datetime, seconds: FloatArray) -> FloatArray:
    """How much was spent by each of `seconds` after `origin`."""
    total = np.zeros_like(seconds)
    for stretch in stretches:
        start = (stretch.start - origin).total_seconds()
        length = (stretch.end - stretch.start).total_seconds()
        # What took no time is spent at once.
        share = np.clip((seconds - start) / length, 0.0, 1.0) if length > 0 else (seconds >= start).astype(np.float64)
        total += stretch.amount * share
    return total


@styled
def spend(data: SweepData) -> Figure:
    """Worker-seconds of each phase, and each unit that the sweep's leases count, cumulated over time.

    An attempt's seconds are spread evenly over the time from its start to its end, a lease's amount over the time from
    its opening to its settlement. What still runs is not counted.

    Raises:
        NoData: nothing that was spent is on record.
    """
    phases = {key.id: key.key.phase for key in data.jobs}
    workers = {
        phase: [
            Stretch(attempt.started_at, attempt.ended_at, attempt.seconds)
            for attempt in data.attempts
            if attempt.ended_at is not None and attempt.seconds and phases[attempt.fold_job] == phase
        ]
        for phase in ("search", "evaluation")
    }
    units = {unit: found for unit in UNITS if (found := _leased(data, unit))}
    every = [stretch for group in (*workers.values(), *units.values()) for stretch in group]
    if not every:
        raise NoData("no attempt and no lease of the sweep has ended, so nothing spent is on record")
    origin, end = min(stretch.start for stretch in every), max(stretch.end for stretch in every)
    span = max((end - origin).total_seconds(), 1e-3)
    seconds = np.linspace(0.0, span, POINTS)
    figure = new_figure(data, _title(workers, units, data.record.budget), _subtitle(data), PLOT_HEIGHT)
    panels = figure.subplots(1, 1 + len(units), squeeze=False)[0]
    name, scale = _time_unit(span)
    _workers(panels[0], workers, origin, seconds, scale)
    for axes, (unit, stretches) in zip(panels[1:], units.items(), strict=True):
        _unit(axes, unit, cumulative(stretches, origin, seconds), seconds / scale, getattr(data.record.budget, unit))
    for axes in panels:
        axes.set_xlabel(f"{name} since the start")
        axes.set_xlim(0, span / scale)
    return figure


@styled
def burn_down(data: SweepData) -> Figure:
    """What was left of each limit over time, the part that each phase took below it, and when the search was cut.

    Raises:
        NoData: no lease has ended, or nothing is limited.
    """
    limits = {unit: limit for unit in UNITS if (limit := getattr(data.record.budget, unit)) is not None}
    settled = [lease for lease in data.leases if lease.settled_at is not None]
    if not limits or not settled:
        raise NoData("a burn-down needs a limit and a settled lease, and the sweep has none")
    origin = min(lease.opened_at for lease in settled)
    span = max(max(((lease.settled_at or origin) - origin).total_seconds() for lease in settled), 1e-3)
    seconds = np.linspace(0.0, span, POINTS)
    name, scale = _time_unit(span)
    left = {unit: 1.0 - sum(getattr(lease.spent, unit) or 0.0 for lease in settled) / limits[unit] for unit in limits}
    title = ", ".join(f"{percent(max(0.0, share))} of the {UNITS[unit][0]} limit left" for unit, share in left.items())
    subtitle = "Line: the limit less what was spent. Bands: what each phase took. Dotted: spending it evenly."
    figure = new_figure(data, capitalised(title), subtitle, PLOT_HEIGHT)
    cut = data.search_cut
    for axes, (unit, limit) in zip(figure.subplots(1, len(limits), squeeze=False)[0], limits.items(), strict=True):
        phases = {
            phase: cumulative(_stretches(settled, unit, phase), origin, seconds) / UNITS[unit][1] for phase in PHASES
        }
        _burning(axes, unit, limit / UNITS[unit][1], phases, seconds / scale)
        if cut is not None:
            moment = (cut - origin).total_seconds() / scale
            axes.axvline(moment, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), gid="search-cut")
            side = "left" if moment < span / scale / 2 else "right"
            place = axes.get_xaxis_transform()
            axes.text(moment, 0.03, " search cut ", transform=place, ha=side, va="bottom", fontsize=8, color=MUTED)
        axes.set_xlabel(f"{name} since the start")
        axes.set_xlim(0, span / scale)
    return figure


def _stretches(leases: Sequence[Lease], unit: str, phase: str) -> list[Stretch]:
    """What the leases of one phase spent of a unit; those of no phase are the driver's and the nodes'."""
    return [
        Stretch(lease.opened_at, lease.settled_at, amount)
        for lease in leases
        if lease.settled_at is not None
        and lease.resource.get("phase", "other") == phase
        and (amount := getattr(lease.spent, unit))
    ]


def _burning(axes: Axes, unit: str, limit: float, phases: dict[str, FloatArray], times: FloatArray) -> None:
    axes.set_title(f"{'Wall time (s)' if unit == 'wall_seconds' else UNITS[unit][0]} left")
    top, labels = np.full_like(times, limit), []
    for (phase, spent), colour in zip(phases.items(), (BLUE, GREEN, MUTED), strict=True):
        if spent[-1] <= 0:
            continue
        below = top - spent
        axes.fill_between(times, below, top, color=colour, alpha=0.25, linewidth=0)
        labels.append(((float(top[-1]) + float(below[-1])) / 2, f"{phase} {spent[-1]:.3g}", colour))
        top = below
    axes.plot(times, top, color=VERMILION, gid=f"{unit}-left")
    labels.append((float(top[-1]), f"left {max(0.0, float(top[-1])):.3g}", VERMILION))
    axes.plot([0, times[-1]], [limit, 0.0], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_ylim(0, 1.04 * limit)
    label_ends(axes, labels, PLOT_HEIGHT - 0.8)


def _leased(data: SweepData, unit: str) -> list[Stretch]:
    """What settled leases spent of a unit; empty where it is neither limited nor ever above 0."""
    found = [
        Stretch(lease.opened_at, lease.settled_at, getattr(lease.spent, unit))
        for lease in data.leases
        if lease.settled_at is not None and getattr(lease.spent, unit)
    ]
    limited = getattr(data.record.budget, unit) is not None
    settled = [lease for lease in data.leases if lease.settled_at is not None]
    if limited and not found and settled:
        return [Stretch(settled[0].opened_at, settled[-1].settled_at or settled[-1].opened_at, 0.0)]
    return found


def _title(workers: dict[str, list[Stretch]], units: dict[str, list[Stretch]], budget: Amounts) -> str:
    seconds = sum(stretch.amount for group in workers.values() for stretch in group)
    title = f"{seconds:,.0f} worker-seconds used"
    shares = [
        f"{percent(sum(stretch.amount for stretch in stretches) / limit)} of the {UNITS[unit][0]} limit"
        for unit, stretches in units.items()
        if (limit := getattr(budget, unit))
    ]
    return f"{title}: {', '.join(shares)}" if shares else title


def _subtitle(data: SweepData) -> str:
    attempts = sum(attempt.ended_at is not None for attempt in data.attempts)
    lost = sum(attempt.outcome in ("failed", "lost", "interrupted") for attempt in data.attempts)
    still = sum(lease.settled_at is None for lease in data.leases)
    parts = [f"{plural(attempts, 'attempt')} of {plural(len(data.jobs), 'fold job')}"]
    parts[0] += f", of which {lost} failed or broke off." if lost else "."
    parts.append("Each is spread evenly from its start to its end.")
    if still:
        parts.append(f"{plural(still, 'lease is', 'leases are')} still open and not counted.")
    return " ".join(parts)


def _time_unit(span: float) -> tuple[str, float]:
    if span < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if span < 3 * 3600 else ("hours", 3600.0)


def _workers(
    axes: Axes, workers: dict[str, list[Stretch]], origin: datetime, seconds: FloatArray, scale: float
) -> None:
    """Stacked areas: the search below, the evaluation above it."""
    axes.set_title("Worker-seconds by phase")
    base = np.zeros_like(seconds)
    labels = []
    for (phase, stretches), colour in zip(workers.items(), (BLUE, GREEN), strict=True):
        if not stretches:
            continue
        top = base + cumulative(stretches, origin, seconds)
        axes.fill_between(seconds / scale, base, top, color=colour, alpha=0.25, linewidth=0)
        axes.plot(seconds / scale, top, color=colour, gid=phase)
        labels.append(((float(base[-1]) + float(top[-1])) / 2, f"{phase}\n{top[-1] - base[-1]:,.0f} s", colour))
        base = top
    axes.set_ylim(0, 1.06 * max(float(base[-1]), 1e-9))
    label_ends(axes, labels, (PLOT_HEIGHT - 0.8) / 2)


def _unit(axes: Axes, unit: str, spent: FloatArray, times: FloatArray, limit: float | None) -> None:
    name, scale = UNITS[unit]
    spent, bound = spent / scale, None if limit is None else limit / scale
    axes.set_title("Wall time (s)" if unit == "wall_seconds" else name)
    axes.plot(times, spent, color=BLUE, gid=unit)
    top = max(float(spent[-1]), 1e-12)
    labels = [(float(spent[-1]), f"spent\n{spent[-1]:.3g}", BLUE)]
    if bound is not None and bound <= OFF_SCALE * top:
        axes.axhline(bound, color=VERMILION, linewidth=1.4, linestyle=(0, (4, 3)), gid=f"{unit}-limit")
        labels.append((bound, f"limit\n{bound:g}", VERMILION))
        top = max(top, bound)
    elif bound is not None:
        axes.text(
            0.03, 0.97, f"limit {bound:g}, far above", transform=axes.transAxes, va="top", fontsize=8, color=MUTED
        )
    axes.set_ylim(0, 1.08 * top)
    label_ends(axes, labels, PLOT_HEIGHT - 0.8)
