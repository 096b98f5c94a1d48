"""What a sweep on a cluster is doing, and why it waits: read again whenever something changes.

The watch only wakes: state is always read anew. A watch that was cut, that expired (410 Gone) or that the server
refused for a while therefore loses nothing; it costs one more read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import Api, Refused

Json = dict[str, Any]
State = Literal["queued", "starting", "running", "retrying", "succeeded", "failed", "gone"]
SUBMITTER_LABEL = "job-name"  # Kubernetes gives it to the pods of a Job, and KubeRay names the Job after the RayJob
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "gone"})

_STATES: dict[str, State] = {
    "": "queued",
    "New": "queued",
    "Suspending": "queued",
    "Suspended": "queued",
    "Initializing": "starting",
    "Waiting": "starting",
    "ValidationFailed": "failed",
    "Running": "running",
    "Retrying": "retrying",
    "Complete": "succeeded",
    "Failed": "failed",
}


@dataclass(frozen=True)
class Status:
    """One look at a sweep. `detail` is one line for a person; empty where the state says it all."""

    state: State
    detail: str = ""


def watch(sweep_id: str, api: Api) -> Iterator[Status]:
    """Each status that differs from the one before, until the sweep has ended or is gone.

    Raises:
        ClusterError: the API server can't be read, even after its tries.
    """
    last: Status | None = None
    while True:
        status, seen = _look(sweep_id, api)
        if status != last:
            yield status
            last = status
        if status.state in ENDED:
            return
        api.wait_for_change(sweep_id, seen)


def logs(sweep_id: str, api: Api, follow: bool = False) -> Iterator[str]:
    """The driver's log, as the newest submitter of the sweep follows it.

    Raises:
        ClusterError: no submitter has started; says what the sweep is waiting for.
    """
    pods = [
        pod["metadata"]
        for pod in api.pods(f"{SUBMITTER_LABEL}={sweep_id}")
        if pod["metadata"].get("labels", {}).get(SUBMITTER_LABEL) == sweep_id
    ]
    if not pods:
        status, _ = _look(sweep_id, api)
        raise ClusterError(
            f"a sweep must have started to have a log, but {sweep_id} is {status.state}"
            f"{f' ({status.detail})' if status.detail else ''}; see `duchenne watch {sweep_id}`"
        )
    newest = max(pods, key=lambda metadata: str(metadata.get("creationTimestamp", "")))
    yield from api.log_lines(newest["name"], follow)


def _look(sweep_id: str, api: Api) -> tuple[Status, str | None]:
    """The status, and the version of the RayJob that it is of."""
    try:
        job = api.ray_job(sweep_id)
    except Refused as refused:
        if refused.status != 404:
            raise
        return Status("gone", "its objects are deleted; the records say how it ended"), None
    status = job.get("status", {})
    state = _STATES.get(status.get("jobDeploymentStatus", ""), "starting")
    version = job["metadata"].get("resourceVersion")
    if state in ("queued", "starting"):
        return Status(state, _one_line(_why_queued(sweep_id, api) or _why_starting(sweep_id, api))), version
    return Status(state, _one_line(_told(job, status))), version


def _told(job: Json, status: Json) -> str:
    """What KubeRay says of a job that runs or ran, with the number of clusters that failed before."""
    failed, allowed = status.get("failed", 0), job["spec"].get("backoffLimit", 0)
    parts = [status.get("reason", ""), status.get("message", "")]
    if failed:
        parts.append(f"{failed} of {allowed + 1} clusters failed")
    return ": ".join(part for part in parts if part)


def _why_queued(sweep_id: str, api: Api) -> str:
    """Kueue's reason for not admitting the job yet; empty once it has."""
    for workload in api.workloads():
        owners = workload["metadata"].get("ownerReferences", [])
        if any(owner["kind"] == "RayJob" and owner["name"] == sweep_id for owner in owners):
            conditions = workload.get("status", {}).get("conditions", [])
            for condition in conditions:
                if condition["type"] == "QuotaReserved" and condition["status"] == "False":
                    queue = workload.get("spec", {}).get("queueName", "its queue")
                    return f"waits in queue {queue}: {condition.get('message', 'no reason given')}"
    return ""


def _why_starting(sweep_id: str, api: Api) -> str:
    """The first reason that a pod of the sweep has for not running: no node, no image, no Secret."""
    for pod in api.pods(f"duchenne.dev/sweep={sweep_id}"):
        name = pod["metadata"]["name"]
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"pod {name} has no node: {condition.get('message', 'no reason given')}"
        for container in pod.get("status", {}).get("containerStatuses", []):
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                return f"pod {name} can't start: {waiting['reason']}: {waiting.get('message', 'no reason given')}"
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]
