"""Selects the configuration that goes on to the sealed test folds, from inner validation results alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from duchenne.records import ResultRow, Trial
from duchenne.spec import Sweep, apply
from duchenne_jobs.config import RunConfig


class NothingToSelect(Exception):  # noqa: N818 - the sweep's end, with a line for the user
    """No trial has a value."""


@dataclass(frozen=True)
class Selection:
    """The selected trial and configuration of each outer fold.

    Attributes:
        by_fold: (trial, configuration) of each outer fold; all the same with `selection: shared`.
        values: the search's metric of that trial on the inner folds that selected it.
    """

    by_fold: tuple[tuple[int, RunConfig], ...]
    values: tuple[float, ...]

    @property
    def trials(self) -> tuple[int, ...]:
        """The distinct trials selected, ascending."""
        return tuple(sorted({trial for trial, _ in self.by_fold}))


def select(sweep: Sweep, trials: Iterable[Trial], results: Iterable[ResultRow]) -> Selection:
    """The best trial that ran all its epochs; where none did, the best of those that got furthest.

    `selection: shared` compares means over all inner folds (Tallec 2023, 4.4.1), so that subjects of one test fold help
    to select what is tested on another. `per_fold` compares, for each outer fold, its own inner folds only.

    Raises:
        NothingToSelect: no trial has a value.
    """
    finished = [trial for trial in trials if trial.value is not None and trial.state in ("succeeded", "stopped")]
    whole = [trial for trial in finished if trial.state == "succeeded"]
    if not finished:
        raise NothingToSelect("a configuration is selected among trials with a value, but no trial has one")
    furthest = max(trial.rung for trial in finished)
    candidates = whole or [trial for trial in finished if trial.rung == furthest]
    sign = 1.0 if sweep.search.mode == "max" else -1.0
    if sweep.folds.selection == "shared":
        best = max(candidates, key=lambda trial: (sign * _value(trial), -trial.number))
        chosen = [(best.number, _value(best))] * sweep.folds.outer_count
    else:
        means = _means_by_fold(results, sweep.search.metric)
        chosen = []
        for fold in range(sweep.folds.outer_count):
            best = max(candidates, key=lambda trial: (sign * means[trial.number, fold], -trial.number))
            chosen.append((best.number, means[best.number, fold]))
    configs = {trial.number: apply(sweep, trial.config) for trial in candidates}
    return Selection(tuple((number, configs[number]) for number, _ in chosen), tuple(value for _, value in chosen))


def _means_by_fold(results: Iterable[ResultRow], metric: str) -> dict[tuple[int, int], float]:
    """(trial, outer fold) -> mean over its inner folds of the metric at the last epoch on record."""
    last: dict[tuple[int, int, int], tuple[int, float]] = {}
    for row in results:
        value = row.metrics.get(metric)
        if row.phase != "search" or row.trial is None or row.inner is None or value is None:
            continue
        key = (row.trial, row.fold, row.inner)
        if key not in last or row.epoch > last[key][0]:
            last[key] = (row.epoch, value)
    grouped: dict[tuple[int, int], list[float]] = defaultdict(list)
    for (trial, fold, _), (_, value) in last.items():
        grouped[trial, fold].append(value)
    return {key: sum(values) / len(values) for key, values in grouped.items()}


def _value(trial: Trial) -> float:
    assert trial.value is not None  # noqa: S101 - candidates have one
    return trial.value
