"""What a new driver finds of a search that began before: rows, rungs, subjects; and what becomes of a cut trial."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from duchenne.pool import PoolSnapshot
from duchenne.records import FoldJobKey, NewSweep, RecordStore, open_home
from duchenne.search.jobs import SweepContext
from duchenne.search.judge import Verdict
from duchenne.search.on_record import record_rung, replays_of, subjects_on_record
from duchenne.search.rung_costs import Rung
from duchenne.search.searcher import Replay
from duchenne.search.tuner import TrialRecorder
from duchenne.spec import Sweep
from duchenne_jobs.evaluation import Predictions, write_predictions
from duchenne_jobs.training import JobKey, inner_predictions_path

HALVING = {"name": "asha", "grace_epochs": 2, "reduction_factor": 2}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


def context_of(store: RecordStore, folder: Path, **search: Any) -> SweepContext:
    sweep = Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s"},
            "data": {"uri": "builtin://yeast"},
            "training": {"epochs": 4},
            "search": {"space": {"model.name": {"choice": ["monet", "mrnn"]}}, "trials": 4, **search},
            "folds": {"count": 2, "inner": 2},
            "budget": {"wall_seconds": 60},
        }
    )
    record = store.create_sweep(
        NewSweep(
            name="s",
            team="t",
            board="b",
            spec=sweep.model_dump(mode="json"),
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="builtin://yeast",
        )
    )
    return SweepContext(record.id, sweep, "builtin://yeast", "sha256:0", str(folder))


def ran(store: RecordStore, context: SweepContext, trial: int, epochs: tuple[int, ...]) -> None:
    """A trial whose folds, in their order, have so many epochs on record."""
    store.record_trial(context.sweep_id, trial, {"model.name": "mrnn"})
    for position, last in enumerate(epochs):
        fold, inner = divmod(position, 2)
        key = FoldJobKey(
            sweep=context.sweep_id, trial=trial, phase="search", method="mrnn", fold=fold, inner=inner, seed=0
        )
        store.ensure_fold_job(key)
        for epoch in range(1, last + 1):
            store.record_result(key, epoch, 1, {"f1_macro": 0.1})


@pytest.mark.parametrize(
    ("epochs", "wave", "rows"),
    [((), 1, 0), ((1,), 1, 0), ((2, 2, 1), 1, 2), ((2, 2, 2, 2), 1, 4), ((4, 4, 3, 2), 1, 6), ((4, 4, 3, 2), 2, 3)],
)
def test_the_rows_of_a_race_are_the_waves_that_have_reached_their_rung(
    store: RecordStore, tmp_path: Path, epochs: tuple[int, ...], wave: int, rows: int
) -> None:
    context = context_of(store, tmp_path, racing={"wave": wave}, scheduler=HALVING)
    ran(store, context, 0, epochs)
    assert replays_of(context, store, store.trials(context.sweep_id)) == {0: Replay(rows, finished=False)}


@pytest.mark.parametrize(("epochs", "rows"), [((4,), 1), ((4, 3), 1), ((4, 4, 3), 2), ((4, 4, 4, 4), 3)])
def test_the_rows_of_a_race_by_rank_are_its_levels(
    store: RecordStore, tmp_path: Path, epochs: tuple[int, ...], rows: int
) -> None:
    context = context_of(store, tmp_path, racing={"rule": "rank", "reduction_factor": 2})
    ran(store, context, 0, epochs)
    assert replays_of(context, store, store.trials(context.sweep_id)) == {0: Replay(rows, finished=False)}


def test_without_a_race_the_rows_are_the_rungs(store: RecordStore, tmp_path: Path) -> None:
    context = context_of(store, tmp_path, scheduler=HALVING)
    ran(store, context, 0, (2, 2, 2, 2))
    store.set_trial_state(context.sweep_id, 0, "stopped", value=0.1, rung=1)
    assert replays_of(context, store, store.trials(context.sweep_id)) == {0: Replay(1, finished=True)}


def test_rungs_in_seconds_are_those_that_were_written_down(store: RecordStore, tmp_path: Path) -> None:
    scheduler = {"name": "asha", "rungs": "worker_seconds", "grace": 1.0}
    context = context_of(store, tmp_path, scheduler=scheduler, racing={})
    ran(store, context, 0, (3, 3, 3, 3))
    record_rung(store, context.sweep_id, 0, Rung(2, 2, 3.5))
    found = replays_of(context, store, store.trials(context.sweep_id))
    assert found == {0: Replay(4, finished=False, rungs=(Rung(2, 2, 3.5),))}


def test_the_parts_of_subjects_come_from_the_validation_predictions(store: RecordStore, tmp_path: Path) -> None:
    assert subjects_on_record(context_of(store, tmp_path)) is None
    assert subjects_on_record(context_of(store, tmp_path, racing={"rule": "rank"})) is None
    context = context_of(store, tmp_path, racing={}, metric="accuracy")
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.int8)
    names = np.array(["a", "a", "b", "b"])
    predictions = Predictions(("x", "y"), names, names, np.arange(4), labels, labels.astype(np.float32))
    key = JobKey(3, "search", "mrnn", 1, 0, 0)
    write_predictions(inner_predictions_path(tmp_path, key), predictions, {})
    parts = subjects_on_record(context)
    assert parts is not None
    assert parts(3, {"model.name": "mrnn"}, 2) == {"a": 1.0, "b": 1.0}
    assert parts(3, {"model.name": "mrnn"}, 1) is None


class Pool:
    """Remembers whom the search gave up."""

    workers = 1

    def __init__(self) -> None:
        self.withdrawn: list[int] = []

    def withdraw(self, trial: int) -> None:
        self.withdrawn.append(trial)

    def snapshot(self) -> PoolSnapshot:
        return PoolSnapshot((), 0, 0, 0.0, 1, ("stopped", "a stop was asked for"))


@pytest.mark.parametrize(
    ("row", "verdict", "state", "value", "error"),
    [
        ({"complete": True, "ended": True, "whole": True}, None, "succeeded", 0.5, None),
        ({"whole": True}, Verdict(False), "stopped", 0.5, None),
        ({"whole": False}, Verdict(False, "raced out after 2 folds"), "stopped", None, "raced out after 2 folds"),
        ({"whole": True, "ended": True}, None, "stopped", 0.5, None),  # a generation's end
        ({"whole": True}, None, "queued", 0.5, None),  # Tune ended it, since the sweep was: it is to go on
    ],
    ids=["all epochs", "halved", "raced out", "end of a generation", "cut"],
)
def test_a_trial_ends_as_the_judge_said_and_a_cut_one_waits(
    store: RecordStore,
    tmp_path: Path,
    row: dict[str, Any],
    verdict: Verdict | None,
    state: str,
    value: float | None,
    error: str | None,
) -> None:
    context, pool = context_of(store, tmp_path), Pool()
    lock = store.acquire_lock(context.sweep_id, "driver")
    store.record_trial(context.sweep_id, 0, {"model.name": "mrnn"})
    verdicts = {} if verdict is None else {0: verdict}
    recorder = TrialRecorder(store, context, lock.token, pool, set(), verdicts, ())
    trial = SimpleNamespace(config={"number": 0}, last_result={"value": 0.5, "rung": 1, "spent": None, **row})
    recorder.on_trial_result(0, [], trial, trial.last_result)
    recorder.on_trial_complete(0, [], trial)
    [found] = store.trials(context.sweep_id)
    assert (found.state, found.value, found.error) == (state, value, error)
    assert pool.withdrawn == ([0] if state == "stopped" else [])
