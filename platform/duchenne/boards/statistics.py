"""The uncertainty of F1: a bootstrap over subjects, the same resamples for every entry, and what it can tell apart.

Frames of one subject are not independent, so subjects are what is drawn: within each test fold of N, N - 1 of them with
replacement (McCarthy and Snowden 1985; N draws would make the variance too small by (N - 1) / N).
Entries on the same data and folds see the same draws (paired), so what they share cancels out of their difference.
The trained models are held fixed: intervals say how the number would move with other test subjects, and not how it
would move with other training runs; seeds are averaged over.

Simulated with three folds of 9, 30 and 100 subjects, a 95% interval covers the truth in 92, 93 and 94% of the draws,
and four equal entries are told apart in 9, 9 and 5% of the boards, where 5% is asked: believe small sets a little less.

The number: F1 of a task with the frames of a fold pooled, mean over tasks, folds and seeds; an undefined F1 is 0.

Shapes: R resamples, N subjects of a fold, S seeds, T tasks, E entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from duchenne.boards.counts import EntryCounts, FoldCounts

FloatArray = NDArray[np.float64]

CHUNK = 4_000_000
"""Weights drawn at once (32 MB): bounds memory, whatever the number of subjects."""

_SAME = 1e-12
"""Below this, a difference of two F1 values is rounding."""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """F1 of one entry and its percentile interval.

    An interval is widened to its estimate where the bootstrap's bias (a rare task that a resample lost counts 0) would
    leave it outside. With fewer than two subjects in a fold nothing can be drawn: bounds are None.

    Attributes:
        mean: the number itself, on all subjects.
        ci_low, ci_high: bounds of the interval.
        samples: (R,) the number on each resample.
        tasks: names.
        task_mean, task_low, task_high: (T,) the same for each task; bounds NaN where unknown.
    """

    mean: float
    ci_low: float | None
    ci_high: float | None
    samples: FloatArray
    tasks: tuple[str, ...]
    task_mean: FloatArray
    task_low: FloatArray
    task_high: FloatArray


@dataclass(frozen=True)
class Difference:
    """F1 of one entry minus that of another, its interval, and the two-sided p of no difference (not adjusted)."""

    mean: float
    ci_low: float | None
    ci_high: float | None
    p_value: float | None


@dataclass(frozen=True)
class RankInterval:
    """The ranks that an entry may hold: 1 + those significantly better, to E - those significantly worse."""

    rank_low: int
    rank_high: int


def bootstrap_f1(
    counts: EntryCounts, *, resamples: int = 1000, seed: int = 0, stream: str = "", alpha: float = 0.05
) -> Bootstrap:
    """F1 and its 1 - alpha interval.

    Args:
        stream: names the draws; entries are paired if they share `stream`, `seed`, `resamples` and their subjects.

    Raises:
        ValueError: no resamples, or an alpha outside (0, 1).
    """
    if resamples < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"resamples >= 1 and 0 < alpha < 1 must hold, but got {resamples} and {alpha}; 1000 and 0.05 are usual"
        )
    folds = sorted(counts.folds, key=lambda fold: fold.fold)
    estimate = np.mean([_task_f1(fold, np.ones((1, len(fold.subjects))))[0] for fold in folds], axis=0)
    sampled = np.mean([_resampled(fold, resamples, seed, stream) for fold in folds], axis=0)
    mean, samples = float(estimate.mean()), sampled.mean(axis=1)
    low, high = _interval(samples[:, None], np.array([mean]), alpha)
    task_low, task_high = _interval(sampled, estimate, alpha)
    known = min(len(fold.subjects) for fold in folds) >= 2
    if not known:
        task_low, task_high = np.full_like(task_low, np.nan), np.full_like(task_high, np.nan)
    return Bootstrap(
        mean=mean,
        ci_low=float(low[0]) if known else None,
        ci_high=float(high[0]) if known else None,
        samples=samples,
        tasks=counts.tasks,
        task_mean=estimate,
        task_low=task_low,
        task_high=task_high,
    )


def paired_difference(a: Bootstrap, b: Bootstrap, *, alpha: float = 0.05) -> Difference:
    """F1 of `a` minus F1 of `b`, from resamples that they share.

    Raises:
        ValueError: their resamples differ in number, so they can't be paired.
    """
    _require_paired([a, b])
    mean, differences = a.mean - b.mean, a.samples - b.samples
    if a.ci_low is None or b.ci_low is None:
        return Difference(mean, None, None, None)
    low, high = _interval(differences[:, None], np.array([mean]), alpha)
    at_least = 1 + min(int((differences <= _SAME).sum()), int((differences >= -_SAME).sum()))
    return Difference(mean, float(low[0]), float(high[0]), min(1.0, 2 * at_least / (len(differences) + 1)))


def tie_groups(entries: Mapping[str, Bootstrap], *, alpha: float = 0.05) -> dict[str, RankInterval]:
    """The ranks that each entry may hold. Two entries that are not told apart are tied, and their ranks overlap.

    All pairs are compared at once: the critical value is the 1 - alpha quantile, over resamples, of the largest
    studentised deviation among all pairs (single-step max-t, Westfall and Young 1993). So no pair at all is told apart
    wrongly, with a probability of about 1 - alpha (it is a bootstrap: less with few subjects). Holm's correction of
    bootstrap p values would promise the same, but 1000 resamples can't give a p below 0.002, and with ten entries Holm
    asks for 0.001: it would tie everything.

    Raises:
        ValueError: their resamples differ in number, so they can't be paired.
    """
    names = list(entries)
    if not names:
        return {}
    _require_paired(list(entries.values()))
    means = np.array([entries[name].mean for name in names])
    better = _significantly_better(means, np.stack([entries[name].samples for name in names]), alpha)
    if any(entry.ci_low is None for entry in entries.values()):
        better[:] = False
    return {
        name: RankInterval(1 + int(better[:, index].sum()), len(names) - int(better[index].sum()))
        for index, name in enumerate(names)
    }


def _significantly_better(means: FloatArray, samples: FloatArray, alpha: float) -> NDArray[np.bool_]:
    """(E, E): whether the entry of the row is significantly better than that of the column."""
    entries, resamples = samples.shape
    error = np.zeros((entries, entries))
    largest = np.zeros(resamples)
    for row in range(entries - 1):
        difference = samples[row] - samples[row + 1 :]
        spread = difference.std(axis=1)
        error[row, row + 1 :] = error[row + 1 :, row] = spread
        deviation = np.abs(difference - (means[row] - means[row + 1 :])[:, None])[spread > _SAME]
        if len(deviation):
            largest = np.maximum(largest, (deviation / spread[spread > _SAME][:, None]).max(axis=0))
    critical = float(np.quantile(largest, 1 - alpha))
    lead = means[:, None] - means[None, :]
    # Where no resample moves the difference it is either nothing or the same for every subject.
    better: NDArray[np.bool_] = np.where(error > _SAME, lead > critical * error, lead > _SAME)
    return better


def _resampled(fold: FoldCounts, resamples: int, seed: int, stream: str) -> FloatArray:
    """(R, T) F1 of each task on each resample of the fold's subjects, mean over seeds."""
    drawn = resample_weights(len(fold.subjects), resamples, fold.fold, seed, stream)
    parts = [_task_f1(fold, weights) for weights in drawn]
    return np.concatenate(parts)


