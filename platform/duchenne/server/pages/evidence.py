"""What the predictions of an entry show beyond its numbers: calibration, confusions, and its firmest mistakes.

Shapes: N rows of a fold, S seeds, T tasks, B bins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from duchenne.boards import CountsError
from duchenne.boards.counts import read_checked
from duchenne.records import PredictionFile
from duchenne.server.pages.cache import Recent
from duchenne_jobs.evaluation import Predictions, reliability
from duchenne_jobs.evaluation.calibration import Reliability
from duchenne_jobs.evaluation.metrics import THRESHOLD

MISTAKES: Final = 12
MOST_CELLS: Final = 60_000_000
"""Probabilities of all folds and seeds up to which a page reads them."""


@dataclass(frozen=True)
class Confusion:
    """How often a task was right and wrong at 0.5, known labels of all folds and seeds; `ece` its calibration error."""

    task: str
    tp: int
    fp: int
    fn: int
    tn: int
    ece: float | None

    @property
    def positives(self) -> int:
        """Labels that are positive."""
        return self.tp + self.fn

    @property
    def precision(self) -> float | None:
        """Share of what was predicted present that is."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Share of what is present that was found."""
        return self.tp / self.positives if self.positives else None


@dataclass(frozen=True)
class Mistake:
    """A row that was wrong: what its label is, and the mean probability over seeds."""

    task: str
    subject: str
    sequence: str
    frame: int
    label: int
    probability: float


@dataclass(frozen=True)
class Bin:
    """A bin of the reliability diagram: rows in it, their mean probability, the share of positive labels."""

    rows: int
    predicted: float
    frequency: float


@dataclass(frozen=True)
class Evidence:
    """What the files of an entry show. `ece` is the mean over tasks and seeds, folds pooled."""

    confusions: tuple[Confusion, ...]
    mistakes: tuple[Mistake, ...]
    bins: tuple[Bin, ...]
    ece: float | None
    rows: int


_READ: Recent[Evidence] = Recent(32)


def evidence_of(files: Sequence[PredictionFile], home: Path) -> Evidence:
    """Read an entry's prediction files, each checked against its digest; by digest, once.

    Raises:
        CountsError, FileNotFoundError: a file is not as it was recorded, or they are too many to be read for a page.
    """
    return _READ.get(tuple(file.digest for file in files), lambda: _read(files, home))


def _read(files: Sequence[PredictionFile], home: Path) -> Evidence:
    by_fold: dict[int, list[tuple[int, Predictions]]] = defaultdict(list)
    cells = 0
    for file in files:
        rows = read_checked(file, home)
        cells += rows.labels.size
        if cells > MOST_CELLS:
            raise CountsError(
                f"a page reads up to {MOST_CELLS:,} probabilities, but there are more; use the API's report"
            )
        by_fold[file.fold].append((file.seed, rows))
    if not by_fold:
        raise CountsError("predictions must be recorded, but none is; evaluate the entry again")
    tasks = next(iter(by_fold.values()))[0][1].tasks
    sums: dict[int, list[Reliability]] = defaultdict(list)
    counts = np.zeros((4, len(tasks)), dtype=np.int64)
    mistakes: list[Mistake] = []
    for parts in by_fold.values():
        for seed, rows in parts:
            sums[seed].append(reliability(rows.labels, rows.probabilities))
            counts += _counts(rows)
        mistakes += _mistakes([rows for _, rows in parts])
    pooled = [_sum(parts) for parts in sums.values()]
    errors: NDArray[np.float64] = np.stack([part.calibration_error for part in pooled]).mean(axis=0)
    known = errors[np.isfinite(errors)]
    return Evidence(
        confusions=tuple(
            Confusion(task, int(tp), int(fp), int(fn), int(tn), _known(error))
            for task, (tp, fp, fn, tn), error in zip(tasks, counts.T, errors, strict=True)
        ),
        mistakes=tuple(sorted(mistakes, key=lambda item: -abs(item.probability - THRESHOLD))[:MISTAKES]),
        bins=_bins(_sum(pooled)),
        ece=float(known.mean()) if len(known) else None,
        rows=sum(len(parts[0][1].labels) for parts in by_fold.values()),
    )


def _counts(rows: Predictions) -> NDArray[np.int64]:
    """(4, T): tp, fp, fn, tn."""
    said, is_so, is_not = rows.probabilities >= THRESHOLD, rows.labels == 1, rows.labels == 0
    parts = (said & is_so, said & is_not, ~said & is_so, ~said & is_not)
    return np.stack([part.sum(axis=0) for part in parts]).astype(np.int64)


def _mistakes(seeds: Sequence[Predictions]) -> list[Mistake]:
    """The rows of a fold that were wrong by most."""
    first = seeds[0]
    if any(not np.array_equal(first.labels, rows.labels) for rows in seeds[1:]):
        raise CountsError("every seed predicts the same rows, but those of a fold differ; evaluate the entry again")
    mean: NDArray[np.float64] = np.stack([rows.probabilities for rows in seeds]).mean(axis=0, dtype=np.float64)
    wrong = (first.labels >= 0) & ((mean >= THRESHOLD) != (first.labels == 1))
    strength = np.where(wrong, np.abs(mean - THRESHOLD), -1.0).ravel()
    found = np.argpartition(-strength, min(MISTAKES, strength.size - 1))[:MISTAKES]
    places = [divmod(int(place), len(first.tasks)) for place in found if strength[place] >= 0]
    return [
        Mistake(
            first.tasks[task],
            str(first.subjects[row]),
            str(first.sequences[row]),
            int(first.frames[row]),
            int(first.labels[row, task]),
            float(mean[row, task]),
        )
        for row, task in places
    ]


def _sum(parts: Sequence[Reliability]) -> Reliability:
    return Reliability(
        rows=np.sum([part.rows for part in parts], axis=0),
        predicted=np.sum([part.predicted for part in parts], axis=0),
        positives=np.sum([part.positives for part in parts], axis=0),
    )


def _bins(pooled: Reliability) -> tuple[Bin, ...]:
    """All tasks together; empty bins are left out."""
    rows, predicted, positives = (part.sum(axis=0) for part in (pooled.rows, pooled.predicted, pooled.positives))
    return tuple(
        Bin(int(count), float(total / count), float(found / count))
        for count, total, found in zip(rows, predicted, positives, strict=True)
        if count
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
