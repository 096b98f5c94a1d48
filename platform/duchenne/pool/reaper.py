"""Cleans up behind a driver that runs Ray embedded, whatever ended it: SIGKILL, Ctrl-C, a crash, or its last line.

A process of its own, started before Ray, that waits for the driver to be gone. Ray's daemons mostly go with it; agents,
workers and a controller have been seen to stay. Whoever has a file of the driver's Ray sessions open, or names one on
its command line, is ended; then the sessions' folders go, and the half-written files of dead processes in the sweep's.

Run as a file, by `python -I`: it must start at once and need nothing that the project needs.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PATIENCE_SECONDS = 20.0  # in which processes must have gone
LOOK_SECONDS = 0.2
CLOCK_SLACK_SECONDS = 2.0  # between the clock of files and that of processes
_BESIDE = re.compile(r"\..+\.(\d+)$")  # `.name.pid`, as atomic writers name what they have not renamed yet
RAY_STORAGE = "ray"  # Ray's own state in a sweep's folder, which nobody reads afterwards


def start_reaper(folder: Path | None) -> None:
    """Start one for this process.

    Args:
        folder: the sweep's folder; None where there is none.
    """
    command = [sys.executable, "-I", str(Path(__file__).resolve()), str(os.getpid()), str(ray_folder())]
    subprocess.Popen(  # noqa: S603 - this very file
        [*command, *([] if folder is None else [str(folder)])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and a closed terminal are not for it
        cwd="/",
    )


def ray_folder() -> Path:
    """Where Ray keeps its sessions."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"


def reap(driver: int, sessions: Path, folder: Path | None, patience: float = PATIENCE_SECONDS) -> None:
    """Wait for `driver` to be gone, and clean up behind it."""
    _wait_for_end(driver)
    # Ray names a session by its driver's pid.
    found = list(sessions.glob(f"session_*_{driver}"))
    _end_processes(found, patience)
    for session in found:
        shutil.rmtree(session, ignore_errors=True)
    if folder is not None:
        shutil.rmtree(folder / RAY_STORAGE, ignore_errors=True)
        drop_half_written(folder)


def drop_half_written(folder: Path) -> None:
    """Remove what processes that are gone were writing beside its place."""
    for path in folder.rglob(".*"):
        match = _BESIDE.fullmatch(path.name)
        if match and path.is_file() and not _may_write(int(match.group(1)), path):
            path.unlink(missing_ok=True)


def _may_write(pid: int, path: Path) -> bool:
    """Whether a process still writes a file: not one that only nobody has waited for, nor a later one of its number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        written = time.time() - path.stat().st_mtime
    except OSError:
        return False
    state, began = fields[0], uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")  # seconds ago
    return state not in ("Z", "X") and began > written - CLOCK_SLACK_SECONDS


def processes_of(sessions: list[Path]) -> list[int]:
    """Pids of the processes that belong to these sessions of Ray, but for this one and its parent."""
    names = [str(session).encode() for session in sessions]
    others = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    own = {os.getpid(), os.getppid()}
    return [int(entry.name) for entry in others if int(entry.name) not in own and _belongs(entry, names)]


def _belongs(process: Path, names: list[bytes]) -> bool:
    """Its command line names a session, or it has a file in one open: workers' titles don't, their logs do."""
    try:
        if any(name in (process / "cmdline").read_bytes() for name in names):
            return True
        links = [str(link.readlink()).encode() for link in (process / "fd").iterdir()]
    except OSError:
        return False  # it has just gone, or is not ours to look at
    return any(link.startswith(name + b"/") for link in links for name in names)


def _wait_for_end(pid: int) -> None:
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([watch], [], [])
    finally:
        os.close(watch)


def _end_processes(sessions: list[Path], patience: float) -> None:
    """Ask them to end, then make them; new ones may appear until the last is gone."""
    began = time.monotonic()
    asked: set[int] = set()
    while sessions and time.monotonic() - began < patience:
        alive = processes_of(sessions)
        if not alive:
            return
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL if pid in asked else signal.SIGTERM)
            except ProcessLookupError:
                continue
            asked.add(pid)
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    reap(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
