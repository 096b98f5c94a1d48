"""What a sweep on a cluster is doing, and why it waits: read again whenever something changes.

The watch only wakes: state is always read anew. A watch that was cut, that expired (410 Gone) or that the server
refused for a while therefore loses nothing; it costs one more read.
"""

from __future__ import annotations

from collections.abc import Iterator

from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import Api, Refused
from duchenne.clusters.kubernetes.pods import GPU_RESOURCE, POOL_LABEL, SUBMITTER_LABEL
from duchenne.clusters.port import ENDED, Json, State, Status, one_line

_STARTS_BY_ITSELF = (None, "ContainerCreating", "PodInitializing")

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


def state_of(job: Json) -> State:
    """The state of a RayJob."""
    return _STATES.get(job.get("status", {}).get("jobDeploymentStatus", ""), "starting")


def _look(sweep_id: str, api: Api) -> tuple[Status, str | None]:
    """The status, and the version of the RayJob that it is of."""
    try:
        job = api.ray_job(sweep_id)
    except Refused as refused:
        if refused.status != 404:
            raise
        return Status("gone", "its objects are deleted; the records say how it ended"), None
    state, told = state_of(job), _told(job)
    if state in ("queued", "starting"):
        told = _why_queued(sweep_id, api) or _why_starting(sweep_id, api)
    elif state == "running":  # workers start after the head, or not
        told = ", ".join(part for part in (told, _why_starting(sweep_id, api)) if part)
    return Status(state, one_line(told)), job["metadata"].get("resourceVersion")


def _told(job: Json) -> str:
    """What KubeRay says of a job that runs or ran, with the number of clusters that failed before."""
    status = job.get("status", {})
    failed, allowed = status.get("failed", 0), job["spec"].get("backoffLimit", 0)
    parts = [status.get("reason", ""), status.get("message", "")]
    if failed:
        parts.append(f"{failed} of {allowed + 1} clusters failed")
    return ": ".join(part for part in parts if part)


def _why_queued(sweep_id: str, api: Api) -> str:
    """Kueue's reason for not admitting the job yet, and its place among those that wait; empty once it has."""
    workloads = api.workloads()
    for workload in workloads:
        owners = workload["metadata"].get("ownerReferences", [])
        if any(owner["kind"] == "RayJob" and owner["name"] == sweep_id for owner in owners):
            refusal = _quota_refused(workload)
            if refusal is not None:
                queue = _queue_of(workload)
                waiting = [other for other in workloads if _queue_of(other) == queue and _quota_refused(other)]
                place = sorted(waiting, key=_rank).index(workload) + 1
                return f"waits in queue {queue}, position {place}: {refusal.get('message', 'no reason given')}"
    return ""


def _quota_refused(workload: Json) -> Json | None:
    """The condition that says why a workload has no quota; None where it has, or nobody looked yet."""
    for condition in workload.get("status", {}).get("conditions", []):
        if condition["type"] == "QuotaReserved" and condition["status"] == "False":
            found: Json = condition
            return found
    return None


def _queue_of(workload: Json) -> str:
    return str(workload.get("spec", {}).get("queueName", "its queue"))


def _rank(workload: Json) -> tuple[int, str]:
    """Kueue's order within a queue: by priority, then by age."""
    priority = workload.get("spec", {}).get("priority", 0)
    return -int(priority), str(workload["metadata"].get("creationTimestamp", ""))


def _why_starting(sweep_id: str, api: Api) -> str:
    """The first reason that a pod of the sweep has for not running: no node, no image, no Secret, no volume."""
    for pod in api.pods(f"duchenne.dev/sweep={sweep_id}"):
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"pod {name} has no node{_asked(pod)}: {condition.get('message', 'no reason given')}"
        waiting = [container.get("state", {}).get("waiting") or {} for container in status.get("containerStatuses", [])]
        for reason in waiting:
            if reason.get("reason") not in _STARTS_BY_ITSELF:
                return f"pod {name} can't start: {reason['reason']}: {reason.get('message', 'no reason given')}"
        if status.get("phase") == "Pending":
            warnings = [event for event in api.events(name) if event.get("type") == "Warning"]
            if warnings:  # such as a volume that can't be mounted
                last = max(warnings, key=lambda event: str(event.get("lastTimestamp", "")))
                return f"pod {name} can't start: {last.get('reason', '')}: {last.get('message', 'no reason given')}"
    return ""


def _asked(pod: Json) -> str:
    """The GPUs and the pool that a pod asks for; empty where it asks for none."""
    limits = [
        container.get("resources", {}).get("limits", {}) for container in pod.get("spec", {}).get("containers", [])
    ]
    gpus = sum(int(limit.get(GPU_RESOURCE, 0)) for limit in limits)
    pool = pod["metadata"].get("labels", {}).get(POOL_LABEL)
    return (f" with {GPU_RESOURCE}: {gpus}" if gpus else "") + (f" in pool {pool}" if pool else "")
