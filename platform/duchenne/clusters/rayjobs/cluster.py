"""An existing Ray cluster behind the port that all clusters share."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duchenne.clusters.config import RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import ENDED, Json, Listed, State, Status, fresh_id, listed_state, one_line
from duchenne.clusters.portable import team_file
from duchenne.clusters.rayjobs.api import RayApi
from duchenne.clusters.rayjobs.request import Request, base_environment, fold_room, program, request, staged
from duchenne.spec import Sweep

POLL_SECONDS = 1.0
STOP_SECONDS = 60.0  # an epoch, and a checkpoint
HELPER_SECONDS = 120.0

_LAST_WORDS = r"^{}: (succeeded|failed|stopped|exhausted)(?:: (.*))?$"
_STATES: dict[str, State] = {
    "PENDING": "starting",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
}


class RayPort:
    """A Ray cluster by the address of its dashboard, with the token of an environment variable.

    Args:
        cluster: its section of the clusters file.
        home: where this machine's `teams.yaml` is.
        code: a checkout that runs in place of what is installed there.
    """

    def __init__(self, cluster: RayCluster, home: Path | None = None, code: Path | None = None) -> None:
        self._cluster = cluster
        self._home = home
        self._code = code
        self._api = RayApi(cluster)

    def preview(self, sweep: Sweep) -> list[Json]:
        """The job that `submit` would send, but for the room, which the cluster says then."""
        sent = request(sweep, self._cluster, f"{sweep.metadata.name}-000000", home=self._home, code=self._code)
        return [
            {
                "entrypoint": sent.entrypoint,
                "metadata": sent.metadata,
                "runtime_env": {"env_vars": sent.environment},
                "files": sent.files,
                "code": None if sent.code is None else str(sent.code),
            }
        ]

    def submit(self, sweep: Sweep) -> str:
        """Send the sweep as a job; its driver starts at once."""
        sweep_id = fresh_id(sweep)
        self._send(self._request(sweep, sweep_id, Limits()), sweep_id)
        return sweep_id

    def watch(self, sweep_id: str) -> Iterator[Status]:
        """Each new status, from the job and the last words of the driver."""
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
        """The log of the newest job of the sweep, as it comes."""
        job = self._newest(sweep_id)
        if not follow:
            yield from self._api.log(job.submission_id).splitlines()
            return
        rest = ""
        for chunk in self._api.tail(job.submission_id):
            *lines, rest = (rest + chunk).split("\n")
            yield from lines
        if rest:
            yield rest

    def stop(self, sweep_id: str) -> None:
        """Ask the driver to end, as its records allow, and end it where it doesn't."""
        job = self._newest(sweep_id)
        status = self._status(job)
        if status.state in ENDED:
            raise ClusterError(f"a sweep must run to be stopped, but {sweep_id} is {status.state}; nothing to do")
        if status.state == "running" and self._run(["stop", sweep_id])[0] and self._over(sweep_id, STOP_SECONDS):
            return
        self._api.stop(job.submission_id)
        if not self._over(sweep_id, STOP_SECONDS):
            raise ClusterError(
                f"{sweep_id} must end within {STOP_SECONDS:g} s, but job {job.submission_id} still runs; "
                f"see `ray job status {job.submission_id}`"
            )

    def resume(self, sweep_id: str, limits: Limits, sweep: Sweep | None = None) -> None:
        """A further job for the same sweep; the records of the cluster know the rest."""
        jobs = self._jobs(sweep_id)
        if not jobs and sweep is None:
            raise self._missing(sweep_id)
        if jobs:
            state = self._status(jobs[-1]).state
            if state not in ENDED:
                raise ClusterError(f"a sweep must have ended to go on, but {sweep_id} is {state}; watch it")
            if state == "succeeded":
                raise ClusterError(f"a sweep must be unfinished to go on, but {sweep_id} succeeded; nothing to do")
        sent = self._request(sweep, sweep_id, limits) if sweep is not None else self._again(jobs[-1], sweep_id, limits)
        self._send(sent, f"{sweep_id}-{len(jobs) + 1}" if jobs else sweep_id)

    def cost(self, sweep_id: str) -> Json:
        """The balance of the ledger, as Duchenne on the cluster reads it."""
        self._newest(sweep_id)
        done, text = self._run(["cost", sweep_id, "--json"])
        document = _json_in(text)
        if not done or not isinstance(document, dict):
            raise ClusterError(f"the records of the cluster must know {sweep_id}, but: {_last_line(text)}; watch it")
        return document

    def sweeps(self) -> list[Listed]:
        """What the cluster's records have, and jobs of sweeps that are not on record yet."""
        done, text = self._run(["ls", "--json"])
        document = _json_in(text)
        rows = [Listed(**row) for row in document] if done and isinstance(document, list) else []
        known = {row.id for row in rows}
        waiting = {}
        for job in self._jobs():
            about = job.metadata
            if about["sweep"] not in known:
                state = listed_state(self._status(job).state)
                name, team = about.get("name", about["sweep"]), about.get("team", "")
                waiting[about["sweep"]] = Listed(about["sweep"], name, team, state)
        return [*reversed(waiting.values()), *rows]

    def _request(self, sweep: Sweep, sweep_id: str, limits: Limits) -> Request:
        room = fold_room(self._api.nodes(), sweep, self._cluster)
        return request(sweep, self._cluster, sweep_id, room=room, home=self._home, limits=limits, code=self._code)

    def _again(self, before: Any, sweep_id: str, limits: Limits) -> Request:
        """The job of a sweep whose spec the records have; the job before has the room that was counted for it."""
        words = [program(self._cluster, self._code), "resume", sweep_id, "--supervised", *limits.words()]
        environment = (before.runtime_env or {}).get("env_vars", {}) | base_environment(self._cluster)
        files = team_file(before.metadata.get("team", ""), self._home)
        return Request(" ".join(words), dict(before.metadata), environment, files, self._code)

    def _send(self, sent: Request, job: str) -> None:
        with staged(sent) as folder:
            environment: Json = {"env_vars": sent.environment}
            carried = {"working_dir": folder} if sent.files or sent.code else {}
            self._api.submit(sent.entrypoint, dict(sent.metadata), environment | carried, job)

    def _look(self, sweep_id: str) -> Status:
        return self._status(self._newest(sweep_id))

    def _status(self, job: Any) -> Status:
        """The job's state; of a driver that ended, what it said last: it ends with 0 where another try can't help."""
        state = _STATES[job.status.value]
        if state not in ENDED:
            return Status(state)
        text = self._api.log(job.submission_id)
        said = re.findall(_LAST_WORDS.format(re.escape(job.metadata["sweep"])), text, re.MULTILINE)
        if said and state != "stopped":
            return Status(said[-1][0], one_line(said[-1][1]))
        return Status(state, "" if state == "succeeded" else one_line(f"{job.message}: {_last_line(text)}"))

    def _jobs(self, sweep_id: str | None = None) -> list[Any]:
        """Jobs of one sweep, or of all, the oldest first."""
        jobs = [job for job in self._api.jobs() if (job.metadata or {}).get("sweep")]
        mine = [job for job in jobs if sweep_id is None or job.metadata["sweep"] == sweep_id]
        return sorted(mine, key=lambda job: job.start_time or 0)

    def _newest(self, sweep_id: str) -> Any:
        jobs = self._jobs(sweep_id)
        if not jobs:
            raise self._missing(sweep_id)
        return jobs[-1]

    def _missing(self, sweep_id: str) -> ClusterError:
        return ClusterError(
            f"a sweep must have a job on the Ray cluster, but {self._cluster.address} has none of {sweep_id}; "
            "see `duchenne ls --cluster`"
        )

    def _over(self, sweep_id: str, seconds: float) -> bool:
        """Whether the sweep ends within so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._look(sweep_id).state in ENDED:
                return True
            time.sleep(POLL_SECONDS / 2)
        return False

    def _run(self, words: list[str]) -> tuple[bool, str]:
        """Run a verb of Duchenne on the cluster, where its records are: (whether it ended with 0, what it printed)."""
        job = self._api.submit(
            " ".join([self._cluster.program, *words]),
            {"duchenne": "helper"},
            {"env_vars": base_environment(self._cluster)},
            f"duchenne-{words[0]}-{secrets.token_hex(6)}",
        )
        deadline = time.monotonic() + HELPER_SECONDS
        while (state := _STATES[self._api.status(job)]) not in ENDED:
            if time.monotonic() > deadline:
                self._api.stop(job)
                break
            time.sleep(POLL_SECONDS / 4)
        return state == "succeeded", self._api.log(job)


def _json_in(text: str) -> Any:
    """The JSON document in a job's log, after what Ray says about starting it; None without one."""
    match = re.search(r"^[\[{].*", text, re.MULTILINE | re.DOTALL)
    try:
        return json.loads(match[0]) if match else None
    except json.JSONDecodeError:
        return None


def _last_line(text: str) -> str:
    return one_line(next((line for line in reversed(text.splitlines()) if line.strip()), "no word"), 200)
