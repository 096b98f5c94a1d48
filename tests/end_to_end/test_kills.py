"""A sweep of two workers a fold under fire: a queue that hangs, a follower that dies, a driver that is killed.

Real processes, real signals. What a killed driver's Ray leaves is gone afterwards, without anybody's help.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duchenne.plan.leasing import QUANTUM_SECONDS
from duchenne.pool.reaper import processes_of, ray_folder
from duchenne.records import Attempt, open_home

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores"
)
SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: fire, team: tests}
data: {uri: "builtin://toy?count=240&tasks=3&seed=0"}
model: {name: vmnc, encoder: {layers: 1, width: 8}, hidden_size: 8}
training: {epochs: 4000, batch_size: 8, learning_rate: 0.003}
search: {space: {training.decay: {grid: [1.0]}}, algorithm: grid, metric: accuracy}
folds: {count: 2, inner: 2, workers_per_fold: 2}
budget: {wall_seconds: 72000}
"""


def wait_for(condition: Callable[[], Any], seconds: float = 200.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def named(sessions: list[Path], title: str) -> list[int]:
    return [pid for pid in processes_of(sessions) if title in title_of(pid)]


@pytest.mark.timeout(900)
def test_whatever_is_killed_the_sweep_goes_on_or_leaves_nothing(duchenne: Any, tmp_path: Path) -> None:
    sweep, log = tmp_path / "fire.yaml", tmp_path / "run.log"
    sweep.write_text(SWEEP)
    driver = duchenne.start("run", str(sweep), log=log)
    sweep_id = str(wait_for(lambda: re.search(r"^sweep: (\S+)", log.read_text(), re.MULTILINE)).group(1))
    try:
        with open_home(duchenne.home) as store:

            def attempts() -> list[Attempt]:
                return store.attempts(sweep_id)

            def results() -> int:
                return len(store.results(sweep_id))

            wait_for(lambda: results() > 3)
            sessions = list(ray_folder().glob(f"session_*_{driver.pid}"))
            (queue,) = named(sessions, "ray::JobQueue")

            # A queue that says nothing renews nothing: the job stops by itself, and is queued again once it can be.
            os.kill(queue, signal.SIGSTOP)
            time.sleep(QUANTUM_SECONDS + 2)
            os.kill(queue, signal.SIGCONT)
            wait_for(lambda: [attempt.outcome for attempt in attempts()].count("interrupted") == 1)
            first = attempts()[0]
            assert first.error is None
            done = results()
            wait_for(lambda: results() > done)

            # A follower's death is its whole group's: the job goes on from its checkpoint, as another attempt.
            leader = int(re.search(r"pid(\d+)", attempts()[-1].worker).group(1))  # type: ignore[union-attr]
            (follower,) = [pid for pid in named(sessions, "ray::RayTrainWorker") if pid != leader]
            os.kill(follower, signal.SIGKILL)
            wait_for(lambda: any(attempt.error and "its worker died" in attempt.error for attempt in attempts()))
            done = results()
            wait_for(lambda: results() > done)
            rows = [(row.fold, row.inner, row.epoch) for row in store.results(sweep_id)]
            assert len(set(rows)) == len(rows)
            assert [epoch for fold, inner, epoch in rows if (fold, inner) == rows[0][:2]] == list(
                range(1, 1 + sum(row[:2] == rows[0][:2] for row in rows))
            )
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    wait_for(lambda: not processes_of(sessions), seconds=60)
    wait_for(lambda: not any(session.exists() for session in sessions), seconds=60)
    folder = duchenne.home / "sweeps" / sweep_id
    wait_for(lambda: not (folder / "ray").exists() and not list(folder.rglob(".*.*")), seconds=60)
    assert list((folder / "checkpoints").glob("*.safetensors"))
