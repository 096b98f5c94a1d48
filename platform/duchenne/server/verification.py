"""Whether an entry's numbers are those of its predictions, and its predictions those of the dataset's frames.

verified: every metric was computed again, and every frame, label and fold is the dataset's.
unverified: something needed for that is not in reach; `reason` says what. Recorded numbers are shown, without a rank.
rejected: something is wrong; `reason` says what. No number is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import erfc, sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np

from duchenne.boards import Bootstrap, CountsError, EntryCounts, bootstrap_f1
from duchenne.boards.columns import FloatArray, recorded_thresholds
from duchenne.boards.counts import counts_of, read_checked
from duchenne.boards.verify import disagreement, entry_metrics
from duchenne.records import PredictionFile
from duchenne.records.board_rows import Numbers, StandingStatus, TaskNumber
from duchenne.server.frames import Frames, FramesError, check_frames
from duchenne.server.truths import NoTruth
from duchenne_jobs.evaluation import Predictions

RESAMPLES: Final = 1000
_COLUMNS: Final = {
    "auc": "auc_macro",
    **{
        name: name
        for name in (
            "f1_micro",
            "subset_accuracy",
            "log_loss",
            "accuracy",
            "f1_pooled",
            "auc_pooled",
            "calibration_error",
            "f1_inner_threshold",
            "f1_oracle",
        )
    },
}


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the server found out about an entry. `resamples`: F1 on each resample, as float64 bytes."""

    status: StandingStatus
    reason: str | None
    numbers: Numbers
    metrics: Mapping[str, float | None]
    resamples: bytes | None = None


def judge(
    files: Sequence[PredictionFile],
    home: Path,
    *,
    recorded: Mapping[str, Any],
    per_fold: Any,
    truth: Callable[[], Frames],
    stream: str,
    trials: int | None,
) -> Verdict:
    """Judge an entry by its recorded files.

    Args:
        recorded: its metrics as somebody said them; what nothing here computes is not judged.
        truth: gives the dataset's frames; may raise `NoTruth` or `FramesError`.
        stream: digests of data and folds: what entries must share to be compared.
    """
    try:
        predictions = {(file.fold, file.seed): read_checked(file, home) for file in files}
    except FileNotFoundError as error:
        return unverified(f"its predictions must be at hand, but {Path(error.filename).name} is not", recorded)
    except CountsError as error:
        return rejected(str(error))
    if not predictions:
        return unverified("its predictions must be at hand, but none is recorded", recorded)
    return judge_predictions(
        predictions,
        recorded=recorded,
        thresholds=recorded_thresholds(per_fold),
        truth=truth,
        stream=stream,
        trials=trials,
    )


def judge_predictions(
    predictions: dict[tuple[int, int], Predictions],
    *,
    recorded: Mapping[str, Any],
    thresholds: Mapping[int, FloatArray],
    truth: Callable[[], Frames],
    stream: str,
    trials: int | None,
) -> Verdict:
    """Judge (fold, seed) -> held-out rows; see `judge`."""
    try:
        counts = counts_of(predictions)
        layout = counts.layout
        metrics = entry_metrics(predictions, thresholds)
        wrong = disagreement(dict(recorded), metrics)
        if wrong is not None:
            return rejected(wrong)
        check_frames(truth(), predictions)
    except (CountsError, FramesError, ValueError) as error:
        return rejected(str(error))
    except NoTruth as error:
        return unverified(str(error), metrics)
    bootstrap = bootstrap_f1(counts, resamples=RESAMPLES, stream=f"{stream}|{layout}")
    cohort = hashlib.sha256(f"{stream}|{layout}".encode()).hexdigest()[:24]
    numbers = _numbers(metrics, counts, bootstrap, cohort, trials)
    return Verdict("verified", None, numbers, metrics, bootstrap.samples.astype("<f8").tobytes())


def deflated(f1: float, spread: float, trials: int | None) -> float | None:
    """F1 less what the best of `trials` equally good models is expected to gain by chance alone.

    The expected largest of n standard normal draws, times the standard deviation of F1 over test subjects: as if the
    trials had been picked by the test folds. Sealed folds are not that, so this bounds what searching more can have
    gained. None where the number of trials is unknown.
    """
    return None if trials is None else f1 - spread * expected_largest(trials)


def expected_largest(draws: int) -> float:
    """Mean of the largest of `draws` standard normal values; 0 for one or none."""
    if draws <= 1:
        return 0.0
    grid = np.linspace(0.0, 12.0, 2401)
    above = np.array([0.5 * erfc(x / sqrt(2.0)) for x in grid])
    # E = integral of 1 - F(x)^n over x > 0, less that of F(x)^n over x < 0.
    return float(np.trapezoid(1.0 - (1.0 - above) ** draws - above**draws, grid))


def unverified(reason: str, metrics: Mapping[str, Any]) -> Verdict:
    """An entry whose recorded numbers stand as they were said."""
    shown = replace(Numbers(f1_mean=metrics.get("f1_macro")), **_known(metrics))
    return Verdict("unverified", reason, shown, dict(metrics))


def rejected(reason: str) -> Verdict:
    """An entry without a number."""
    return Verdict("rejected", reason, Numbers(), {})


def _numbers(
    metrics: Mapping[str, float | None], counts: EntryCounts, bootstrap: Bootstrap, cohort: str, trials: int | None
) -> Numbers:
    known = bootstrap.ci_low is not None
    tasks = tuple(
        TaskNumber(
            task=task, f1=float(f1), ci_low=float(low) if known else None, ci_high=float(high) if known else None
        )
        for task, f1, low, high in zip(
            bootstrap.tasks, bootstrap.task_mean, bootstrap.task_low, bootstrap.task_high, strict=True
        )
    )
    numbers = Numbers(
        cohort=cohort,
        f1_mean=bootstrap.mean,
        ci_low=bootstrap.ci_low,
        ci_high=bootstrap.ci_high,
        f1_deflated=deflated(bootstrap.mean, float(bootstrap.samples.std()), trials) if known else None,
        seeds=max(len(fold.seeds) for fold in counts.folds),
        subjects=sum(len(fold.subjects) for fold in counts.folds),
        tasks=tasks,
    )
    return replace(numbers, **_known(metrics))


def _known(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics.get(source) for name, source in _COLUMNS.items()}
