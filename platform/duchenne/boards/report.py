"""Every metric of every task of an entry with its interval, as a mean of folds and pooled over them.

The bootstrap over subjects draws as the board does (`duchenne.boards.statistics`), so that F1 here is F1 there. Each
metric is a function of sums over subjects, weighted by how often a resample holds a subject; AUC, of sums over pairs of
subjects. A resample therefore costs a matrix product and no pass over the frames.

Shapes: F rows of all folds, M subjects of all folds, N subjects of one, R resamples, S seeds, T tasks, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from duchenne.boards.counts import CountsError, read_checked, read_counts
from duchenne.boards.statistics import FloatArray, resample_weights
from duchenne_jobs.evaluation import Predictions
from duchenne_jobs.evaluation.calibration import BINS, bin_of
from duchenne_jobs.evaluation.metrics import THRESHOLD, row_losses

if TYPE_CHECKING:
    from duchenne.records import Entry

METRICS: Final = ("f1", "auc", "accuracy", "log_loss", "calibration_error")
MAX_PAIR_CELLS: Final = 50_000_000
"""Rows times subjects up to which AUC is reported: 200 MB while a task is counted."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; None where it is undefined, or a fold has fewer than two subjects to draw from."""

    value: float | None
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class MetricReport:
    """One metric: of each task, in the order of the tasks, and their mean over the tasks that define it."""

    mean_of_folds: tuple[Estimate, ...]
    mean_of_folds_macro: Estimate
    pooled: tuple[Estimate, ...]
    pooled_macro: Estimate


@dataclass(frozen=True)
class EntryReport:
    """`metrics` maps each of `METRICS` to its report; `tasks` names their columns."""

    tasks: tuple[str, ...]
    metrics: Mapping[str, MetricReport]


def report_entry(
    entry: Entry,
    root: Path,
    *,
    metrics: Collection[str] = METRICS,
    resamples: int = 1000,
    seed: int = 0,
    alpha: float = 0.05,
) -> EntryReport:
    """The report of a recorded entry, from its prediction files, each checked against its digest.

    Raises:
        CountsError, FileNotFoundError: see `duchenne.boards.read_counts`.
    """
    layout = read_counts(entry.predictions, root).layout
    predictions = {(file.fold, file.seed): read_checked(file, root) for file in entry.predictions}
    stream = f"{entry.dataset_digest}|{entry.folds_digest}|{layout}"
    return report(predictions, metrics=metrics, resamples=resamples, seed=seed, stream=stream, alpha=alpha)


def report(
    predictions: Mapping[tuple[int, int], Predictions],
    *,
    metrics: Collection[str] = METRICS,
    resamples: int = 1000,
    seed: int = 0,
    stream: str = "",
    alpha: float = 0.05,
) -> EntryReport:
    """The report of (fold, seed) -> held-out rows; every seed of a fold holds the same rows in the same order.

    Args:
        metrics: which of `METRICS`; AUC is left out of sets beyond `MAX_PAIR_CELLS` all the same.
        stream: names the draws, as in `duchenne.boards.bootstrap_f1`.

    Raises:
        CountsError: no predictions, a fold that lacks a seed, or seeds whose rows differ.
    """
    rows = _Rows.of(predictions)
    chunks = [
        resample_weights(int(np.count_nonzero(rows.fold_of == fold)), resamples, fold, seed, stream)
        for fold in rows.folds
    ]
    drawn = np.concatenate([np.concatenate(list(chunk)) for chunk in chunks], axis=1)
    weights = np.concatenate([np.ones((1, drawn.shape[1])), drawn])  # the first row is the estimate itself
    known = min(int(np.count_nonzero(rows.fold_of == fold)) for fold in rows.folds) >= 2
    found: dict[str, MetricReport] = {}
    for metric, make in SAMPLERS.items():
        if metric not in metrics or (metric == "auc" and rows.cells > MAX_PAIR_CELLS):
            continue
        sample = make(rows, weights)
        by_fold = np.stack([sample(rows.fold_of == fold) for fold in rows.folds]).mean(axis=0)
        pooled = sample(np.ones(len(rows.fold_of), dtype=bool))
        found[metric] = MetricReport(
            *_estimates(by_fold, known, alpha),
            *_estimates(pooled, known, alpha),
        )
    return EntryReport(rows.tasks, found)


