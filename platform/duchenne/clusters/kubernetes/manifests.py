"""The Kubernetes objects of one sweep: a `RayJob`, and the ConfigMap that holds its spec.

`submit` creates the RayJob first, suspended, and then the ConfigMap with an owner reference to it (`own`): the RayJob's
uid is not known before. Deleting the RayJob then deletes everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from duchenne.clusters.config import HOUR, KubernetesCluster, NodePool
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.pods import (
    HOME,
    SPEC_FOLDER,
    autoscaler_options,
    head_template,
    submitter_template,
    worker_template,
)
from duchenne.clusters.kubernetes.sizing import WorkerGroup, fold_workers, head_pool, worker_groups
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import Json
from duchenne.clusters.portable import SPEC_NAME, entrypoint_words, portable_files
from duchenne.plan.teams import TEAMS_NAME, TEAMS_VARIABLE
from duchenne.spec import Sweep
from duchenne.spec.sections import split_uri
from duchenne_jobs.data.digest import canonical_digest

RAY_API = "ray.io/v1"
MAX_SPEC_BYTES = 900_000  # the API server keeps 1 MiB an object
TEARDOWN_SECONDS = 300  # for the last checkpoint and the entries
OWNER_ANNOTATION = "duchenne.dev/owner"


def manifests(
    sweep: Sweep,
    cluster: KubernetesCluster | Mapping[str, Any],
    *,
    sweep_id: str | None = None,
    home: Path | None = None,
    limits: Limits | None = None,
) -> list[dict[str, Any]]:
    """The objects that `submit` creates, in that order: the RayJob, then what it will own.

    Args:
        sweep: what is to run.
        cluster: where; a mapping is read as a `kubernetes` section of the clusters file.
        sweep_id: the sweep's id on record; None takes one that follows from the spec.
        home: where this machine's `teams.yaml` is, which travels with the spec; None leaves it out.
        limits: what a sweep that goes on may spend instead of what its spec says.

    Raises:
        ClusterError: the sweep can't run there: data that pods can't reach, more than the largest node.
    """
    place = cluster if isinstance(cluster, KubernetesCluster) else KubernetesCluster.model_validate(cluster)
    _require_reachable(sweep)
    identifier = sweep_id or sweep_id_of(sweep)
    files = portable_files(sweep, home)
    job = _ray_job(_bounded(sweep, limits or Limits()), place, identifier)
    job["spec"]["entrypoint"] = entrypoint(identifier, limits)
    if TEAMS_NAME in files:
        head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        head["env"].append({"name": TEAMS_VARIABLE, "value": f"{SPEC_FOLDER}/{TEAMS_NAME}"})
    return [job, _config_map(sweep, place, identifier, files)]


def sweep_id_of(sweep: Sweep) -> str:
    """An id that follows from the spec: the same file gives the same objects."""
    digest = canonical_digest(sweep.model_dump(mode="json")).removeprefix("sha256:")
    return f"{sweep.metadata.name}-{digest[:6]}"  # KubeRay takes 47 characters: 40, a hyphen and 6


def own(item: Mapping[str, Any], owner: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an object that is deleted with its owner. `owner` is the RayJob as the API server returned it."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return {**item, "metadata": {**item["metadata"], "ownerReferences": [reference]}}


def notes(sweep: Sweep, cluster: KubernetesCluster) -> list[str]:
    """What a reader of the objects should know: what would be lost or is not pinned. One line each."""
    found = []
    if cluster.claim is None:
        seen = cluster.storage or "none"
        found.append(
            f"storage: checkpoints and predictions need pvc://CLAIM, shared by all pods, but got {seen}: "
            "they would go with the pods (s3:// is for datasets)"
        )
    if cluster.secrets.records is None:
        found.append("secrets.records: without PostgreSQL a retry can't resume, and nothing is on record afterwards")
    if "@sha256:" not in cluster.image:
        found.append(f"image: {cluster.image} may change under a running sweep; pin it by digest")
    if sweep.data.uri.startswith("s3://") and cluster.secrets.storage is None:
        found.append("secrets.storage: none; s3:// is read with the workload identity of the service account")
    return found


def labels_of(sweep: Sweep, sweep_id: str) -> dict[str, str]:
    """Labels of every object and pod of a sweep: what it is, whose, and where its cost belongs."""
    return {
        "app.kubernetes.io/name": "duchenne",
        "app.kubernetes.io/component": "sweep",
        "app.kubernetes.io/part-of": "duchenne",
        "app.kubernetes.io/managed-by": "duchenne",
        "duchenne.dev/sweep": sweep_id,
        "duchenne.dev/team": sweep.metadata.team,
        "duchenne.dev/cost-center": sweep.metadata.team,
    }


def _bounded(sweep: Sweep, limits: Limits) -> Sweep:
    """The sweep with its new limits: they decide about the deadline."""
    given = {name: value for name, value in vars(limits).items() if value is not None}
    return sweep.model_copy(update={"budget": sweep.budget.model_copy(update=given)})


def entrypoint(sweep_id: str, limits: Limits | None = None) -> str:
    """What Ray Jobs runs: starts the sweep, or goes on with it where the records have it, as a retry must.

    No shell syntax: KubeRay splits it into words. Ray's clusters of all retries run the very same.
    """
    return " ".join(["duchenne", *entrypoint_words(f"{SPEC_FOLDER}/{SPEC_NAME}", sweep_id, limits)])


def deadline_seconds(sweep: Sweep, cluster: KubernetesCluster) -> int:
    """Seconds after which Kubernetes ends the job whatever it says: the tightest bound that the budget implies.

    Dollars bound it by the head's price alone, and GPU-hours by one fold worker: the least that can run.
    """
    budget = sweep.budget
    bounds = [float(cluster.max_seconds)]
    if budget.wall_seconds is not None:
        bounds.append(budget.wall_seconds)
    pool = head_pool(cluster)
    if budget.usd is not None and pool is not None and pool.usd_per_hour:
        bounds.append(budget.usd / (pool.usd_per_hour * _share_of_node(cluster, pool)) * HOUR)
    if budget.gpu_hours is not None and sweep.folds.resources.gpu:
        bounds.append(budget.gpu_hours / sweep.folds.resources.gpu * HOUR)
    return min(math.ceil(min(bounds)), cluster.max_seconds) + cluster.start_seconds + TEARDOWN_SECONDS


def _share_of_node(cluster: KubernetesCluster, pool: NodePool) -> float:
    return max(cluster.head.cpu / pool.cpu, cluster.head.memory_gib / pool.memory_gib)


def _ray_job(sweep: Sweep, cluster: KubernetesCluster, sweep_id: str) -> Json:
    labels = labels_of(sweep, sweep_id)
    pool = head_pool(cluster)
    kueue = {"kueue.x-k8s.io/queue-name": cluster.queue or sweep.metadata.team}
    if cluster.priority is not None:
        kueue["kueue.x-k8s.io/priority-class"] = cluster.priority
    deadline = deadline_seconds(sweep, cluster)
    kueue["kueue.x-k8s.io/max-exec-time-seconds"] = str(deadline)
    return {
        "apiVersion": RAY_API,
        "kind": "RayJob",
        "metadata": {
            "name": sweep_id,
            "namespace": cluster.namespace,
            "labels": {**labels, **kueue},
            "annotations": _annotations(sweep, cluster),
        },
        "spec": {
            "entrypoint": entrypoint(sweep_id),
            "suspend": True,  # until Kueue admits it
            "submissionMode": "K8sJobMode",
            "submitterPodTemplate": submitter_template(cluster, pool, labels),
            "submitterConfig": {"backoffLimit": 2},
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 0,
            "backoffLimit": cluster.retries,
            "activeDeadlineSeconds": deadline,
            "preRunningDeadlineSeconds": cluster.start_seconds,
            "metadata": {"sweep": sweep_id, "team": sweep.metadata.team},
            "rayClusterSpec": _ray_cluster(sweep, cluster, sweep_id, labels, pool),
        },
    }


def _annotations(sweep: Sweep, cluster: KubernetesCluster) -> dict[str, str]:
    limits = sweep.budget.model_dump(exclude_none=True)
    annotations = {
        "duchenne.dev/version": version("duchenne"),
        "duchenne.dev/budget": json.dumps(limits, sort_keys=True),
    }
    return annotations | ({"kueue.x-k8s.io/elastic-job": "true"} if cluster.autoscaling else {})


def _ray_cluster(
    sweep: Sweep, cluster: KubernetesCluster, sweep_id: str, labels: dict[str, str], pool: NodePool | None
) -> Json:
    groups = worker_groups(sweep, cluster)
    workers = fold_workers(groups, cluster)
    resources = sweep.folds.resources
    size = {
        "DUCHENNE_CLUSTER_CPUS": f"{workers * resources.cpu:g}",
        "DUCHENNE_CLUSTER_GPUS": f"{workers * resources.gpu:g}",
    }
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token", "secretName": cluster.secrets.ray_token},
        "enableInTreeAutoscaling": cluster.autoscaling,
        **({"autoscalerOptions": autoscaler_options()} if cluster.autoscaling else {}),
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            # One core for the trials, which only wait.
            "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "1", "num-gpus": "0"},  # noqa: S104
            "template": head_template(cluster, pool, sweep_id, labels, size),
        },
        "workerGroupSpecs": [_worker_group(cluster, group, labels) for group in groups],
    }


def _worker_group(cluster: KubernetesCluster, group: WorkerGroup, labels: dict[str, str]) -> Json:
    least = 0 if cluster.autoscaling else group.pods
    return {
        "groupName": group.name,
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": group.pods,
        "numOfHosts": 1,
        "rayStartParams": {"num-cpus": str(math.ceil(group.cpus)), "num-gpus": str(group.gpus)},
        "template": worker_template(cluster, group, labels),
    }


def _config_map(sweep: Sweep, cluster: KubernetesCluster, sweep_id: str, files: dict[str, str]) -> Json:
    size = sum(len(text.encode()) for text in files.values())
    if size > MAX_SPEC_BYTES:
        raise ClusterError(
            f"a sweep file must have at most {MAX_SPEC_BYTES} bytes to fit a ConfigMap, but got {size}; "
            "shorten its lists"
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": sweep_id,
            "namespace": cluster.namespace,
            "labels": labels_of(sweep, sweep_id),
            "annotations": {OWNER_ANNOTATION: f"RayJob/{sweep_id}"},
        },
        "immutable": True,
        "data": files,
    }


def _require_reachable(sweep: Sweep) -> None:
    """Pods see neither this machine's folders nor its files."""
    scheme, rest = split_uri(sweep.data.uri)
    if scheme in (None, "file") and not rest.startswith(f"{HOME}/"):
        raise ClusterError(
            f"data.uri: pods read s3://, builtin:// or a folder of the storage under {HOME}, but got {sweep.data.uri}; "
            "copy the dataset there"
        )
    protocol = sweep.data.protocol
    if protocol is not None and protocol.lower().endswith((".yaml", ".yml", ".json")) and not protocol.startswith(HOME):
        raise ClusterError(
            f"data.protocol: pods read published folds or a file under {HOME}, but got {protocol}; put it there"
        )
