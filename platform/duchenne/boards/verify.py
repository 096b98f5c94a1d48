"""Whether an entry's numbers are those of its predictions: every metric computed again, from the recorded files."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from duchenne.boards.columns import FloatArray, entry_columns, recorded_thresholds
from duchenne.boards.counts import CountsError, read_checked
from duchenne_jobs.evaluation import Predictions

if TYPE_CHECKING:
    from duchenne.records import PredictionFile

Status = Literal["verified", "rejected", "missing", "published"]

TOLERANCE = 1e-6
"""Largest difference between a recorded and a recomputed metric: the order of additions, nothing more."""


@dataclass(frozen=True)
class Verification:
    """The outcome, the metrics that the predictions give, and what was wrong in one line.

    `missing`: a prediction file is not at hand, so nothing is known. `published`: a number from a paper, never ours.
    """

    status: Status
    metrics: dict[str, float | None]
    reason: str | None


def verify(recorded: dict[str, Any], files: Sequence[PredictionFile], root: Path, per_fold: Any = ()) -> Verification:
    """Compute every metric and column of an entry again.

    Args:
        recorded: the entry's `metrics`; names that nothing here computes are not judged.
        files: one for each fold and seed; relative paths are below `root`.
        per_fold: the entry's `per_fold`, for the thresholds that were chosen on inner validation rows.
    """
    predictions: dict[tuple[int, int], Predictions] = {}
    try:
        for file in files:
            predictions[file.fold, file.seed] = read_checked(file, root)
        metrics = entry_metrics(predictions, recorded_thresholds(per_fold)) if predictions else {}
    except FileNotFoundError as error:
        return Verification("missing", {}, f"{error.filename} is not there")
    except (CountsError, ValueError) as error:
        return Verification("rejected", {}, str(error))
    if not predictions:
        return Verification("missing", {}, "no prediction file is recorded")
    wrong = disagreement(recorded, metrics)
    return Verification("rejected" if wrong else "verified", metrics, wrong)


def entry_metrics(
    predictions: Mapping[tuple[int, int], Predictions], thresholds: Mapping[int, FloatArray] | None = None
) -> dict[str, float | None]:
    """Every metric of an entry from its (fold, seed) -> held-out rows, and its columns (see `entry_columns`)."""
    by_fold: dict[int, list[dict[str, float]]] = defaultdict(list)
    for (fold, _), rows in sorted(predictions.items()):
        by_fold[fold].append(rows.metrics())
    return mean_metrics(list(by_fold.values())) | entry_columns(predictions, thresholds)


def mean_metrics(folds: Sequence[Sequence[dict[str, float]]]) -> dict[str, float | None]:
    """Mean over the seeds of each fold, then over folds; None where a fold leaves a metric undefined."""
    names = list(folds[0][0])
    means = {name: float(np.mean([np.mean([seed[name] for seed in fold]) for fold in folds])) for name in names}
    return {name: value if math.isfinite(value) else None for name, value in means.items()}


def disagreement(recorded: dict[str, Any], computed: dict[str, float | None]) -> str | None:
    """The first metric that is recorded otherwise than computed, in one line; None where all agree."""
    for name, value in computed.items():
        if name not in recorded or recorded[name] == value:
            continue
        if value is None or recorded[name] is None or abs(recorded[name] - value) > TOLERANCE:
            said = recorded[name]
            return f"recorded metrics must follow from the predictions, but {name} is {said} and they give {value}"
    return None
