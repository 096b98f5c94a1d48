"""Experiments whose methods run on the same seeds: differences from a baseline with their interval, and the report.

S seeds.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy import stats

from duchenne.driver.prepare import code_revision

RESULTS = Path(__file__).parent / "results"
CONFIDENCE = 0.95

Values = Mapping[str, Sequence[float]]
"""Method -> one value a seed, in the order of the seeds."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its two-sided Student-t interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """
        Raises:
            ValueError: fewer than two values, which have no spread.
        """
        if len(values) < 2:
            raise ValueError(f"an interval needs at least two seeds, but got {len(values)}; add seeds")
        mean = statistics.fmean(values)
        error = statistics.stdev(values) / len(values) ** 0.5
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
        return cls(mean, mean - half, mean + half)

    def verdict(self) -> str:
        """On which side of zero it lies."""
        if self.low > 0:
            return "above zero"
        return "below zero" if self.high < 0 else "holds zero"


def paired(values: Values, method: str, baseline: str) -> Interval:
    """How much a method is above the baseline, seed by seed."""
    return Interval.of([one - other for one, other in zip(values[method], values[baseline], strict=True)])


def table(title: str, values: Values, baseline: str) -> str:
    """One line a method: its mean over the seeds, and its paired difference from the baseline."""
    width = max(len(title), *map(len, values)) + 2
    lines = [f"{title:{width}s}{'mean':>8s}{'difference':>12s}   95 % interval"]
    for method, found in values.items():
        line = f"{method:{width}s}{statistics.fmean(found):8.3f}"
        if method != baseline:
            gain = paired(values, method, baseline)
            line += f"{gain.mean:+12.3f}   [{gain.low:+.3f}, {gain.high:+.3f}] {gain.verdict()}"
        lines.append(line)
    return "\n".join(lines)


def header(title: str, setting: str, seeds: int) -> str:
    """What was run, on what, when, by which code."""
    return (
        f"{title}. {datetime.date.today().isoformat()}\n"
        f"{_processor()}, {torch.get_num_threads()} threads; torch {torch.__version__}; commit {code_revision()}; "
        f"load {os.getloadavg()[0]:.2f}\n"
        f"{setting}\n"
        f"{seeds} seeds, methods paired by seed, Student-t intervals of {CONFIDENCE:.0%}"
    )


def write(name: str, report: str) -> Path:
    """Put a report under `benchmarks/results`, dated."""
    target = RESULTS / f"{name}_{datetime.date.today().isoformat()}.txt"
    target.parent.mkdir(exist_ok=True)
    target.write_text(report + "\n")
    return target


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
