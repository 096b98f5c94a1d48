"""The ranking of a board, from the records and the prediction files behind them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duchenne.boards.counts import CountsError, EntryCounts, read_counts
from duchenne.boards.statistics import Bootstrap, RankInterval, bootstrap_f1, tie_groups
from duchenne.boards.verify import Status, disagreement

if TYPE_CHECKING:
    from duchenne.records import Entry, RecordStore

WITHDRAWN_NOTE = "its data was withdrawn: a subject was forgotten"


@dataclass(frozen=True, kw_only=True)
class TaskF1:
    """F1 of one task, mean over folds and seeds, with its interval."""

    task: str
    f1: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """One line of the leaderboard: `dataclasses.asdict` gives the contract's shape and more columns. None: unknown.

    Attributes:
        rank_low, rank_high: the ranks that it may hold among the entries of its `group`.
        group: entries of one group share data, folds, subjects and labels; across groups nothing is compared.
        verified: `verified` (computed just now from the recorded predictions), `rejected`, `missing`, `published`.
        note: why it is not verified, or that its data was withdrawn.
    """

    entry: str
    method: str
    rank_low: int | None
    rank_high: int | None
    f1_mean: float | None
    ci_low: float | None
    ci_high: float | None
    verified: Status
    cost_usd: float | None
    trials: int | None
    group: int | None
    label: str
    team: str
    sweep: str
    auc: float | None
    f1_micro: float | None
    subset_accuracy: float | None
    log_loss: float | None
    accuracy: float | None
    gpu_hours: float | None
    subjects: int | None
    seeds: int | None
    tasks: tuple[TaskF1, ...]
    note: str | None
    f1_pooled: float | None = None
    auc_pooled: float | None = None
    calibration_error: float | None = None
    f1_inner_threshold: float | None = None
    f1_oracle: float | None = None
    without_positives: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Checked:
    entry: Entry
    status: Status
    note: str | None
    counts: EntryCounts | None = None
    bootstrap: Bootstrap | None = None


def rank(
    store: RecordStore,
    board: str,
    *,
    root: Path | None = None,
    resamples: int = 1000,
    seed: int = 0,
    alpha: float = 0.05,
) -> list[BoardRow]:
    """The entries of a board, the best F1 first.

    F1 is computed from the prediction files, never taken from the record. An entry whose files changed, or whose
    recorded F1 they do not give, is `rejected` and has no number; one whose files are not at hand shows its recorded
    number, without an interval or a rank.

    Args:
        root: the folder to which recorded paths are relative; None takes that of a SQLite store.

    Raises:
        ValueError: no root is given and the store has none.
    """
    folder = root or store.home
    if folder is None:
        raise ValueError("a board on PostgreSQL needs the folder of its prediction files, but root is None; give it")
    withdrawn = store.withdrawn_datasets()
    checked = [
        _told(_check(entry, folder, resamples, seed, alpha), entry.dataset_digest in withdrawn)
        for entry in store.entries(board)
    ]
    groups: dict[tuple[str, str, str], list[_Checked]] = defaultdict(list)
    for item in checked:
        if item.counts is not None:
            groups[(item.entry.dataset_digest, item.entry.folds_digest, item.counts.layout)].append(item)
    rows = [_row(item, None, None) for item in checked if item.bootstrap is None]
    for number, members in enumerate(sorted(groups.values(), key=_best, reverse=True), start=1):
        ranks = tie_groups({item.entry.id: item.bootstrap for item in members if item.bootstrap}, alpha=alpha)
        rows += [_row(item, number, ranks[item.entry.id]) for item in members]
    return sorted(rows, key=lambda row: (row.f1_mean is None, -(row.f1_mean or 0.0), row.entry))


def _check(entry: Entry, root: Path, resamples: int, seed: int, alpha: float) -> _Checked:
    if entry.verified == "published":
        return _Checked(entry, "published", "a published number, not computed here")
    if entry.verified == "rejected":
        return _Checked(entry, "rejected", "rejected when it was recorded")
    try:
        counts = read_counts(entry.predictions, root)
        stream = f"{entry.dataset_digest}|{entry.folds_digest}|{counts.layout}"
    except FileNotFoundError as error:
        return _Checked(entry, "missing", f"{error.filename} is not there")
    except CountsError as error:
        return _Checked(entry, "rejected", str(error))
    bootstrap = bootstrap_f1(counts, resamples=resamples, seed=seed, stream=stream, alpha=alpha)
    wrong = disagreement(entry.metrics, {"f1_macro": bootstrap.mean})
    if wrong is not None:
        return _Checked(entry, "rejected", wrong)
    return _Checked(entry, "verified", None, counts, bootstrap)


def _told(item: _Checked, withdrawn: bool) -> _Checked:
    """With a note where a person was taken out of the entry's data since: its number can't be computed again."""
    if not withdrawn:
        return item
    return replace(item, note="; ".join(note for note in (item.note, WITHDRAWN_NOTE) if note))


def _best(members: list[_Checked]) -> tuple[float, str]:
    return max((item.bootstrap.mean if item.bootstrap else 0.0, item.entry.id) for item in members)


def _row(item: _Checked, group: int | None, ranks: RankInterval | None) -> BoardRow:
    entry, bootstrap, counts = item.entry, item.bootstrap, item.counts
    shown: dict[str, Any] = {} if item.status == "rejected" else entry.metrics
    return BoardRow(
        entry=entry.id,
        method=entry.method,
        rank_low=ranks.rank_low if ranks else None,
        rank_high=ranks.rank_high if ranks else None,
        f1_mean=bootstrap.mean if bootstrap else shown.get("f1_macro"),
        ci_low=bootstrap.ci_low if bootstrap else None,
        ci_high=bootstrap.ci_high if bootstrap else None,
        verified=item.status,
        cost_usd=entry.cost_usd,
        trials=entry.trials,
        group=group,
        label=entry.label,
        team=entry.team,
        sweep=entry.sweep,
        auc=shown.get("auc_macro"),
        f1_micro=shown.get("f1_micro"),
        subset_accuracy=shown.get("subset_accuracy"),
        log_loss=shown.get("log_loss"),
        accuracy=shown.get("accuracy"),
        gpu_hours=entry.gpu_hours,
        subjects=sum(len(fold.subjects) for fold in counts.folds) if counts else None,
        seeds=max(len(fold.seeds) for fold in counts.folds) if counts else None,
        tasks=_task_rows(bootstrap),
        note=item.note,
        f1_pooled=shown.get("f1_pooled"),
        auc_pooled=shown.get("auc_pooled"),
        calibration_error=shown.get("calibration_error"),
        f1_inner_threshold=shown.get("f1_inner_threshold"),
        f1_oracle=shown.get("f1_oracle"),
        without_positives=_without_positives(entry),
    )


def _without_positives(entry: Entry) -> tuple[str, ...]:
    """The test folds in which a task has no positive label, as they were recorded."""
    found = {
        int(row["fold"]): row["without_positives"]
        for row in entry.per_fold or ()
        if isinstance(row, dict) and row.get("without_positives")
    }
    return tuple(f"fold {fold}: {', '.join(tasks)}" for fold, tasks in sorted(found.items()))


def _task_rows(bootstrap: Bootstrap | None) -> tuple[TaskF1, ...]:
    if bootstrap is None:
        return ()
    known = bootstrap.ci_low is not None
    return tuple(
        TaskF1(task=task, f1=float(f1), ci_low=float(low) if known else None, ci_high=float(high) if known else None)
        for task, f1, low, high in zip(
            bootstrap.tasks, bootstrap.task_mean, bootstrap.task_low, bootstrap.task_high, strict=True
        )
    )