def resample_weights(subjects: int, resamples: int, fold: int, seed: int, stream: str) -> Iterator[FloatArray]:
    """Chunks of (R, N): how often each subject is among N - 1 draws; a pure function, the same for all entries."""
    key = hashlib.sha256(repr((stream, seed, fold)).encode()).digest()
    generator = np.random.default_rng(np.random.SeedSequence(int.from_bytes(key)))
    rows, draws = max(1, CHUNK // subjects), max(1, subjects - 1)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = generator.integers(subjects, size=(count, draws), dtype=np.int64)
        drawn += np.arange(count)[:, None] * subjects
        yield np.bincount(drawn.ravel(), minlength=count * subjects).reshape(count, subjects).astype(np.float64)


def _task_f1(fold: FoldCounts, weights: FloatArray) -> FloatArray:
    """(R, N) weights -> (R, T) F1, mean over seeds."""
    seeds, subjects, tasks = fold.tp.shape
    hits = 2.0 * fold.tp
    both = np.stack([hits, hits + fold.fp + fold.fn]).transpose(2, 0, 1, 3).reshape(subjects, 2 * seeds * tasks)
    # Whole numbers below 2^53: exact, in whatever order the matmul adds them.
    top, bottom = (weights @ both).reshape(len(weights), 2, seeds, tasks).transpose(1, 0, 2, 3)
    f1 = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
    mean: FloatArray = f1.mean(axis=1)
    return mean


def _interval(samples: FloatArray, estimate: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Percentile bounds of each column of `samples`, widened to its estimate."""
    low, high = np.quantile(samples, [alpha / 2, 1 - alpha / 2], axis=0)
    return np.minimum(low, estimate), np.maximum(high, estimate)


def _require_paired(entries: list[Bootstrap]) -> None:
    sizes = {len(entry.samples) for entry in entries}
    if len(sizes) > 1:
        raise ValueError(
            f"entries are compared on the same resamples, but theirs number {sorted(sizes)}; "
            "use one number of resamples, seed and stream for all"
        )
