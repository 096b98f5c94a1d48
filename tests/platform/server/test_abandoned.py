"""Sweeps whose driver vanished without a word: what the server writes for them, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from duchenne.records import Amounts
from duchenne.server.abandoned import PATIENCE_SECONDS, Abandoned


def driven(world: Any) -> Any:
    """A running sweep with a driver that renews its lock for a minute more, and pays for it."""
    sweep = world.sweep()
    lock = world.store.acquire_lock(sweep.id, "head-pod:7:1:2", 60)
    world.store.set_sweep_state(sweep.id, "running", token=lock.token)
    world.store.ledger.reserve(sweep.id, Amounts(wall_seconds=60), ttl=60, holder=lock.holder, kind="driver")
    return lock


def test_a_sweep_without_a_driver_fails_after_a_while_and_can_go_on(world: Any) -> None:
    lock, now = driven(world), [0.0]
    abandoned = Abandoned(world.store, clock=lambda: now[0])
    assert abandoned.look() == [], "its driver is there"
    world.clock.added += timedelta(days=1)
    assert abandoned.look() == [], "an old lock may be that of a driver which the database was out of reach for"
    now[0] = PATIENCE_SECONDS - 1
    assert abandoned.look() == []
    now[0] = PATIENCE_SECONDS
    assert abandoned.look() == [lock.sweep]
    record = world.store.get_sweep(lock.sweep)
    assert record.state == "failed"
    assert f"go on with `duchenne resume {lock.sweep}`" in str(record.error)
    assert world.store.ledger.totals(lock.sweep)["reserved"].wall_seconds == 0, "its lease ran out with it"
    event = next(event for event in world.store.events(lock.sweep) if event.what == "driver vanished")
    assert (event.actor, event.detail["driver"]) == ("duchenne serve", "head-pod:7:1:2")
    again = world.store.acquire_lock(lock.sweep, "another:1:2:3", 60)
    assert world.store.set_sweep_state(lock.sweep, "running", token=again.token).state == "running"


def test_a_driver_that_is_back_keeps_its_sweep(world: Any) -> None:
    lock, now = driven(world), [0.0]
    abandoned = Abandoned(world.store, clock=lambda: now[0])
    world.clock.added += timedelta(minutes=5)
    assert abandoned.look() == []
    world.store.renew_lock(lock, 60)
    now[0] = PATIENCE_SECONDS + 1
    assert abandoned.look() == []
    world.clock.added += timedelta(minutes=5)
    assert abandoned.look() == [], "its time counts anew"
    assert world.store.end_undriven(lock.sweep, actor="test").state == "failed"
    assert world.store.end_undriven(lock.sweep, actor="test").state == "failed", "once"


def test_one_that_was_asked_to_stop_has_stopped(world: Any) -> None:
    lock = driven(world)
    world.store.request_stop(lock.sweep)
    abandoned = Abandoned(world.store)
    assert abandoned.look() == []
    world.clock.added += timedelta(seconds=61)
    assert abandoned.look() == [lock.sweep]
    assert world.store.get_sweep(lock.sweep).state == "stopped"
