"""What a killed driver leaves behind is cleaned up: real processes, a real SIGKILL, no Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from duchenne.pool.reaper import drop_half_written, processes_of, reap

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open") or not Path("/proc/self/fd").exists(), reason="no Linux")

DRIVER = """
import os, subprocess, sys
from pathlib import Path
session = Path(sys.argv[1]) / f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
(session / "logs").mkdir(parents=True)
wait = "import sys, signal, time; print('up', flush=True); {0}time.sleep(600)"
deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
log = (session / "logs" / "worker.out").open("w")
writer = subprocess.Popen([sys.executable, "-c", wait.format(deaf)], stdout=log, start_new_session=True)
named = subprocess.Popen([sys.executable, "-c", wait.format(""), str(session)], stdout=subprocess.DEVNULL)
while not (session / "logs" / "worker.out").read_text():  # it is deaf from then on
    pass
print(writer.pid, named.pid, flush=True)
named.wait()
"""


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def test_a_killed_driver_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    sessions, folder = tmp_path / "ray", tmp_path / "sweep"
    (folder / "ray").mkdir(parents=True)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(sessions)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    left = [int(pid) for pid in driver.stdout.readline().split()]
    other = sessions / f"session_2026-01-01_00-00-00_000000_{driver.pid}9"
    other.mkdir()
    half, whole = folder / f".c.safetensors.{driver.pid}", folder / "c.safetensors"
    for path in (half, whole):
        path.write_bytes(b"x")
    assert set(left) <= set(processes_of(list(sessions.iterdir())))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    reap(driver.pid, sessions, folder)
    assert not any(is_alive(pid) for pid in left)
    assert list(sessions.iterdir()) == [other]
    assert list(folder.iterdir()) == [whole]


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    mine, dotted = tmp_path / f".c.{os.getpid()}", tmp_path / ".keep"
    for path in (mine, dotted):
        path.touch()
    zombie = subprocess.Popen([sys.executable, "-c", ""])  # ends, and nobody waits for it before the end of this test
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    killed = tmp_path / f".epoch.safetensors.{zombie.pid}"
    killed.write_text("half")
    again = tmp_path / f".other.safetensors.{os.getpid()}"  # its writer had this process's number, long before it
    again.write_text("half")
    os.utime(again, (0, 0))
    drop_half_written(tmp_path)
    zombie.wait()
    assert not killed.exists()
    assert not again.exists()
    assert mine.exists()
    assert dotted.exists()