@dataclass(frozen=True, eq=False)
class _Rows:
    """All test rows, seed by seed.

    Attributes:
        folds: their numbers; `fold_of`: (M,) the fold of each subject.
        owner: (F,) subject of each row; `labels`: (F, T); `probabilities`: (S, F, T).
    """

    tasks: tuple[str, ...]
    folds: tuple[int, ...]
    fold_of: NDArray[np.int64]
    owner: NDArray[np.int64]
    labels: NDArray[np.int8]
    probabilities: FloatArray

    @classmethod
    def of(cls, predictions: Mapping[tuple[int, int], Predictions]) -> _Rows:
        folds = tuple(sorted({fold for fold, _ in predictions}))
        seeds = tuple(sorted({seed for _, seed in predictions}))
        if not predictions or len(predictions) != len(folds) * len(seeds):
            raise CountsError(
                f"a report needs predictions of every seed on every fold, but has {sorted(predictions)}; "
                "evaluate the entry first"
            )
        fold_of: list[int] = []
        owners, labels = [], []
        for fold in folds:
            first = predictions[fold, seeds[0]]
            for seed in seeds[1:]:
                other = predictions[fold, seed]
                if not (np.array_equal(first.labels, other.labels) and np.array_equal(first.subjects, other.subjects)):
                    raise CountsError(
                        f"every seed predicts the same rows, but those of fold {fold} differ; run it again"
                    )
            names, owner = np.unique(first.subjects.astype(str), return_inverse=True)
            owners.append(owner + len(fold_of))
            fold_of += [fold] * len(names)
            labels.append(first.labels)
        stacked = [np.concatenate([predictions[fold, seed].probabilities for fold in folds]) for seed in seeds]
        tasks = predictions[folds[0], seeds[0]].tasks
        return cls(
            tasks,
            folds,
            np.array(fold_of),
            np.concatenate(owners),
            np.concatenate(labels),
            np.stack(stacked).astype(np.float64),
        )

    @property
    def cells(self) -> int:
        """Rows times subjects."""
        return len(self.owner) * len(self.fold_of)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(1, F, T) where the label is known."""
        known: NDArray[np.bool_] = self.labels >= 0
        return known[None]

    @property
    def positive(self) -> NDArray[np.bool_]:
        """(1, F, T) where it is positive."""
        positive: NDArray[np.bool_] = self.labels == 1
        return positive[None]

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(S, F, T) where the decision at 0.5 is not that of a known label."""
        wrong: NDArray[np.bool_] = ((self.probabilities >= THRESHOLD) != self.positive) & self.known
        return wrong

    def per_subject(self, values: NDArray[np.generic]) -> FloatArray:
        """(S, F, T) -> (S, M, T): sums over the rows of each subject."""
        sums = np.zeros((len(values), len(self.fold_of), values.shape[2]))
        for seed, matrix in enumerate(values):
            for task in range(values.shape[2]):
                sums[seed, :, task] = np.bincount(self.owner, matrix[:, task], minlength=len(self.fold_of))
        return sums


Sampler = Callable[[NDArray[np.bool_]], FloatArray]
"""(M,) which subjects count -> (R + 1, T): a metric on each resample of them, mean over seeds."""


def _f1(rows: _Rows, weights: FloatArray) -> Sampler:
    hits = rows.per_subject(2.0 * ((rows.probabilities >= THRESHOLD) & rows.positive))
    return _ratio(weights, hits, hits + rows.per_subject(rows.wrong), undefined=0.0)


def _accuracy(rows: _Rows, weights: FloatArray) -> Sampler:
    total = rows.per_subject(rows.known)
    return _ratio(weights, total - rows.per_subject(rows.wrong), total)


def _log_loss(rows: _Rows, weights: FloatArray) -> Sampler:
    losses = np.stack([row_losses(rows.labels, probabilities) for probabilities in rows.probabilities])
    return _ratio(weights, rows.per_subject(losses), rows.per_subject(rows.known))


def _ratio(weights: FloatArray, upper: FloatArray, lower: FloatArray, undefined: float = np.nan) -> Sampler:
    """A sum over a sum; both (S, M, T)."""

    def sample(subjects: NDArray[np.bool_]) -> FloatArray:
        above, below = (_summed(weights, part, subjects) for part in (upper, lower))
        return _seed_mean(_divided(above, np.broadcast_to(below, above.shape), undefined))

    return sample


