"""Contract: sweeps, trials, entries and the audit."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from datetime import UTC
from typing import Any

import numpy as np
import pytest

from duchenne.records import (
    Amounts,
    Lock,
    LockLostError,
    NewEntry,
    NotFoundError,
    PredictionFile,
    RecordsConflictError,
    RecordsError,
    RecordStore,
    Sweep,
)


def test_a_sweep_is_recorded_as_given_under_a_readable_id(store: RecordStore, sweep: Sweep) -> None:
    assert re.fullmatch(r"yeast-quickstart-[0-9a-f]{4}", sweep.id)
    assert (sweep.state, sweep.spec["seeds"], sweep.created_at.tzinfo) == ("queued", [0, 1], UTC)
    assert store.get_sweep(sweep.id) == sweep


def test_many_sweeps_of_one_name_get_ids_of_their_own(make_sweep: Callable[..., Sweep]) -> None:
    ids = {make_sweep(name="!!").id for _ in range(40)}
    assert len(ids) == 40
    assert all(identifier.startswith("sweep-") for identifier in ids)


def test_a_sweep_is_found_by_the_beginning_of_its_id(store: RecordStore, make_sweep: Callable[..., Sweep]) -> None:
    first, second = make_sweep(name="alpha"), make_sweep(name="beta")
    assert store.get_sweep("alp") == first
    assert store.get_sweep(second.id[:-1]) == second


@pytest.mark.parametrize(
    ("asked", "message"),
    [("", "no ''"), ("alpha", "begins 2: alpha-"), ("alpah", r"no 'alpah'"), ("%", "no '%'"), ("_", "no '_'")],
)
def test_an_id_that_names_none_or_several_is_refused(
    store: RecordStore, make_sweep: Callable[..., Sweep], asked: str, message: str
) -> None:
    make_sweep(name="alpha")
    make_sweep(name="alpha")
    with pytest.raises(NotFoundError, match=message):
        store.get_sweep(asked)


def test_a_typo_in_an_id_names_the_nearest(store: RecordStore, sweep: Sweep) -> None:
    with pytest.raises(LookupError, match=f"did you mean {sweep.id}"):
        store.get_sweep(sweep.id.replace("yeast", "yaest"))


def test_states_follow_the_life_of_a_sweep(store: RecordStore, sweep: Sweep, lock: Lock, clock: Any) -> None:
    running = store.set_sweep_state(sweep.id, "running", token=lock.token)
    clock.advance(5)
    ended = store.set_sweep_state(sweep.id, "exhausted", token=lock.token, error="budget spent")
    clock.advance(5)
    resumed = store.set_sweep_state(sweep.id, "running", token=lock.token)
    assert (ended.started_at, ended.error) == (running.started_at, "budget spent")
    assert ended.ended_at is not None
    assert (resumed.ended_at, resumed.error, resumed.started_at) == (None, None, running.started_at)
    store.set_sweep_state(sweep.id, "succeeded", token=lock.token)
    with pytest.raises(RecordsConflictError, match="final"):
        store.set_sweep_state(sweep.id, "running", token=lock.token)
    assert store.get_sweep(sweep.id).state == "succeeded"


def test_a_sweep_cannot_succeed_before_it_runs(store: RecordStore, sweep: Sweep, lock: Lock) -> None:
    with pytest.raises(RecordsConflictError, match="queued may become"):
        store.set_sweep_state(sweep.id, "succeeded", token=lock.token)


def test_an_unknown_state_is_refused(store: RecordStore, sweep: Sweep, lock: Lock) -> None:
    with pytest.raises(RecordsError, match="'done'"):
        store.set_sweep_state(sweep.id, "done", token=lock.token)  # type: ignore[arg-type]


def test_a_stop_waits_for_the_driver_or_ends_what_nobody_drives(
    store: RecordStore, make_sweep: Callable[..., Sweep], sweep: Sweep, lock: Lock, clock: Any
) -> None:
    store.set_sweep_state(sweep.id, "running", token=lock.token)
    assert store.request_stop(sweep.id, actor="ann").state == "running"
    assert store.stop_requested(sweep.id)
    idle = make_sweep(name="idle")
    assert store.request_stop(idle.id).state == "stopped"
    clock.advance(61)
    assert store.request_stop(sweep.id).state == "stopped", "its driver's lock ran out"
    assert not store.set_sweep_state(sweep.id, "running", token=lock.token).stop_requested
    event = store.events(sweep.id)[0]
    assert (event.actor, event.what) == ("ann", "stop requested")


def test_a_stop_leaves_a_finished_sweep_alone(store: RecordStore, sweep: Sweep, lock: Lock) -> None:
    store.set_sweep_state(sweep.id, "running", token=lock.token)
    ended = store.set_sweep_state(sweep.id, "succeeded", token=lock.token)
    assert store.request_stop(sweep.id) == ended


def test_data_and_folds_are_bound_once(store: RecordStore, sweep: Sweep) -> None:
    bound = store.bind_data(sweep.id, dataset_digest="d1", folds_digest="f1")
    assert store.bind_data(sweep.id, dataset_digest="d1", folds_digest="f1") == bound
    with pytest.raises(RecordsConflictError, match="has folds_digest f1 and now sees f2"):
        store.bind_data(sweep.id, dataset_digest="d1", folds_digest="f2")
    assert [found.id for found in store.sweeps_of_dataset("d1")] == [sweep.id]
    assert store.sweeps_of_dataset("d2") == []


def test_summaries_count_trials_and_leave_unknown_costs_null(
    store: RecordStore, make_sweep: Callable[..., Sweep], sweep: Sweep
) -> None:
    free, priced = sweep, make_sweep(name="priced")
    for number in range(3):
        store.record_trial(free.id, number, {})
    spend = {"ttl": 10, "holder": "w", "kind": "fold_job"}
    lease = store.ledger.reserve(free.id, Amounts(gpu_seconds=10), **spend)
    store.ledger.settle(lease.id, Amounts(gpu_seconds=5))  # type: ignore[union-attr]
    lease = store.ledger.reserve(priced.id, Amounts(usd=2), **spend)
    store.ledger.settle(lease.id, Amounts(usd=1.5))  # type: ignore[union-attr]
    found = {summary.id: dataclasses.asdict(summary) for summary in store.summaries()}
    assert found[free.id]["trials"] == 3
    assert found[free.id]["spent_usd"] is None
    assert (found[priced.id]["trials"], found[priced.id]["spent_usd"]) == (0, 1.5)
    assert set(found[free.id]) == {"id", "name", "team", "state", "trials", "spent_usd"}


def test_lists_keep_to_a_team_or_board_and_start_with_the_newest(
    store: RecordStore, make_sweep: Callable[..., Sweep], clock: Any
) -> None:
    first = make_sweep(name="a", team="faces")
    clock.advance(1)
    second = make_sweep(name="b", team="voices")
    assert [found.id for found in store.list_sweeps()] == [second.id, first.id]
    assert [found.id for found in store.list_sweeps(team="faces")] == [first.id]
    assert store.list_sweeps(board="none") == []
    assert [found.id for found in store.summaries(team="voices")] == [second.id]


def test_a_trial_is_recorded_once_and_keeps_its_configuration(store: RecordStore, sweep: Sweep) -> None:
    config = {"model.orders.count": np.int64(8), "training.learning_rate": np.float32(0.5), "loss.smoothing.name": "ls"}
    first = store.record_trial(sweep.id, 0, config)
    assert first.config == {
        "model.orders.count": 8,
        "training.learning_rate": 0.5,
        "loss.smoothing.name": "ls",
    }
    assert store.record_trial(sweep.id, 0, config, state="running") == first
    with pytest.raises(RecordsConflictError, match="trial 0"):
        store.record_trial(sweep.id, 0, {"model.orders.count": 16})


def test_a_finished_trial_is_not_modified(store: RecordStore, sweep: Sweep, clock: Any) -> None:
    store.record_trial(sweep.id, 0, {})
    store.set_trial_state(sweep.id, 0, "running", value=0.3, rung=1)
    store.set_trial_state(sweep.id, 0, "queued")
    clock.advance(3)
    done = store.set_trial_state(sweep.id, 0, "succeeded", value=0.4, rung=2)
    assert (done.value, done.rung, done.state) == (0.4, 2, "succeeded")
    assert done.started_at is not None
    assert done.ended_at is not None
    assert done.ended_at > done.started_at
    assert store.set_trial_state(sweep.id, 0, "succeeded", value=0.9) == done
    with pytest.raises(RecordsConflictError, match="is succeeded and was to become failed"):
        store.set_trial_state(sweep.id, 0, "failed")
    assert store.trials(sweep.id) == [done]


def test_a_trial_must_exist_to_move(store: RecordStore, sweep: Sweep) -> None:
    with pytest.raises(NotFoundError, match="no trial 7"):
        store.set_trial_state(sweep.id, 7, "running")


def test_a_trial_without_a_number_has_none(store: RecordStore, sweep: Sweep) -> None:
    store.record_trial(sweep.id, 0, {})
    assert store.set_trial_state(sweep.id, 0, "failed", value=float("nan"), error="NaN loss").value is None


def test_writes_of_a_driver_that_lost_its_lock_are_refused(store: RecordStore, sweep: Sweep, lock: Lock) -> None:
    store.release_lock(lock)
    store.acquire_lock(sweep.id, "driver-two")
    for write in (
        lambda: store.record_trial(sweep.id, 0, {}, token=lock.token),
        lambda: store.set_sweep_state(sweep.id, "running", token=lock.token),
        lambda: store.bind_data(sweep.id, dataset_digest="d", folds_digest="f", token=lock.token),
    ):
        with pytest.raises(LockLostError, match="stop this driver"):
            write()
    assert store.trials(sweep.id) == []


def _entry(sweep: Sweep, method: str = "monet", digest: str = "d0") -> NewEntry:
    return NewEntry(
        board="yeast",
        team="faces",
        sweep=sweep.id,
        method=method,
        label="MONET, 32 orders",
        config={"model": {"name": method}},
        verified="verified",
        metrics={"f1_macro": np.float64(0.5), "auc_macro": float("nan")},
        per_fold=[{"fold": 0, "f1_macro": 0.5}],
        predictions=(PredictionFile(fold=0, seed=0, path="predictions/0.arrow", digest=digest),),
        dataset_digest="data",
        folds_digest="folds",
        trials=4,
    )


def test_an_entry_is_saved_once_and_never_replaced(store: RecordStore, sweep: Sweep) -> None:
    saved = store.save_entry(_entry(sweep))
    assert saved.id == f"{sweep.id}.monet"
    assert (saved.metrics, saved.cost_usd, saved.trials) == ({"f1_macro": 0.5, "auc_macro": None}, None, 4)
    assert store.save_entry(_entry(sweep)) == saved
    with pytest.raises(RecordsConflictError, match="never replaced"):
        store.save_entry(_entry(sweep, digest="d1"))
    store.save_entry(_entry(sweep, method="mrnn"))
    assert store.boards() == ["yeast"]
    assert {entry.method for entry in store.entries("yeast")} == {"monet", "mrnn"}
    assert store.entries("other") == []
    assert store.get_entry(saved.id) == saved
    with pytest.raises(NotFoundError, match="latest are"):
        store.get_entry("nothing")


def test_the_audit_keeps_its_order(store: RecordStore, sweep: Sweep) -> None:
    store.record_event("submitted", sweep=sweep.id, actor="ann", detail={"cost": float("inf")})
    store.record_event("pruned", actor="operator\x00")
    store.set_budget(sweep.id, Amounts(usd=5), actor="bob")
    everything = store.events()
    assert [event.what for event in everything] == ["submitted", "pruned", "budget changed"]
    assert (everything[0].detail, everything[1].actor) == ({"cost": None}, "operator\\x00")
    assert [event.what for event in store.events(sweep.id, after=everything[0].id)] == ["budget changed"]
    assert len(store.events(limit=1)) == 1
    assert store.get_sweep(sweep.id).budget == Amounts(usd=5)


def test_a_sweep_that_does_not_exist_is_named(store: RecordStore) -> None:
    for call in (
        lambda: store.record_trial("nowhere", 0, {}),
        lambda: store.request_stop("nowhere"),
        lambda: store.stop_requested("nowhere"),
        lambda: store.record_event("w", sweep="nowhere", actor="a"),
        lambda: store.acquire_lock("nowhere", "driver"),
        lambda: store.ledger.balance("nowhere"),
    ):
        with pytest.raises(NotFoundError, match="'nowhere'"):
            call()


def test_frozen_copies_go_to_json(store: RecordStore, sweep: Sweep) -> None:
    text = json.dumps(dataclasses.asdict(sweep), default=str, allow_nan=False)
    assert json.loads(text)["id"] == sweep.id
    with pytest.raises(dataclasses.FrozenInstanceError):
        sweep.state = "failed"  # type: ignore[misc]
