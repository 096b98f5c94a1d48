"""The clusters of the clusters file: whether a sweep could be sent to each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from duchenne.clusters.config import Cluster, LocalCluster, RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.file import load_clusters
from duchenne.doctor.finding import Finding, first_line
from duchenne.spec import SpecError


def cluster_findings(file: Path | None, only: str | None = None) -> Iterator[Finding]:
    """Each cluster in the file's order, or one of it."""
    try:
        clusters = load_clusters(file)
        chosen = {only: clusters.get(only)} if only is not None else clusters.by_name
    except SpecError as error:
        for line in str(error).splitlines():
            yield Finding("clusters file", "missing", line, "see docs/kubernetes.md")
        return
    except ClusterError as error:
        yield Finding("clusters file", "missing", first_line(error))
        return
    if not chosen:
        yield Finding("clusters file", "ok", f"{clusters.source} describes none; sweeps run here")
    for name, cluster in chosen.items():
        yield from _findings(name, cluster)


def _findings(name: str, cluster: Cluster) -> Iterator[Finding]:
    if isinstance(cluster, LocalCluster):
        yield Finding(f"cluster {name}", "ok", "this machine")
    elif isinstance(cluster, RayCluster):
        yield from _ray_findings(name, cluster)
    else:
        from duchenne.doctor.kubernetes import kubernetes_findings

        yield from kubernetes_findings(name, cluster)


def _ray_findings(name: str, cluster: RayCluster) -> Iterator[Finding]:
    from importlib.metadata import version

    from duchenne.clusters.rayjobs.api import RayApi

    title = f"cluster {name}"
    if not os.environ.get(cluster.token_env):
        yield Finding(
            f"{title}, token",
            "warn",
            f"{cluster.token_env} is not set",
            "a Ray cluster without a token runs code of whoever reaches it: set RAY_AUTH_MODE=token there",
        )
    api = RayApi(cluster, pause_seconds=0.1)
    try:
        there, nodes, _ = api.version(), api.nodes(), api.jobs()
    except ClusterError as error:
        yield Finding(
            title, "missing", first_line(error), "`ray start --head` there, and a way to its dashboard's port"
        )
        return
    if there.split(".")[:2] != version("ray").split(".")[:2]:
        yield Finding(f"{title}, version", "warn", f"Ray {there} there and {version('ray')} here", "use one version")
    if not nodes:
        yield Finding(title, "missing", f"{cluster.address} answers, but no node is alive", "start its nodes")
        return
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    yield Finding(title, "ok", f"Ray {there} at {cluster.address}, {len(nodes)} nodes, {cpus:g} CPU, {gpus:g} GPU")
