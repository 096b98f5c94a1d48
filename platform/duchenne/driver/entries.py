"""From the prediction files of the evaluation to leaderboard entries."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from duchenne.boards.columns import FloatArray, fold_row
from duchenne.boards.verify import entry_metrics, verify
from duchenne.plan.rates import worker_rate
from duchenne.records import Entry, FoldJob, NewEntry, PredictionFile, RecordStore
from duchenne.records import Sweep as SweepRecord
from duchenne.search import Selection
from duchenne.spec import Sweep, overlay
from duchenne_jobs.config import BASELINE_NAMES, RunConfig
from duchenne_jobs.config.model import ORDER_NAMES
from duchenne_jobs.evaluation import best_thresholds, concatenate, read_predictions
from duchenne_jobs.training import JobKey, inner_predictions_path


def save_entries(
    store: RecordStore, record: SweepRecord, sweep: Sweep, selection: Selection, home: Path, token: str
) -> list[Entry]:
    """One entry a method whose evaluation is complete; its numbers come from the files, nothing else."""
    by_method: dict[str, list[FoldJob]] = defaultdict(list)
    for job in store.fold_jobs(record.id, phase="evaluation"):
        by_method[job.key.method].append(job)
    seconds = _seconds_by_method(store, record.id)
    tried = len(store.trials(record.id))  # fewer than the file says where the budget cut the search
    entries = []
    for method, jobs in by_method.items():
        if any(job.state != "succeeded" for job in jobs):
            continue
        own = any(job.key.trial is not None for job in jobs)
        thresholds = inner_thresholds(home / "sweeps" / record.id, sweep, selection, method) if own else {}
        entry = _build(record, sweep, selection, method, jobs, home, seconds[method, own], thresholds, tried)
        entries.append(store.save_entry(entry, token=token))
    return entries


def _build(
    record: SweepRecord,
    sweep: Sweep,
    selection: Selection,
    method: str,
    jobs: list[FoldJob],
    home: Path,
    seconds: float,
    thresholds: dict[int, FloatArray],
    trials: int,
) -> NewEntry:
    assert record.dataset_digest is not None  # noqa: S101 - bound before the first job
    assert record.folds_digest is not None  # noqa: S101 - the same
    files = tuple(
        PredictionFile(fold=job.key.fold, seed=job.key.seed, path=job.predictions, digest=job.predictions_digest)
        for job in jobs
        if job.predictions and job.predictions_digest
    )
    predictions = {(file.fold, file.seed): read_predictions(home / file.path) for file in files}
    metrics = entry_metrics(predictions, thresholds)
    per_fold = [
        fold_row(fold, seed, selection.by_fold[fold][0], rows, thresholds.get(fold))
        for (fold, seed), rows in sorted(predictions.items())
    ]
    verification = verify(dict(metrics), files, home, per_fold)
    configs = [_config_of(method, config, sweep) for _, config in selection.by_fold]
    price = worker_rate(sweep).usd_per_second
    return NewEntry(
        board=record.board,
        team=record.team,
        sweep=record.id,
        method=method,
        label=_label(method, configs, next(iter(predictions.values())).tasks),
        config={} if method in BASELINE_NAMES else configs[0].model_dump(mode="json"),
        verified=verification.status,
        metrics=metrics,
        per_fold=per_fold,
        predictions=files,
        dataset_digest=record.dataset_digest,
        folds_digest=record.folds_digest,
        cost_usd=price * seconds if price else None,
        gpu_hours=sweep.folds.resources.gpu * seconds / 3600,
        trials=0 if method in BASELINE_NAMES else trials,
    )


def inner_thresholds(folder: Path, sweep: Sweep, selection: Selection, method: str) -> dict[int, FloatArray]:
    """Outer fold -> (T,) thresholds of the highest F1 on the validation rows of its inner folds together.

    They come from the models that the search trained with the selected configuration: each of the fold's training
    subjects is predicted by one that did not see it, and none saw the test fold. A fold is left out where the trial
    was selected before its last epoch, and so left no predictions.
    """
    thresholds = {}
    for fold, (trial, config) in enumerate(selection.by_fold):
        keys = [
            JobKey(trial, "search", method, fold, inner, sweep.seeds[0]) for inner in range(sweep.folds.inner_count)
        ]
        paths = [inner_predictions_path(folder, key) for key in keys]
        if config.model.name == method and all(path.is_file() for path in paths):
            rows = concatenate([read_predictions(path) for path in paths])
            thresholds[fold] = best_thresholds(rows.labels, rows.probabilities)
    return thresholds


def _config_of(method: str, config: RunConfig, sweep: Sweep) -> RunConfig:
    changes = next((comparator.changes for comparator in sweep.comparators if comparator.name == method), {})
    return overlay(config, changes)


def _seconds_by_method(store: RecordStore, sweep_id: str) -> dict[tuple[str, bool], float]:
    """(method, whether the search's own) -> worker-seconds of its attempts; the search's own include every trial."""
    keys = {job.id: job.key for job in store.fold_jobs(sweep_id)}
    seconds: dict[tuple[str, bool], float] = defaultdict(float)
    search = 0.0
    for attempt in store.attempts(sweep_id):
        key = keys[attempt.fold_job]
        if key.phase == "search":
            search += attempt.seconds or 0.0
        else:
            seconds[key.method, key.trial is not None] += attempt.seconds or 0.0
    return defaultdict(
        float, {(method, own): value + (search if own else 0.0) for (method, own), value in seconds.items()}
    )


def _label(method: str, configs: list[RunConfig], tasks: tuple[str, ...]) -> str:
    """The method with what sets it apart: `monet M=16 k=4 rhls 0.25`."""
    if method in BASELINE_NAMES:
        return method
    if len(set(configs)) > 1:
        return f"{method} (selected per fold)"
    config = configs[0]
    parts = [method]
    if config.model.name in ORDER_NAMES:
        orders = config.model.orders
        size = orders.size(tasks)
        if size is not None:
            parts.append(f"M={size}")
        if orders.active is not None:
            parts.append(f"k={orders.active}")
    smoothing = config.loss.smoothing
    if smoothing.name != "none":
        strength = next(
            (value for value in (smoothing.alpha, smoothing.beta, smoothing.alpha_negative) if value is not None), None
        )
        parts.append(smoothing.name + (f" {strength:g}" if strength is not None else ""))
        if smoothing.mixing != "uniform":
            parts.append(smoothing.mixing)
    if config.loss.task_weights != "none":
        parts.append("frequency-weighted")
    if config.loss.dice:
        parts.append(f"dice {config.loss.dice:g}")
    return " ".join(parts)
