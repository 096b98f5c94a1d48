"""Submitting a sweep, and stopping it: all of its objects or none."""

from __future__ import annotations

import time
from pathlib import Path

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import KUEUE_GROUP, RAY_GROUP, Api, Refused
from duchenne.clusters.kubernetes.manifests import manifests, notes, own
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import fresh_id
from duchenne.spec import Sweep

GONE_SECONDS = 180.0  # pods get up to 90 s to save a checkpoint and say their last word
POLL_SECONDS = 2.0
_MUST = ("storage", "secrets.records")


class NothingToStop(ClusterError):  # noqa: N818 - reads as the fact it states
    """A sweep has no objects."""


def submit(
    sweep: Sweep,
    cluster: KubernetesCluster,
    api: Api | None = None,
    *,
    sweep_id: str | None = None,
    home: Path | None = None,
    limits: Limits | None = None,
) -> str:
    """Create the objects of a sweep; returns its id. Kueue starts it when there is room.

    `sweep_id` and `limits` are those of a sweep that goes on; `home` holds this machine's `teams.yaml`.

    Raises:
        ClusterError: the cluster or the sweep is not as it must be. Nothing of the sweep is left there.
    """
    for note in notes(sweep, cluster):
        if note.startswith(_MUST):
            raise ClusterError(f"{note}; set it in the clusters file")
    sweep_id = sweep_id or fresh_id(sweep)
    job, *owned = manifests(sweep, cluster, sweep_id=sweep_id, home=home, limits=limits)
    api = api or Api.connect(cluster)
    require_ready(api, cluster.queue or sweep.metadata.team)
    made = False
    try:
        created = api.create_ray_job(job)
        made = True
        for item in owned:
            api.create_config_map(own(item, created))
    except BaseException as error:  # an interrupt must not leave half a sweep either
        if made or not (isinstance(error, Refused) and 400 <= error.status < 500):
            _withdraw(api, sweep_id)
        raise
    return sweep_id


def stop(sweep_id: str, cluster: KubernetesCluster, api: Api | None = None, seconds: float = GONE_SECONDS) -> None:
    """Delete every object of a sweep, and wait until they are gone: nothing is billed afterwards.

    Raises:
        NothingToStop: no such sweep there.
        ClusterError: something is left after that many seconds.
    """
    api = api or Api.connect(cluster)
    found = _is_there(api, sweep_id)  # asked before: a deletion whose answer was lost finds nothing when tried again
    deleted = [_delete(api, kind, sweep_id) for kind in ("rayjobs", "configmaps")]
    if not found and not any(deleted):
        raise NothingToStop(
            f"a sweep must have objects to be stopped, but namespace {api.namespace} has none of {sweep_id}; "
            "it has ended, or runs elsewhere"
        )
    deadline = time.monotonic() + seconds
    while _is_there(api, sweep_id):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"RayJob {sweep_id} must be gone within {seconds:g} s, but is still there; "
                f"see `kubectl describe rayjob {sweep_id} -n {api.namespace}`"
            )
        time.sleep(POLL_SECONDS)


def require_ready(api: Api, queue: str) -> None:
    """Refuse a cluster that could not run a sweep.

    Raises:
        ClusterError: no KubeRay, no Kueue, no such queue.
    """
    for group, what in ((RAY_GROUP, "KubeRay"), (KUEUE_GROUP, "Kueue")):
        if not api.serves(group):
            raise ClusterError(
                f"{what} is not installed in this cluster: it does not serve {group[0]}/{group[1]}; "
                "see docs/kubernetes.md"
            )
    try:
        api.local_queue(queue)
    except Refused as refused:
        if refused.status != 404:
            raise
        raise ClusterError(
            f"a LocalQueue must be in namespace {api.namespace}, but there is no {queue!r}; "
            "set `queue` in the clusters file, or ask for one (docs/kubernetes.md)"
        ) from None


def _withdraw(api: Api, sweep_id: str) -> None:
    """Take back what was created; a failure of that is told beside the first one."""
    for kind in ("rayjobs", "configmaps"):
        try:
            _delete(api, kind, sweep_id)
        except ClusterError as error:
            raise ClusterError(
                f"{kind} {sweep_id} must be taken back after a failure, but {error}; "
                f"delete it: kubectl delete {kind} {sweep_id} -n {api.namespace}"
            ) from error


def _delete(api: Api, kind: str, name: str) -> bool:
    """Whether it was there."""
    try:
        (api.delete_ray_job if kind == "rayjobs" else api.delete_config_map)(name)
    except Refused as refused:
        if refused.status == 404:
            return False
        raise
    return True


def _is_there(api: Api, sweep_id: str) -> bool:
    try:
        api.ray_job(sweep_id)
    except Refused as refused:
        if refused.status == 404:
            return False
        raise
    return True
