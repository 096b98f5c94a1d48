"""Fold jobs, attempts, results and trials in memory and in a database answer the same calls alike."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from duchenne.records import FoldJobKey, NewSweep, RecordsError, RecordStore, open_store
from duchenne.records.rows import OUTCOMES, TRIAL_STATES
from duchenne.simulation.records import MemoryRecords

SWEEP = "sweep-0"
numbers = st.integers(0, 1)
folds = st.integers(0, 1)


def key(trial: int, fold: int, phase: Any = "search") -> FoldJobKey:
    inner = 0 if phase == "search" else None
    return FoldJobKey(sweep=SWEEP, trial=trial, phase=phase, method="monet", fold=fold, inner=inner, seed=0)


class TwoRecords(RuleBasedStateMachine):
    """Every call goes to both; attempts are told apart by the order in which they began."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.database = open_store(self.folder / "records.sqlite", clock=lambda: self.time)
        self.memory = MemoryRecords(lambda: self.time)
        new = NewSweep(name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="")
        for store in (self.database, self.memory):
            store.create_sweep(new, SWEEP)
        self.tokens = [store.acquire_lock(SWEEP, "d", is_gone=lambda _: True) for store in self.stores]
        self.attempts: list[tuple[int, int]] = []

    @property
    def stores(self) -> tuple[RecordStore, MemoryRecords]:
        return self.database, self.memory

    def both(self, call: Callable[[Any, int], Any]) -> tuple[Any, Any]:
        answers: list[Any] = []
        for place, store in enumerate(self.stores):
            try:
                answers.append(call(store, place))
            except RecordsError as error:
                answers.append(error)
        assert type(answers[0]) is type(answers[1])
        assert told(answers[0]) == told(answers[1])
        return answers[0], answers[1]

    @rule(trial=numbers, fold=folds, phase=st.sampled_from(["search", "evaluation"]))
    def ensure(self, trial: int, fold: int, phase: str) -> None:
        self.both(lambda store, _: store.ensure_fold_jobs([key(trial, fold, phase), key(trial, 1 - fold, phase)]))

    @rule(trial=numbers, fold=folds)
    def start(self, trial: int, fold: int) -> None:
        one, other = self.both(lambda store, _: store.start_attempt(key(trial, fold), "w"))
        if not isinstance(one, RecordsError):
            self.attempts.append((one.id, other.id))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 99), outcome=st.sampled_from(OUTCOMES), limit=st.integers(1, 3))
    def finish(self, which: int, outcome: Any, limit: int) -> None:
        attempt = self.attempts[which % len(self.attempts)]
        self.both(
            lambda store, place: store.finish_attempt(
                attempt[place], outcome, seconds=1.5, epochs=2, error="e", predictions="p", retry_limit=limit
            )
        )

    @rule(trial=numbers, fold=folds, epoch=st.integers(1, 3), value=st.floats(0, 1))
    def result(self, trial: int, fold: int, epoch: int, value: float) -> None:
        self.both(lambda store, _: store.record_result(key(trial, fold), epoch, 1, {"f1_macro": value}))
        self.both(lambda store, _: store.metrics_at(key(trial, fold), epoch))
        self.both(lambda store, _: store.last_epoch(key(trial, fold)))

    @rule(trial=numbers)
    def stop(self, trial: int) -> None:
        self.both(lambda store, _: store.stop_fold_jobs(SWEEP, trial))

    @rule(limit=st.integers(1, 3))
    def requeue(self, limit: int) -> None:
        self.both(lambda store, place: store.requeue_unfinished(SWEEP, token=None, retry_limit=limit))

    @rule(number=numbers, value=st.integers(0, 1))
    def trial(self, number: int, value: int) -> None:
        self.both(lambda store, place: store.record_trial(SWEEP, number, {"n": value}, token=self.tokens[place].token))

    @rule(
        number=numbers, state=st.sampled_from(TRIAL_STATES), value=st.none() | st.floats(0, 1), rung=st.integers(0, 3)
    )
    def trial_state(self, number: int, state: Any, value: float | None, rung: int) -> None:
        self.both(lambda store, place: store.set_trial_state(SWEEP, number, state, value=value, rung=rung))

    @rule()
    def another_driver(self) -> None:
        """Whoever writes with the token of before is refused."""
        before = self.tokens
        self.tokens = [store.acquire_lock(SWEEP, "d", is_gone=lambda _: True) for store in self.stores]
        self.both(lambda store, place: store.renew_lock(before[place]))

    @rule(seconds=st.integers(1, 100))
    def wait(self, seconds: int) -> None:
        self.time += timedelta(seconds=seconds)

    @invariant()
    def records_agree(self) -> None:
        for read in ("fold_jobs", "trials", "results", "attempts"):
            self.both(lambda store, _, read=read: getattr(store, read)(SWEEP))

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)


def told(answer: Any) -> Any:
    """What an answer says, without the ids and tokens that each store gives by itself."""
    if isinstance(answer, list):
        return [told(each) for each in answer]
    if isinstance(answer, RecordsError):
        return type(answer).__name__
    if hasattr(answer, "__dataclass_fields__"):
        fields = asdict(answer)
        return {name: value for name, value in fields.items() if name not in ("id", "fold_job", "token")}
    return answer


TestRecordsAgree = TwoRecords.TestCase
TestRecordsAgree.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
