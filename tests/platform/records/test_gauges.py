"""The sums behind the metrics, on both databases: right figures, unknown left unknown, and a bound on what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from duchenne.records import Amounts, FoldJobKey, NewSweep, RecordStore, Sweep
from duchenne.records.gauges import NOTIFICATION_FAILED, SHOWN_FOR, Gauges, SweepGauges, read_gauges


def new_sweep(store: RecordStore, name: str = "s", team: str = "t", **limits: float) -> Sweep:
    return store.create_sweep(
        NewSweep(
            name=name,
            team=team,
            board="b",
            spec={},
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="nowhere",
            budget=Amounts(**limits),
        )
    )


def drive(store: RecordStore, sweep: Sweep) -> Any:
    lock = store.acquire_lock(sweep.id, "h", 60)
    store.set_sweep_state(sweep.id, "running", token=lock.token)
    return lock


def only(gauges: Gauges) -> SweepGauges:
    (one,) = gauges.sweeps
    return one


def key(sweep: Sweep, trial: int = 0, fold: int = 0) -> FoldJobKey:
    return FoldJobKey(sweep=sweep.id, trial=trial, phase="search", method="monet", fold=fold, inner=0, seed=0)


def test_an_empty_database_says_so(store: RecordStore) -> None:
    assert read_gauges(store.database) == Gauges((), (), {}, 0, 0)


def test_trials_jobs_attempts_and_leases_are_summed(store: RecordStore, clock: Any) -> None:
    sweep = new_sweep(store, usd=10.0)
    lock = drive(store, sweep)
    for number in range(3):
        store.record_trial(sweep.id, number, {}, token=lock.token)
    store.ensure_fold_jobs([key(sweep, fold=fold) for fold in range(2)])
    attempt = store.start_attempt(key(sweep), "w")
    store.finish_attempt(attempt.id, "lost")
    store.start_attempt(key(sweep), "w")
    done = store.ledger.reserve(sweep.id, Amounts(usd=2.0, gpu_seconds=7.0), ttl=60, holder="h", kind="fold_job")
    store.ledger.settle(done.id, Amounts(usd=1.5, gpu_seconds=6.0))  # type: ignore[union-attr]
    store.ledger.reserve(sweep.id, Amounts(usd=0.25, gpu_seconds=1.0), ttl=1, holder="h", kind="fold_job")
    one = only(read_gauges(store.database))
    assert (one.id, one.team, one.state) == (sweep.id, "t", "running")
    assert one.trials == {"queued": 3}
    assert one.fold_jobs == {("search", "queued"): 1, ("search", "running"): 1}
    assert one.attempts == {"lost": 1}
    assert (one.spent.usd, one.reserved.usd, one.budget.usd) == (1.5, 0.25, 10.0)
    assert (one.spent.gpu_seconds, one.reserved.gpu_seconds) == (6.0, 1.0)
    assert (one.spent.wall_seconds, one.reserved.wall_seconds) == (None, None), "no lease counts it: unknown, not 0"
    assert (one.open_leases, one.lease_expiries) == (1, 0)
    clock.advance(2)
    store.ledger.expire()
    store.record_event(NOTIFICATION_FAILED, sweep=sweep.id, actor="notifier")
    one = only(read_gauges(store.database))
    assert (one.open_leases, one.lease_expiries, one.notification_failures) == (0, 1, 1)
    assert one.spent.usd == 1.75
    assert one.spent == store.ledger.totals(sweep.id)["spent"]


def test_progress_is_the_last_epoch_or_ended_job_or_driver(store: RecordStore, clock: Any) -> None:
    sweep = new_sweep(store)
    assert only(read_gauges(store.database)).progress_at is None
    drive(store, sweep)
    assert only(read_gauges(store.database)).progress_at == clock.time
    clock.advance(100)
    store.ensure_fold_jobs([key(sweep)])
    attempt = store.start_attempt(key(sweep), "w")
    clock.advance(100)
    store.record_result(key(sweep), 1, attempt.number, {})
    assert only(read_gauges(store.database)).progress_at == clock.time
    clock.advance(100)
    store.finish_attempt(attempt.id, "succeeded")
    assert only(read_gauges(store.database)).progress_at == clock.time
    clock.advance(100)
    assert (only(read_gauges(store.database)).progress_at or clock.time) < clock.time


def test_a_sweep_that_ended_is_told_for_a_day(store: RecordStore, clock: Any) -> None:
    sweep = new_sweep(store)
    lock = drive(store, sweep)
    store.set_sweep_state(sweep.id, "failed", token=lock.token)
    clock.advance(SHOWN_FOR.total_seconds() - 1)
    assert only(read_gauges(store.database)).state == "failed"
    clock.advance(2)
    gauges = read_gauges(store.database)
    assert (gauges.sweeps, gauges.left_out) == ((), 0)
    assert gauges.sweeps_by_state == {"failed": 1}


def test_what_has_no_room_is_counted_and_the_active_ones_go_first(store: RecordStore, clock: Any) -> None:
    running = new_sweep(store, "running")
    drive(store, running)
    for number in range(4):
        ended = new_sweep(store, f"ended{number}", team=f"team{number}", usd=1.0)
        clock.advance(1)
        store.request_stop(ended.id)
        lease = store.ledger.reserve(ended.id, Amounts(usd=0.5), ttl=60, holder="h", kind="x")
        store.ledger.settle(lease.id, Amounts(usd=0.5))  # type: ignore[union-attr]
    gauges = read_gauges(store.database, max_sweeps=2, max_teams=3)
    assert [sweep.id for sweep in gauges.sweeps] == [running.id, ended.id]
    assert [team.name for team in gauges.teams] == ["team0", "team1", "team2"]
    assert gauges.left_out == 3 + 1


def test_a_months_sums_are_those_of_the_ledger(store: RecordStore, clock: Any) -> None:
    clock.time = clock.time.replace(day=31)
    one, other = new_sweep(store, team="a"), new_sweep(store, team="b")
    old = store.ledger.reserve(one.id, Amounts(usd=3.0), ttl=60, holder="h", kind="x")
    store.ledger.settle(old.id, Amounts(usd=3.0))  # type: ignore[union-attr]
    clock.advance(86400)
    for sweep in (one, other):
        lease = store.ledger.reserve(sweep.id, Amounts(usd=2.0), ttl=60, holder="h", kind="x")
        store.ledger.settle(lease.id, Amounts(usd=1.0))  # type: ignore[union-attr]
        store.ledger.reserve(sweep.id, Amounts(usd=0.5), ttl=60, holder="h", kind="x")
    store.ensure_team("a")
    store.set_team_budget("a", usd_per_month=9.0, gpu_hours_per_month=2.0, actor="me")
    first, second = read_gauges(store.database).teams
    for team in (first, second):
        month = store.ledger.month(team.name)
        assert replace(team.spent, wall_seconds=None) == replace(month["spent"], wall_seconds=None)
        assert (team.spent.usd, team.reserved.usd) == (1.0, 0.5)
    assert first.budget == Amounts(usd=9.0, gpu_seconds=7200.0)
    assert second.budget == Amounts()
