"""Contract: one driver at a time, and what becomes of a driver's lock when the driver is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from duchenne.records import (
    Lock,
    LockHeldError,
    LockLostError,
    NewSweep,
    RecordStore,
    Sweep,
    holder_is_gone,
    holder_name,
    open_home,
)


def test_a_second_driver_is_told_who_holds_the_sweep_and_since_when(
    store: RecordStore, sweep: Sweep, lock: Lock, clock: Any
) -> None:
    clock.advance(30)
    with pytest.raises(
        LockHeldError, match=r"held by driver-one since 2026-01-01 00:00:00 UTC.*after .*00:01:00"
    ) as held:
        store.acquire_lock(sweep.id, "driver-two")
    assert (held.value.since, held.value.holder) == (lock.since, "driver-one")


def test_a_lock_falls_free_at_its_expiry(store: RecordStore, sweep: Sweep, lock: Lock, clock: Any) -> None:
    clock.advance(60)
    second = store.acquire_lock(sweep.id, "driver-two")
    with pytest.raises(LockLostError):
        store.renew_lock(lock)
    assert not store.release_lock(lock)
    assert store.get_sweep(sweep.id).lock_holder == "driver-two"
    assert store.release_lock(second)
    assert store.get_sweep(sweep.id).lock_holder is None


def test_renewing_holds_on(store: RecordStore, sweep: Sweep, lock: Lock, clock: Any) -> None:
    for _ in range(5):
        clock.advance(50)
        lock = store.renew_lock(lock, ttl_seconds=60)
    with pytest.raises(LockHeldError):
        store.acquire_lock(sweep.id, "driver-two")
    clock.advance(100)
    assert store.renew_lock(lock).expires_at > clock(), "nobody took it meanwhile"


def test_of_many_drivers_one_gets_the_sweep(store: RecordStore, sweep: Sweep) -> None:
    won: list[Lock] = []
    lost: list[LockHeldError] = []

    def drive(number: int) -> None:
        try:
            won.append(store.acquire_lock(sweep.id, f"driver-{number}"))
        except LockHeldError as error:
            lost.append(error)

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)


def test_a_lock_of_a_driver_that_is_gone_can_be_taken(store: RecordStore, sweep: Sweep, lock: Lock) -> None:
    asked: list[str] = []

    def gone(holder: str) -> bool:
        asked.append(holder)
        return True

    second = store.acquire_lock(sweep.id, "driver-two", is_gone=gone)
    assert asked == ["driver-one"]
    assert store.renew_lock(second).token == second.token


DRIVER = """
import sys, time
from duchenne.records import open_home, holder_name
store = open_home(sys.argv[1])
store.acquire_lock(sys.argv[2], holder_name(), ttl_seconds=3600)
print("held", flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the start of a process is read from /proc (Linux)")
def test_the_lock_of_a_killed_driver_is_free_at_once_on_its_machine(tmp_path: Path) -> None:
    store = open_home(tmp_path)
    sweep = store.create_sweep(
        NewSweep(name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="u")
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), sweep.id],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert driver.stdout is not None
    try:
        assert driver.stdout.readline() == "held\n"
        with pytest.raises(LockHeldError):
            store.acquire_lock(sweep.id, holder_name())
        driver.send_signal(signal.SIGKILL)
        # Before its parent has waited for it the killed driver is a zombie: gone all the same.
        os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)
        assert store.acquire_lock(sweep.id, holder_name()).holder == holder_name()
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
        store.close()


def test_only_what_is_certain_counts_as_gone() -> None:
    own = holder_name()
    host, pid, start, namespace = own.rsplit(":", 3)
    assert not holder_is_gone(own)
    assert not holder_is_gone("someone")
    assert not holder_is_gone(f"elsewhere:{pid}:1:{namespace}"), "another machine"
    assert not holder_is_gone(f"{host}:{pid}:{start}:1"), "another container"
    if start:
        assert holder_is_gone(f"{host}:{pid}:1:{namespace}"), "the pid is used again by another process"