def _calibration_error(rows: _Rows, weights: FloatArray) -> Sampler:
    """From label minus probability, summed by subject and bin."""
    place = bin_of(rows.probabilities)
    gaps = np.where(rows.known, rows.positive - rows.probabilities, 0.0)
    binned = np.stack([rows.per_subject(np.where(place == index, gaps, 0.0)) for index in range(BINS)], axis=-1)
    total = rows.per_subject(rows.known)

    def sample(subjects: NDArray[np.bool_]) -> FloatArray:
        apart = np.abs(_summed(weights, binned, subjects)).sum(axis=-1)
        return _seed_mean(_divided(apart, np.broadcast_to(_summed(weights, total, subjects), apart.shape)))

    return sample


def _area(rows: _Rows, weights: FloatArray) -> Sampler:
    """AUC: the pairs of a positive and a negative row in the right order, each weighted by both its subjects."""
    pairs = [_pairs(rows, task) for task in range(len(rows.tasks))]

    def sample(subjects: NDArray[np.bool_]) -> FloatArray:
        own = weights[:, subjects]
        columns = []
        for wins, positives, negatives in pairs:
            right = np.einsum("ri,ri->r", own @ wins[np.ix_(subjects, subjects)], own)
            columns.append(_divided(right, (own @ positives[subjects]) * (own @ negatives[subjects])))
        return np.stack(columns, axis=1)

    return sample


SAMPLERS: Final[dict[str, Callable[[_Rows, FloatArray], Sampler]]] = {
    "f1": _f1,
    "auc": _area,
    "accuracy": _accuracy,
    "log_loss": _log_loss,
    "calibration_error": _calibration_error,
}


def _summed(weights: FloatArray, per_subject: FloatArray, subjects: NDArray[np.bool_]) -> FloatArray:
    """(S, M, ...) -> (S, R + 1, ...): weighted sums over the subjects that count."""
    chosen = per_subject[:, subjects]
    flat = weights[:, subjects] @ chosen.reshape(len(chosen), chosen.shape[1], -1)
    return flat.reshape(len(chosen), len(weights), *chosen.shape[2:])


def _pairs(rows: _Rows, task: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(M, M) pairs (a positive row of i, a negative row of j) in the right order, a tie for half, mean over seeds;
    (M,) positive and (M,) negative rows."""
    known = rows.labels[:, task] >= 0
    owner, truth = rows.owner[known], rows.labels[known, task] == 1
    subjects = len(rows.fold_of)
    negatives = np.bincount(owner[~truth], minlength=subjects)
    wins = np.zeros((subjects, subjects))
    for probabilities in rows.probabilities:
        scores = probabilities[known, task]
        order = np.argsort(scores, kind="stable")
        below = np.zeros((len(order) + 1, subjects), dtype=np.int32)
        below[np.arange(1, len(order) + 1)[~truth[order]], owner[order][~truth[order]]] = 1
        np.cumsum(below, axis=0, out=below)
        sorted_scores = scores[order]
        first = np.searchsorted(sorted_scores, scores[truth], side="left")
        after = np.searchsorted(sorted_scores, scores[truth], side="right")
        for subject in np.unique(owner[truth]):
            mine = owner[truth] == subject
            wins[subject] += (below[first[mine]].sum(axis=0) + below[after[mine]].sum(axis=0)) / 2
    positives = np.bincount(owner[truth], minlength=subjects)
    return wins / len(rows.probabilities), positives.astype(np.float64), negatives.astype(np.float64)


def _divided(upper: FloatArray, lower: FloatArray, undefined: float = np.nan) -> FloatArray:
    quotient: FloatArray = np.full(upper.shape, undefined)
    np.divide(upper, lower, out=quotient, where=lower > 0)
    return quotient


def _seed_mean(values: FloatArray) -> FloatArray:
    mean: FloatArray = values.mean(axis=0)
    return mean


def _estimates(samples: FloatArray, known: bool, alpha: float) -> tuple[tuple[Estimate, ...], Estimate]:
    """(R + 1, T), the first row the estimate -> one estimate a task, and that of their mean."""
    defined = np.isfinite(samples).any(axis=1)
    macro = np.full(len(samples), np.nan)
    macro[defined] = np.nanmean(samples[defined], axis=1)
    return tuple(_estimate(column, known, alpha) for column in samples.T), _estimate(macro, known, alpha)


def _estimate(samples: FloatArray, known: bool, alpha: float) -> Estimate:
    value, drawn = float(samples[0]), samples[1:][np.isfinite(samples[1:])]
    if not np.isfinite(value):
        return Estimate(None, None, None)
    if not known or not len(drawn):
        return Estimate(value, None, None)
    low, high = np.quantile(drawn, [alpha / 2, 1 - alpha / 2])
    return Estimate(value, min(float(low), value), max(float(high), value))
