"""`local` behind the port that all clusters share: a driver of its own process, which outlives the terminal.

`HOME/submitted/ID` holds the spec, the log, and which process it is. A sweep of `duchenne run`, in somebody's
terminal, is watched, stopped and resumed alike; its log is in that terminal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from duchenne.clusters.errors import ClusterError
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import ENDED, Json, Listed, Status, fresh_id, one_line
from duchenne.clusters.portable import SPEC_NAME, entrypoint_words, portable_spec
from duchenne.paths import HOME_VARIABLE
from duchenne.records import NotFoundError, RecordStore, open_home
from duchenne.records import Sweep as SweepRecord
from duchenne.records.locks import holder_is_gone
from duchenne.spec import Sweep

FOLDER = "submitted"
LOG_NAME = "driver.log"
PROCESS_NAME = "process.json"
POLL_SECONDS = 0.5
STOP_SECONDS = 60.0  # an epoch, and a checkpoint
PROGRAM = (sys.executable, "-m", "duchenne")


class LocalPort:
    """This machine.

    Args:
        home: records, datasets, checkpoints, predictions, and `submitted`.
        program: how Duchenne is called; None for the one that runs now.
    """

    def __init__(self, home: Path, program: Sequence[str] | None = None) -> None:
        self._home = home
        self._program = program or PROGRAM

    def preview(self, sweep: Sweep) -> list[Json]:
        """The process that `submit` would start."""
        sweep_id = f"{sweep.metadata.name}-000000"
        command = [*self._program, *entrypoint_words(str(self._folder(sweep_id) / SPEC_NAME), sweep_id)]
        return [{"command": command, "files": {SPEC_NAME: portable_spec(sweep)}}]

    def submit(self, sweep: Sweep) -> str:
        """Start a driver; its pool starts at once."""
        sweep_id = fresh_id(sweep)
        folder = self._folder(sweep_id)
        folder.mkdir(parents=True)
        (folder / SPEC_NAME).write_text(portable_spec(sweep), encoding="utf-8")
        self._start(sweep_id, Limits())
        return sweep_id

    def watch(self, sweep_id: str) -> Iterator[Status]:
        """Each new status, from the records and the driver's process."""
        last = None
        while True:
            status = self._look(sweep_id)
            if status != last:
                yield status
                last = status
            if status.state in ENDED:
                return
            time.sleep(POLL_SECONDS)

    def logs(self, sweep_id: str, follow: bool = False) -> Iterator[str]:
        """What the driver printed."""
        path = self._folder(sweep_id) / LOG_NAME
        if not path.exists():
            self._look(sweep_id)
            raise ClusterError(
                f"a sweep must have been submitted to have a log, but {sweep_id} was not; "
                "`duchenne run` printed to its terminal"
            )
        with path.open(encoding="utf-8", errors="replace") as log:
            rest = ""
            while True:
                over = not follow or not self._runs(sweep_id)  # before the last read: nothing is missed
                *lines, rest = (rest + log.read()).split("\n")
                yield from lines
                if over:
                    break
                time.sleep(POLL_SECONDS)
        if rest:
            yield rest

    def stop(self, sweep_id: str) -> None:
        """Ask the driver to end, and end it where it doesn't."""
        status = self._look(sweep_id)
        if status.state in ENDED:
            raise ClusterError(f"a sweep must run to be stopped, but {sweep_id} is {status.state}; nothing to do")
        with open_home(self._home) as store:
            if _find(store, sweep_id) is not None:
                store.request_stop(sweep_id, actor="duchenne stop")
                self._wait(sweep_id, STOP_SECONDS)
        for way in (signal.SIGTERM, signal.SIGKILL):
            pid = self._pid(sweep_id)
            if pid is None:
                break
            with suppress(ProcessLookupError):
                os.killpg(pid, way)
            self._wait(sweep_id, 10.0)
        status = self._look(sweep_id)
        if status.state not in ENDED:
            raise ClusterError(
                f"{sweep_id} must end within {STOP_SECONDS:g} s, but is {status.state}; it was asked to: "
                "look again, or end its driver by hand"
            )

    def resume(self, sweep_id: str, limits: Limits, sweep: Sweep | None = None) -> None:
        """Start a driver anew. One of `duchenne run` has no spec here: the records have it."""
        status = self._look(sweep_id)
        if status.state not in ENDED:
            raise ClusterError(f"a sweep must have ended to go on, but {sweep_id} is {status.state}; watch it")
        if status.state == "succeeded":
            raise ClusterError(f"a sweep must be unfinished to go on, but {sweep_id} succeeded; nothing to do")
        self._folder(sweep_id).mkdir(parents=True, exist_ok=True)
        self._start(sweep_id, limits)

    def cost(self, sweep_id: str) -> Json:
        """The ledger's balance."""
        self._look(sweep_id)
        with open_home(self._home) as store:
            return dict(store.ledger.balance(sweep_id))

    def sweeps(self) -> list[Listed]:
        """What is on record."""
        with open_home(self._home) as store:
            return [Listed(**asdict(summary)) for summary in store.summaries()]

    def _start(self, sweep_id: str, limits: Limits) -> None:
        folder = self._folder(sweep_id)
        spec = folder / SPEC_NAME
        words = entrypoint_words(str(spec), sweep_id, limits)
        if not spec.exists():
            words = ["resume", sweep_id, "--supervised", *limits.words()]
        with open_home(self._home) as store:
            record = _find(store, sweep_id)
        with (folder / LOG_NAME).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [*self._program, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {HOME_VARIABLE: str(self._home)},
                start_new_session=True,
            )
        known = {"pid": process.pid, "started": _started(process.pid), "ended_before": _end_of(record)}
        (folder / PROCESS_NAME).write_text(json.dumps(known))

    def _look(self, sweep_id: str) -> Status:
        runs = self._runs(sweep_id)
        with open_home(self._home) as store:
            record = _find(store, sweep_id)
        if record is None:
            if not self._folder(sweep_id).is_dir():
                raise ClusterError(
                    f"a sweep must be on record or submitted here, but {sweep_id} is neither; see `duchenne ls`"
                )
            return Status("starting") if runs else Status("failed", self._last_line(sweep_id))
        if runs and record.state in ENDED:  # it goes on and has not begun, or says its last words
            return Status("starting" if _end_of(record) == self._process(sweep_id).get("ended_before") else "running")
        if record.state == "running" and not runs and (not record.lock_holder or holder_is_gone(record.lock_holder)):
            return Status("failed", "its driver died; go on with `duchenne resume`")
        state = record.state
        return Status("starting" if state == "queued" else state, one_line(record.error or ""))

    def _folder(self, sweep_id: str) -> Path:
        return self._home / FOLDER / sweep_id

    def _last_line(self, sweep_id: str) -> str:
        path = self._folder(sweep_id) / LOG_NAME
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
        return one_line(next((line for line in reversed(lines) if line.strip()), "its driver ended without a word"))

    def _runs(self, sweep_id: str) -> bool:
        return self._pid(sweep_id) is not None

    def _pid(self, sweep_id: str) -> int | None:
        """The driver's process, if it is still the one that was started; None otherwise."""
        known = self._process(sweep_id)
        started = _started(known["pid"]) if known else None
        return int(known["pid"]) if started is not None and started == known["started"] else None

    def _process(self, sweep_id: str) -> Json:
        """What was noted of the driver that was started last; empty where none was."""
        path = self._folder(sweep_id) / PROCESS_NAME
        noted: Json = json.loads(path.read_text()) if path.exists() else {}
        return noted

    def _wait(self, sweep_id: str, seconds: float) -> None:
        """Until its driver has ended, at most so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._look(sweep_id).state in ENDED and not self._runs(sweep_id):
                return
            time.sleep(POLL_SECONDS / 2)


def _find(store: RecordStore, sweep_id: str) -> SweepRecord | None:
    try:
        record = store.get_sweep(sweep_id)
    except NotFoundError:
        return None
    return record if record.id == sweep_id else None


def _end_of(record: SweepRecord | None) -> str | None:
    """When a sweep ended, as text; None where it did not."""
    return None if record is None or record.ended_at is None else record.ended_at.isoformat()


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's clock ticks; None where there is none, or it has ended."""
    try:
        # The command's name, field 2, may hold blanks and brackets: count from its end. Field 22 is the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
