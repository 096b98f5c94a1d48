"""The driver's pulse against real records: it pays ahead, hears a stop, and never pays more than the limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from duchenne.driver import heartbeat as heartbeat_module
from duchenne.driver.heartbeat import BudgetSpent, Heartbeat
from duchenne.records import Amounts, Lock, NewSweep, RecordStore, holder_name, open_home


class EndedPool:
    """Keeps what the heartbeat tells a pool."""

    def __init__(self) -> None:
        self.ending: tuple[str, str] | None = None

    def end(self, state: str, reason: str) -> None:
        self.ending = (state, reason)

    def wait(self) -> tuple[str, str]:
        deadline = time.monotonic() + 10
        while self.ending is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.ending is not None, "the pool was never ended"
        return self.ending


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordStore]:
    monkeypatch.setattr(heartbeat_module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat_module, "TEARDOWN_SECONDS", 0.2)
    with open_home(tmp_path) as opened:
        yield opened


def locked_sweep(store: RecordStore, wall_seconds: float | None) -> Lock:
    record = store.create_sweep(
        NewSweep(
            name="s",
            team="t",
            board="b",
            spec={},
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="nowhere",
            budget=Amounts(wall_seconds=wall_seconds),
        )
    )
    lock = store.acquire_lock(record.id, holder_name(), 60)
    store.set_sweep_state(record.id, "running", token=lock.token)
    return lock


def test_wall_time_is_settled_on_what_passed(store: RecordStore) -> None:
    lock = locked_sweep(store, 100)
    began = time.monotonic()
    with Heartbeat(store, lock, priced=False):
        time.sleep(0.5)
    passed = time.monotonic() - began
    totals = store.ledger.totals(lock.sweep)
    assert totals["spent"].wall_seconds == pytest.approx(passed, abs=0.2)
    assert totals["reserved"].wall_seconds == 0
    assert totals["spent"].usd is None  # without a price the cost is unknown, not 0


def test_the_sweep_is_exhausted_before_the_limit_is_passed(store: RecordStore) -> None:
    lock = locked_sweep(store, 0.8)
    pool = EndedPool()
    with Heartbeat(store, lock, priced=False) as pulse:
        pulse.watch(pool)  # type: ignore[arg-type]
        state, reason = pool.wait()
    assert state == "exhausted"
    assert "wall_seconds" in reason
    spent = store.ledger.totals(lock.sweep)["spent"].wall_seconds
    assert spent is not None
    assert spent <= 0.8


def test_a_sweep_without_time_left_does_not_begin(store: RecordStore) -> None:
    lock = locked_sweep(store, 0.1)
    with pytest.raises(BudgetSpent, match="wall_seconds"), Heartbeat(store, lock, priced=False):
        pytest.fail("the block must not be entered")


def test_a_stop_is_heard(store: RecordStore) -> None:
    lock = locked_sweep(store, None)
    pool = EndedPool()
    with Heartbeat(store, lock, priced=False) as pulse:
        pulse.watch(pool)  # type: ignore[arg-type]
        store.request_stop(lock.sweep, actor="somebody")
        assert pool.wait() == ("stopped", "a stop was asked for")


def test_a_driver_that_lost_its_lock_ends_its_pool(store: RecordStore) -> None:
    lock = locked_sweep(store, None)
    pool = EndedPool()
    with Heartbeat(store, lock, priced=False) as pulse:
        pulse.watch(pool)  # type: ignore[arg-type]
        store.acquire_lock(lock.sweep, "another", 60, is_gone=lambda holder: True)
        state, reason = pool.wait()
    assert state == "stopped"
    assert lock.sweep in reason
