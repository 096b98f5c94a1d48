"""How many workers of which size a sweep gets, and on which nodes.

A worker's pod holds one fold worker; where a fold worker takes a fraction of a GPU or core, the pod holds one of it and
as many fold workers as share it. An eviction then costs one pod's folds, and a node that idles is given back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from duchenne.clusters.config import KubernetesCluster, NodePool
from duchenne.clusters.errors import ClusterError
from duchenne.plan.counting import count
from duchenne.spec import Sweep
from duchenne.spec.sections import Resources

MEMORY_SHARE = 0.9  # of a node's, for pods: the rest is the system's
UNNAMED_GROUP = "workers"


@dataclass(frozen=True)
class WorkerGroup:
    """One worker group of the Ray cluster.

    Attributes:
        name: its name, that of the pool.
        pool: the nodes; None where the clusters file describes none.
        cpus: cores of a pod; gpus: GPUs of a pod; memory_mib: MiB of a pod.
        fold_workers: fold workers that share a pod.
        pods: pods at most.
    """

    name: str
    pool: NodePool | None
    cpus: float
    gpus: int
    memory_mib: int
    fold_workers: int
    pods: int


def worker_groups(sweep: Sweep, cluster: KubernetesCluster) -> tuple[WorkerGroup, ...]:
    """The groups, in the order of the clusters file, with as many pods as there is work for.

    Raises:
        ClusterError: a fold worker is larger than the largest node that it may use.
    """
    resources = sweep.folds.resources
    if cluster.max_workers < sweep.folds.workers_per_fold:
        raise ClusterError(
            f"folds.workers_per_fold: a fold's workers must fit the pool of {cluster.max_workers}, but got "
            f"{sweep.folds.workers_per_fold}; lower it, or raise max_workers of the cluster"
        )
    gpus = math.ceil(resources.gpu)
    shared = max(1, math.floor(1 / (resources.gpu or resources.cpu)))
    cpus = resources.cpu * shared
    wanted = min(cluster.max_workers, count(sweep).fold_jobs * sweep.folds.workers_per_fold)
    pods = math.ceil(wanted / shared)
    if not cluster.node_pools:
        memory = int(cluster.worker_memory_gib * shared * 1024)
        return (WorkerGroup(UNNAMED_GROUP, None, cpus, gpus, memory, shared, pods),)
    groups: list[WorkerGroup] = []
    left = pods
    for pool in _usable(cluster, gpus):
        fitting = _pods_on(pool, cpus, gpus)
        most = min(left, fitting * pool.max_nodes)
        if most:
            memory = int(pool.memory_gib * MEMORY_SHARE * 1024 / fitting)
            groups.append(WorkerGroup(pool.name, pool, cpus, gpus, memory, shared, most))
        if not cluster.autoscaling:
            left -= most  # all of them start, so together they are no more than the work needs
    if not groups:
        raise ClusterError(_too_large(cluster, resources, cpus, gpus))
    return tuple(groups)


def head_pool(cluster: KubernetesCluster) -> NodePool | None:
    """The pool of heads: on-demand, without GPUs where there is one; None where the clusters file describes none.

    Raises:
        ClusterError: no node of an on-demand pool holds a head.
    """
    if not cluster.node_pools:
        return None
    size = cluster.head
    steady = [pool for pool in cluster.node_pools if not pool.spot]
    fitting = [pool for pool in steady if pool.cpu >= size.cpu and pool.memory_gib * MEMORY_SHARE >= size.memory_gib]
    if not fitting:
        largest = max(steady, key=lambda pool: (pool.memory_gib, pool.cpu))
        raise ClusterError(
            f"head: an on-demand node must hold {size.cpu:g} CPU and {size.memory_gib:g} GiB, but the largest, of "
            f"{largest.name}, has {largest.cpu:g} and {largest.memory_gib * MEMORY_SHARE:g}; lower head or add a pool"
        )
    return min(fitting, key=lambda pool: pool.gpu > 0)  # the first without GPUs, else the first


def fold_workers(groups: tuple[WorkerGroup, ...], cluster: KubernetesCluster) -> int:
    """Fold workers that run at once, over all groups."""
    return min(cluster.max_workers, sum(group.pods * group.fold_workers for group in groups))


def _usable(cluster: KubernetesCluster, gpus: int) -> list[NodePool]:
    """Pools that a fold worker may use: a GPU's for one that needs a GPU, and else those without, if there are any."""
    allowed = [pool for pool in cluster.node_pools if cluster.allow_spot or not pool.spot]
    if gpus:
        return [pool for pool in allowed if pool.gpu]
    return [pool for pool in allowed if not pool.gpu] or allowed


def _pods_on(pool: NodePool, cpus: float, gpus: int) -> int:
    by_cpu = math.floor(pool.cpu / cpus + 1e-9)
    return min(by_cpu, pool.gpu // gpus) if gpus else by_cpu


def _too_large(cluster: KubernetesCluster, resources: Resources, cpus: float, gpus: int) -> str:
    usable = _usable(cluster, gpus)
    asked = f"folds.resources: a worker's pod needs {cpus:g} CPU and {gpus} GPU (cpu: {resources.cpu:g}, "
    asked += f"gpu: {resources.gpu:g} a fold worker)"
    if not usable:
        kinds = "a GPU" if cluster.allow_spot else "a GPU on demand"
        return f"{asked}, but no node pool has {kinds}; set gpu to 0 or add a pool to the clusters file"
    largest = max(usable, key=lambda pool: (pool.gpu, pool.cpu))
    return (
        f"{asked}, but the largest node, of {largest.name}, has {largest.cpu:g} and {largest.gpu}; "
        "lower folds.resources or add a pool to the clusters file"
    )
