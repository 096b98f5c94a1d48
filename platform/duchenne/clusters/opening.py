"""A section of the clusters file to its port. What a kind of cluster needs is imported with it."""

from __future__ import annotations

from pathlib import Path

from duchenne.clusters.config import Cluster, KubernetesCluster, LocalCluster, RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.port import Port


def open_cluster(cluster: Cluster, home: Path, code: Path | None = None) -> Port:
    """The port of a cluster. Nothing is connected to yet.

    Args:
        home: this machine's; `local` lives in it, and its `teams.yaml` travels with a sweep.
        code: a checkout that a Ray cluster shall run.

    Raises:
        ClusterError: `code` for a cluster that can't take it.
    """
    if code is not None and not isinstance(cluster, RayCluster):
        raise ClusterError(
            f"a working tree goes to a cluster of type ray, but this one is of type {cluster.type}; "
            "build an image of it (docs/kubernetes.md)"
        )
    match cluster:
        case LocalCluster():
            from duchenne.clusters.background import LocalPort

            return LocalPort(home)
        case RayCluster():
            from duchenne.clusters.rayjobs.cluster import RayPort
            from duchenne.clusters.rayjobs.request import checked_code

            return RayPort(cluster, home, None if code is None else checked_code(code))
        case KubernetesCluster():
            from duchenne.clusters.kubernetes.cluster import KubernetesPort

            return KubernetesPort(cluster, home)
