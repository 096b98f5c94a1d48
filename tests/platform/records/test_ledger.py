"""Contract: nothing is spent that was not reserved, and nothing is reserved beyond the limit."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from duchenne.records import (
    Amounts,
    Lease,
    NewSweep,
    NotFoundError,
    RecordsConflictError,
    RecordsError,
    RecordStore,
    Refusal,
    Sweep,
    open_store,
)

MakeSweep = Callable[..., Sweep]


def reserve(store: RecordStore, sweep: Sweep, **amounts: float) -> Lease | Refusal:
    return store.ledger.reserve(sweep.id, Amounts(**amounts), ttl=60, holder="worker", kind="fold_job")


def granted(answer: Lease | Refusal) -> Lease:
    assert isinstance(answer, Lease), answer
    return answer


def refused(answer: Lease | Refusal | None) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer


def test_a_lease_is_granted_up_to_the_limit_and_no_further(store: RecordStore, make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget=Amounts(usd=1.0))
    leases = [granted(reserve(store, sweep, usd=0.1)) for _ in range(10)]
    refusal = refused(reserve(store, sweep, usd=1e-9))
    assert refusal == Refusal(sweep=sweep.id, unit="usd", limit=1, spent=0, reserved=1, asked=1e-9)
    store.ledger.settle(leases[0].id, Amounts(usd=0.04))
    assert granted(reserve(store, sweep, usd=0.06))
    refusal = refused(reserve(store, sweep, usd=0.01))
    assert (refusal.spent, refusal.reserved, refusal.asked) == (0.04, 0.96, 0.01)
    assert "0.04 + 0.96 + 0.01 > 1 usd" in refusal.reason


def test_each_unit_has_its_own_limit(store: RecordStore, make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget=Amounts(usd=10, gpu_seconds=100, wall_seconds=1000))
    assert refused(reserve(store, sweep, usd=1, gpu_seconds=101, wall_seconds=1)).unit == "gpu_seconds"
    assert refused(reserve(store, sweep, usd=1, gpu_seconds=1, wall_seconds=1001)).unit == "wall_seconds"
    unknown = refused(reserve(store, sweep, gpu_seconds=1, wall_seconds=1))
    assert (unknown.unit, unknown.asked) == ("usd", None)
    assert "give the resource a price" in unknown.reason
    assert store.ledger.leases(sweep.id) == []


def test_what_has_no_limit_is_counted_and_never_refused(store: RecordStore, sweep: Sweep) -> None:
    granted(reserve(store, sweep, gpu_seconds=1e9))
    assert store.ledger.balance(sweep.id) == {
        "budget": {"usd": None, "gpu_hours": None, "wall_seconds": None},
        "spent": {"usd": None, "gpu_hours": 0.0, "wall_seconds": None},
        "reserved": {"usd": None, "gpu_hours": pytest.approx(1e9 / 3600), "wall_seconds": None},
        "wasted": {"usd": None, "gpu_hours": 0.0, "wall_seconds": None},
    }


def test_limits_given_with_the_call_win(store: RecordStore, make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget=Amounts(usd=100))
    answer = store.ledger.reserve(
        sweep.id, Amounts(usd=2), limits=Amounts(usd=1), ttl=60, holder="w", kind="node", resource={"gpus": 1}
    )
    assert refused(answer).limit == 1


def test_renewing_reserves_more_and_runs_longer(store: RecordStore, make_sweep: MakeSweep, clock: Any) -> None:
    sweep = make_sweep(budget=Amounts(usd=1))
    lease = granted(reserve(store, sweep, usd=0.5))
    clock.advance(50)
    assert store.ledger.renew(lease.id, Amounts(usd=0.4), ttl=60) is None
    (longer,) = store.ledger.leases(sweep.id)
    assert (longer.reserved.usd, (longer.expires_at - lease.expires_at).total_seconds()) == (0.9, 50)
    assert refused(store.ledger.renew(lease.id, Amounts(usd=0.2), ttl=60)).reserved == 0.9
    assert store.ledger.leases(sweep.id, open_only=True) == [longer]


def test_a_lease_that_ran_out_is_not_renewed(store: RecordStore, sweep: Sweep, clock: Any) -> None:
    lease = granted(reserve(store, sweep, usd=1))
    clock.advance(60)
    with pytest.raises(RecordsConflictError, match="ran out at 00:01:00"):
        store.ledger.renew(lease.id, Amounts(usd=1), ttl=60)
    store.ledger.settle(lease.id, Amounts(usd=1))
    with pytest.raises(RecordsConflictError, match="was settled"):
        store.ledger.renew(lease.id, Amounts(usd=1), ttl=60)


def test_a_vanished_holder_costs_its_full_reservation(store: RecordStore, make_sweep: MakeSweep, clock: Any) -> None:
    sweep = make_sweep(budget=Amounts(usd=1))
    lost, kept = granted(reserve(store, sweep, usd=0.6)), granted(reserve(store, sweep, usd=0.1))
    clock.advance(59)
    assert store.ledger.renew(kept.id, Amounts(usd=0), ttl=60) is None
    assert store.ledger.expire() == []
    clock.advance(1)
    assert refused(reserve(store, sweep, usd=0.4)).reserved == 0.7, "unsettled still counts in full"
    (ended,) = store.ledger.expire(sweep=sweep.id)
    assert (ended.id, ended.spent.usd, ended.wasted) == (lost.id, 0.6, True)
    assert store.ledger.expire() == []
    balance = store.ledger.balance(sweep.id)
    assert [balance[name]["usd"] for name in ("budget", "spent", "reserved", "wasted")] == [1, 0.6, 0.1, 0.6]
    assert [event.what for event in store.events(sweep.id)] == ["lease expired"]


@pytest.mark.parametrize(("told", "then"), [(0.9, 0.2), (0.2, 0.9)])
def test_a_late_report_counts_once_in_place_of_what_was_presumed(
    store: RecordStore, make_sweep: MakeSweep, clock: Any, told: float, then: float
) -> None:
    sweep = make_sweep(budget=Amounts(usd=1))
    lease = granted(reserve(store, sweep, usd=0.6))
    clock.time = clock.time.replace(day=31, hour=23, minute=59)
    (ended,) = store.ledger.expire()
    assert (ended.spent.usd, ended.wasted) == (0.6, True)
    clock.advance(120)
    settled = store.ledger.settle(lease.id, Amounts(usd=told))
    assert (settled.spent.usd, settled.wasted, settled.settled_at) == (told, False, ended.settled_at)
    assert store.ledger.settle(lease.id, Amounts(usd=then), wasted=True) == settled
    totals = store.ledger.totals(sweep.id)
    assert (totals["spent"].usd, totals["reserved"].usd, totals["wasted"].usd) == (told, 0.0, 0.0)
    assert store.ledger.month(sweep.team)["spent"].usd is None, "it counts in the month in which it ran out"
    assert store.ledger.month(sweep.team, ended.settled_at)["spent"].usd == told
    assert [event.what for event in store.events(sweep.id)] == ["lease expired"] + 2 * ["lease settled late"]
    assert refused(reserve(store, sweep, usd=1.01 - told)).spent == told, "what was used leaves that much less"


def test_a_late_report_of_what_was_presumed_is_the_holders_word_too(
    store: RecordStore, sweep: Sweep, clock: Any
) -> None:
    lease = granted(reserve(store, sweep, usd=0.6))
    clock.advance(60)
    store.ledger.expire()
    settled = store.ledger.settle(lease.id, Amounts(usd=0.6))
    assert (settled.spent.usd, settled.wasted) == (0.6, False)
    assert store.ledger.settle(lease.id, Amounts(usd=0.1)) == settled


def test_more_than_was_reserved_is_recorded_and_said(store: RecordStore, make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget=Amounts(usd=1))
    lease = granted(reserve(store, sweep, usd=0.5))
    settled = store.ledger.settle(lease.id, Amounts(usd=0.8), wasted=True)
    assert (settled.spent.usd, settled.wasted) == (0.8, True)
    assert settled.overshoot.usd == pytest.approx(0.3)
    (event,) = store.events(sweep.id)
    assert (event.what, event.detail["reserved"]["usd"], event.detail["observed"]["usd"]) == (
        "lease overshot",
        0.5,
        0.8,
    )
    assert refused(reserve(store, sweep, usd=0.3)).spent == 0.8


def test_a_unit_that_nobody_observed_counts_as_reserved(store: RecordStore, sweep: Sweep) -> None:
    lease = granted(reserve(store, sweep, usd=0.5, gpu_seconds=30))
    assert store.ledger.settle(lease.id, Amounts(usd=0.2)).spent == Amounts(usd=0.2, gpu_seconds=30)


def test_rounding_never_opens_the_limit(store: RecordStore, make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget=Amounts(usd=0.3, gpu_seconds=10))
    for _ in range(3):
        granted(reserve(store, sweep, usd=0.1, gpu_seconds=0.0001))
    assert refused(reserve(store, sweep, usd=4e-10, gpu_seconds=0)).asked == 1e-9
    assert store.ledger.totals(sweep.id)["reserved"] == Amounts(usd=0.3, gpu_seconds=0.003)


@pytest.mark.parametrize("amount", [-1.0, math.nan, math.inf, 1e30])
def test_amounts_that_are_none_are_refused(store: RecordStore, sweep: Sweep, amount: float) -> None:
    with pytest.raises(RecordsError, match="usd is"):
        reserve(store, sweep, usd=amount)
    with pytest.raises(RecordsError, match="usd is"):
        store.ledger.settle(1, Amounts(usd=amount))


def test_a_lease_must_run_out(store: RecordStore, sweep: Sweep) -> None:
    for ttl in (0, -1, math.inf, math.nan):
        with pytest.raises(RecordsError, match="ttl"):
            store.ledger.reserve(sweep.id, Amounts(), ttl=ttl, holder="w", kind="node")


def test_leases_that_do_not_exist_are_named(store: RecordStore) -> None:
    for call in (
        lambda: store.ledger.settle(7, Amounts()),
        lambda: store.ledger.renew(7, Amounts(), ttl=1),
    ):
        with pytest.raises(NotFoundError, match="id 7"):
            call()


def test_threads_that_race_share_the_budget_exactly(store: RecordStore, make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget=Amounts(usd=2.0))
    answers: list[Lease | Refusal] = []
    threads = [
        threading.Thread(target=lambda: answers.extend(reserve(store, sweep, usd=0.1) for _ in range(6)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(answers), sum(isinstance(answer, Lease) for answer in answers)) == (36, 20)
    assert store.ledger.totals(sweep.id)["reserved"].usd == 2.0


def test_writers_that_race_lose_no_update(url: str) -> None:
    """Each with its own store: what they add to and take from the sums is what their leases say."""
    with open_store(url) as store:
        new = NewSweep(name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="u")
        sweep = store.create_sweep(dataclasses.replace(new, budget=Amounts(usd=100)))
        failed: list[Exception] = []

        def spend(number: int) -> None:
            try:
                with open_store(url) as own:
                    for step in range(5):
                        lease = granted(reserve(own, sweep, usd=0.1 + number, gpu_seconds=step))
                        assert own.ledger.renew(lease.id, Amounts(usd=0.01), ttl=60) is None
                        if step == 3:
                            own.ledger.expire(now=lease.expires_at + timedelta(hours=1))
                        own.ledger.settle(lease.id, Amounts(usd=0.02 + number, gpu_seconds=step), wasted=step == 2)
                    granted(reserve(own, sweep, usd=0.5))
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=spend, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A lease that another writer's clock took for lost is refused a renewal; no sum may tell.
        assert all(isinstance(error, RecordsConflictError) for error in failed), failed
        leases, totals = store.ledger.leases(sweep.id), store.ledger.totals(sweep.id)
        settled = [lease for lease in leases if lease.settled_at is not None]
        assert len(settled) >= 4
        for unit in ("usd", "gpu_seconds"):
            assert getattr(totals["spent"], unit) == pytest.approx(total(settled, "spent", unit))
            still_open = [lease for lease in leases if lease.settled_at is None]
            assert getattr(totals["reserved"], unit) == pytest.approx(total(still_open, "reserved", unit))
            wasted = [lease for lease in settled if lease.wasted]
            assert getattr(totals["wasted"], unit) == pytest.approx(total(wasted, "spent", unit))
        assert store.ledger.month(sweep.team)["reserved"] == totals["reserved"]


def total(leases: list[Lease], side: str, unit: str) -> float:
    return sum(getattr(getattr(lease, side), unit) or 0.0 for lease in leases)


WORKER = """
import sys
from duchenne.records import Amounts, Lease, open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
granted = 0
while isinstance(store.ledger.reserve(sys.argv[2], Amounts(usd=0.1), ttl=60, holder="w", kind="fold_job"), Lease):
    granted += 1
print(granted)
"""


def test_processes_that_race_share_the_budget_exactly(url: str) -> None:
    with open_store(url) as store:
        new = NewSweep(name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="u")
        sweep = store.create_sweep(dataclasses.replace(new, budget=Amounts(usd=5.0)))
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, url, sweep.id],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for _ in range(3)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            grants = [int(worker.communicate(timeout=60)[0]) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        assert sum(grants) == 50
        assert store.ledger.totals(sweep.id)["reserved"].usd == 5.0
