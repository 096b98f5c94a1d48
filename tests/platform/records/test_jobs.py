"""Contract: fold jobs, attempts, and results that are written once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.records import (
    Attempt,
    FoldJobKey,
    Lock,
    LockLostError,
    NotFoundError,
    RecordsConflictError,
    RecordsError,
    RecordStore,
    Sweep,
)
from duchenne.records.clean import TEXT_LIMIT, finite, text, to_json

MakeKey = Callable[..., FoldJobKey]


def test_a_key_means_one_job(store: RecordStore, make_key: MakeKey) -> None:
    first = store.ensure_fold_job(make_key())
    assert store.ensure_fold_job(make_key()) == first
    assert store.get_fold_job(make_key()) == first


def test_jobs_without_a_trial_or_an_inner_fold_are_unique_too(store: RecordStore, make_key: MakeKey) -> None:
    key = make_key(trial=None, phase="evaluation", method="logistic_regression", inner=None)
    first, again = store.ensure_fold_jobs([key, key])
    assert first == again
    assert (first.key.trial, first.key.inner) == (None, None)
    assert len(store.fold_jobs(key.sweep)) == 1


def test_jobs_come_back_in_the_order_asked_and_are_found_by_what_they_are(
    store: RecordStore, make_key: MakeKey, sweep: Sweep
) -> None:
    keys = [make_key(fold=fold, trial=trial) for trial in (1, 0) for fold in (2, 0, 1)]
    assert [job.key for job in store.ensure_fold_jobs(keys)] == keys
    store.start_attempt(keys[3], "w")
    store.ensure_fold_job(make_key(phase="evaluation", inner=None))
    assert [job.key for job in store.fold_jobs(sweep.id, trial=1)] == keys[:3]
    assert [job.key for job in store.fold_jobs(sweep.id, state="running")] == [keys[3]]
    assert (store.count_fold_jobs(sweep.id, ["queued", "running"]), store.count_fold_jobs(sweep.id, [])) == (7, 0)
    assert len(store.fold_jobs(sweep.id, phase="evaluation")) == 1
    assert store.ensure_fold_jobs([]) == []


def test_a_phase_that_is_none_and_mixed_sweeps_are_refused(store: RecordStore, make_key: MakeKey) -> None:
    with pytest.raises(RecordsError, match="phase search or evaluation"):
        store.ensure_fold_job(make_key(phase="test"))
    with pytest.raises(RecordsError, match="one sweep at a time"):
        store.ensure_fold_jobs([make_key(), make_key(sweep="other")])


def test_of_many_workers_one_starts_a_job(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    started: list[Attempt] = []
    refused: list[str] = []

    def work(number: int) -> None:
        try:
            started.append(store.start_attempt(make_key(), f"w{number}"))
        except RecordsConflictError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    assert len(refused) == 7
    assert "trial 0 search monet fold 0 inner 0 seed 0 is running" in refused[0]


def test_what_is_recorded_never_runs_twice(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    attempt = store.start_attempt(make_key(), "w")
    done = store.finish_attempt(
        attempt.id, "succeeded", seconds=2.5, epochs=3, predictions="p.arrow", predictions_digest="sha256:p"
    )
    assert (done.state, done.predictions, done.predictions_digest) == ("succeeded", "p.arrow", "sha256:p")
    with pytest.raises(RecordsConflictError, match="is succeeded"):
        store.start_attempt(make_key(), "w")
    assert store.ensure_fold_job(make_key()) == done
    assert store.finish_attempt(attempt.id, "failed", error="too late") == done
    (row,) = store.attempts(make_key().sweep)
    assert (row.outcome, row.seconds, row.epochs, row.worker) == ("succeeded", 2.5, 3, "w")


def test_a_job_that_dies_three_times_is_failed_with_its_error(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    states = []
    for outcome in ("failed", "interrupted", "paused", "lost", "interrupted", "failed"):
        attempt = store.start_attempt(make_key(), "w")
        states.append(store.finish_attempt(attempt.id, outcome, error=f"{outcome} once").state)  # type: ignore[arg-type]
    assert states == ["queued"] * 5 + ["failed"]
    job = store.get_fold_job(make_key())
    assert (job.attempts, job.error) == (6, "failed once")
    assert job.ended_at is not None


def test_an_error_that_would_repeat_is_final_at_once(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    attempt = store.start_attempt(make_key(), "w")
    assert store.finish_attempt(attempt.id, "failed", error="NaN loss", retry_limit=1).state == "failed"


def test_a_stopped_trial_finishes_its_queued_jobs(store: RecordStore, make_key: MakeKey, sweep: Sweep) -> None:
    store.ensure_fold_jobs([make_key(fold=fold) for fold in range(3)] + [make_key(trial=1)])
    attempt = store.start_attempt(make_key(fold=0), "w")
    assert store.stop_fold_jobs(sweep.id, 0) == 2
    assert store.finish_attempt(attempt.id, "stopped").state == "stopped"
    assert [job.state for job in store.fold_jobs(sweep.id)] == ["stopped"] * 3 + ["queued"]


def test_a_new_driver_takes_up_what_the_old_one_left(
    store: RecordStore, make_key: MakeKey, sweep: Sweep, lock: Lock
) -> None:
    store.ensure_fold_jobs([make_key(fold=fold) for fold in range(3)])
    done = store.start_attempt(make_key(fold=0), "w")
    store.finish_attempt(done.id, "succeeded")
    late = store.start_attempt(make_key(fold=1), "w")
    assert [job.key.fold for job in store.requeue_unfinished(sweep.id, token=lock.token)] == [1]
    assert [job.state for job in store.fold_jobs(sweep.id)] == ["succeeded", "queued", "queued"]
    second = store.start_attempt(make_key(fold=1), "w2")
    assert second.number == 2
    assert store.finish_attempt(late.id, "succeeded").state == "running", "the lost attempt has no say any more"
    assert [attempt.outcome for attempt in store.attempts(sweep.id)] == ["succeeded", "lost", None]
    with pytest.raises(LockLostError):
        store.requeue_unfinished(sweep.id, token="stale")  # noqa: S106
    store.requeue_unfinished(sweep.id, token=lock.token)
    store.start_attempt(make_key(fold=1), "w3")
    (job,) = store.requeue_unfinished(sweep.id, token=lock.token)
    assert job.state == "failed"
    assert "3 attempts" in (job.error or "")


def test_results_are_written_once_whoever_comes_second(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    assert store.record_result(make_key(), 1, 1, {"f1_macro": 0.4})
    assert not store.record_result(make_key(), 1, 2, {"f1_macro": 0.9})
    assert store.record_result(make_key(), 2, 2, {"f1_macro": np.float32(0.5)})
    (first, second) = store.results(make_key().sweep)
    assert dataclasses.asdict(first) == {
        "trial": 0,
        "phase": "search",
        "fold": 0,
        "seed": 0,
        "epoch": 1,
        "attempt": 1,
        "metrics": {"f1_macro": 0.4},
        "method": "monet",
        "inner": 0,
    }
    assert (second.epoch, second.metrics) == (2, {"f1_macro": 0.5})
    assert store.last_epoch(make_key()) == 2
    assert store.last_epoch(make_key(fold=9)) is None
    assert store.metrics_at(make_key(), 2) == {"f1_macro": 0.5}
    assert store.metrics_at(make_key(), 3) is None


def test_results_of_threads_that_race_are_written_once(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    wrote: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda number=number: wrote.extend(
                store.record_result(make_key(), epoch, number, {"x": number}) for epoch in range(10)
            )
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(wrote), sum(wrote)) == (40, 10)
    assert [row.epoch for row in store.results(make_key().sweep)] == list(range(10))


def test_results_keep_to_a_phase(store: RecordStore, make_key: MakeKey, sweep: Sweep) -> None:
    sealed = make_key(phase="evaluation", inner=None)
    store.ensure_fold_jobs([make_key(), sealed])
    store.record_result(make_key(), 1, 1, {"a": 1})
    store.record_result(sealed, 1, 1, {"a": 2})
    assert [row.metrics for row in store.results(sweep.id, phase="evaluation")] == [{"a": 2}]


def test_numbers_that_json_lacks_become_null(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    store.record_result(make_key(), 0, 1, {"nan": float("nan"), "inf": np.float64("inf"), "ok": 1.0})
    (row,) = store.results(make_key().sweep)
    assert row.metrics == {"nan": None, "inf": None, "ok": 1.0}


def test_a_job_must_be_recorded_first(store: RecordStore, make_key: MakeKey) -> None:
    for call in (
        lambda: store.record_result(make_key(), 0, 1, {}),
        lambda: store.start_attempt(make_key(), "w"),
        lambda: store.get_fold_job(make_key()),
    ):
        with pytest.raises(NotFoundError, match="trial 0 search monet fold 0"):
            call()
    with pytest.raises(NotFoundError, match="id 99"):
        store.finish_attempt(99, "failed")
    with pytest.raises(RecordsError, match="'died'"):
        store.finish_attempt(99, "died")  # type: ignore[arg-type]


def test_errors_are_kept_readable_whatever_they_hold(store: RecordStore, make_key: MakeKey) -> None:
    store.ensure_fold_job(make_key())
    attempt = store.start_attempt(make_key(), "w")
    noise = "first line\n" + "x" * 100_000 + "\x00\udcff last"
    job = store.finish_attempt(attempt.id, "failed", error=noise, retry_limit=1)
    assert job.error is not None
    assert job.error.startswith("first line\n")
    assert job.error.endswith("\\x00\\udcff last")
    assert len(job.error) <= TEXT_LIMIT


json_like: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(json_like)
@settings(max_examples=60)
def test_whatever_is_stored_is_valid_json(value: Any) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    import json

    assert json.loads(to_json(value), parse_constant=refuse) == finite(value)


@given(st.text(alphabet=st.characters(), max_size=60))
@settings(max_examples=60)
def test_text_for_a_column_is_utf8_without_nul(value: str) -> None:
    cleaned = text(value)
    assert cleaned is not None
    assert "\x00" not in cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    if value.isprintable():
        assert cleaned == value
