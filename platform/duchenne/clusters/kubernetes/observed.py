"""What a sweep cost so far by what the cluster shows: the lifetimes of its pods, at the prices of their nodes.

A pod that is deleted shows nothing any more: these are the pods that are still there, and of a running sweep all but
the workers that its autoscaler let go. The ledger of the records has the rest.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from duchenne.clusters.kubernetes.pods import GPU_RESOURCE, PRICE_ANNOTATION, SHARE_ANNOTATION, SUBMITTER_LABEL
from duchenne.clusters.port import UNITS, Json, unknown

BUDGET_ANNOTATION = "duchenne.dev/budget"


def observed_cost(job: Json, pods: list[Json], now: datetime) -> Json:
    """The contract's shape. `spent` is None where a price is missing; what is reserved and wasted is the ledger's."""
    budget = json.loads(job["metadata"].get("annotations", {}).get(BUDGET_ANNOTATION, "{}"))
    lives = [(pod, _seconds(pod, now)) for pod in pods]
    prices = [_usd_per_second(pod) for pod, seconds in lives if seconds]
    usd = [price * seconds for (_, seconds), price in zip(_begun(lives), prices, strict=True) if price is not None]
    return {
        "budget": {unit: budget.get(unit) for unit in UNITS},
        "spent": {
            "usd": sum(usd) if len(usd) == len(prices) else None,
            "gpu_hours": sum(_gpus(pod) * seconds for pod, seconds in lives) / 3600,
            "wall_seconds": _elapsed(job, now),
        },
        "reserved": unknown(),
        "wasted": unknown(),
    }


def pods_are_gone(job: Json, pods: list[Json]) -> bool:
    """Whether pods that cost something are deleted: those of a cluster that failed, or of a sweep that has ended.

    The submitter's pod stays; it is not what the money went to.
    """
    status = job.get("status", {})
    if not status.get("startTime"):
        return False
    over = status.get("jobDeploymentStatus") in ("Complete", "Failed", "Retrying")
    left = [pod for pod in pods if SUBMITTER_LABEL not in pod["metadata"].get("labels", {})]
    return bool(status.get("failed")) or (over and not left)


def _begun(lives: list[tuple[Json, float]]) -> list[tuple[Json, float]]:
    return [(pod, seconds) for pod, seconds in lives if seconds]


def _seconds(pod: Json, now: datetime) -> float:
    """From the node's acceptance to the end of the last container, else until now: what a node is held for."""
    status = pod.get("status", {})
    if "startTime" not in status:
        return 0.0
    ends = [
        container.get("state", {}).get("terminated", {}).get("finishedAt")
        for container in status.get("containerStatuses", [])
    ]
    over = status.get("phase") in ("Succeeded", "Failed") and ends and all(ends)
    end = max(_time(str(at)) for at in ends) if over else now
    return max(0.0, (end - _time(status["startTime"])).total_seconds())


def _usd_per_second(pod: Json) -> float | None:
    notes = pod["metadata"].get("annotations", {})
    if PRICE_ANNOTATION not in notes:
        return None
    return float(notes[PRICE_ANNOTATION]) * float(notes.get(SHARE_ANNOTATION, "1")) / 3600


def _gpus(pod: Json) -> int:
    containers = pod.get("spec", {}).get("containers", [])
    return sum(int(part.get("resources", {}).get("limits", {}).get(GPU_RESOURCE, 0)) for part in containers)


def _elapsed(job: Json, now: datetime) -> float | None:
    status = job.get("status", {})
    if not status.get("startTime"):
        return None
    end = _time(status["endTime"]) if status.get("endTime") else now
    return (end - _time(status["startTime"])).total_seconds()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
