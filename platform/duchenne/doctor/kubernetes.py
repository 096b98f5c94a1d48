"""A Kubernetes cluster, as far as its API server tells the person who asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import KUEUE_GROUP, RAY_GROUP, Api, Refused
from duchenne.clusters.port import Json
from duchenne.doctor.finding import Finding, first_line

DOCS = "see docs/kubernetes.md"
# What the verbs do, and the role duchenne-submitter allows; a test holds both together.
NEEDED = (
    *((verb, "ray.io", "rayjobs") for verb in ("create", "delete", "get", "list", "watch")),
    *((verb, "", "configmaps") for verb in ("create", "delete", "get")),
    ("get", "kueue.x-k8s.io", "localqueues"),
    ("list", "kueue.x-k8s.io", "workloads"),
    ("list", "", "pods"),
    ("list", "", "events"),
    ("get", "", "pods/log"),
)


def kubernetes_findings(name: str, cluster: KubernetesCluster) -> Iterator[Finding]:
    """From the kubeconfig inwards; what can't be reached ends the list."""
    title = f"cluster {name}"
    try:
        api = Api.connect(cluster)
        there = api.namespace_exists()
    except Refused as refused:
        if refused.status != 403:
            yield Finding(title, "missing", first_line(refused), "log in, or mend the kubeconfig")
            return
        there = True  # whoever may not look at namespaces may still work in one
    except ClusterError as error:
        yield Finding(title, "missing", first_line(error), "mend the kubeconfig, or the network")
        return
    where = f"context {cluster.context}" if cluster.context else "the current context"
    if not there:
        yield Finding(title, "missing", f"{where} has no namespace {cluster.namespace}", f"install the chart; {DOCS}")
        return
    yield Finding(title, "ok", f"{where}, namespace {cluster.namespace}")
    yield from _checked(f"{title}, operators", lambda: _operators(title, api))
    yield from _checked(f"{title}, permissions", lambda: _permissions(title, api))
    yield from _checked(f"{title}, queue", lambda: _queue(title, api, cluster))
    yield from _secrets(title, api, cluster)
    yield from _storage(title, api, cluster)
    if "@sha256:" not in cluster.image:
        yield Finding(f"{title}, image", "warn", f"{cluster.image} has no digest", "pin it: a retry may run other code")


def _checked(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A refusal ends one check, not the others."""
    try:
        yield from check()
    except ClusterError as error:
        yield Finding(name, "missing", first_line(error))


def _operators(title: str, api: Api) -> Iterator[Finding]:
    for group, what in ((RAY_GROUP, "KubeRay"), (KUEUE_GROUP, "Kueue")):
        served = f"{group[0]}/{group[1]}"
        if api.serves(group):
            yield Finding(f"{title}, {what}", "ok", f"{served} is served")
        else:
            yield Finding(f"{title}, {what}", "missing", f"{served} is not served", f"install {what}; {DOCS}")


def _permissions(title: str, api: Api) -> Iterator[Finding]:
    denied = [f"{verb} {resource}" for verb, group, resource in NEEDED if not api.may(verb, group, resource)]
    if denied:
        yield Finding(
            f"{title}, permissions",
            "missing",
            f"you may not {', '.join(denied)}",
            "ask for the role duchenne-submitter",
        )
    else:
        yield Finding(f"{title}, permissions", "ok", f"all {len(NEEDED)} that the verbs need")


def _queue(title: str, api: Api, cluster: KubernetesCluster) -> Iterator[Finding]:
    name = f"{title}, queue"
    if cluster.queue is None:
        yield Finding(name, "ok", "that of each sweep's team; `submit` looks whether it is there")
        return
    try:
        queue = api.local_queue(cluster.queue)
    except Refused as refused:
        if refused.status != 404:
            raise
        yield Finding(name, "missing", f"no LocalQueue {cluster.queue} in {api.namespace}", f"make it; {DOCS}")
        return
    stopped = _inactive(queue)
    if stopped is not None:
        yield Finding(name, "missing", f"{cluster.queue} admits nothing: {stopped}", "mend its ClusterQueue")
    else:
        yield Finding(name, "ok", f"{cluster.queue} admits sweeps")


def _inactive(queue: Json) -> str | None:
    """Why a LocalQueue is not active; None where it is, or where Kueue has not said."""
    for condition in queue.get("status", {}).get("conditions", []):
        if condition["type"] == "Active" and condition["status"] != "True":
            return str(condition.get("message") or condition.get("reason") or "no reason given")
    return None


def _secrets(title: str, api: Api, cluster: KubernetesCluster) -> Iterator[Finding]:
    for purpose, secret in cluster.secrets:
        if secret is not None:
            make = f"kubectl -n {api.namespace} create secret generic {secret} ...; {DOCS}"
            yield _presence(f"{title}, secret {secret}", lambda secret=secret: api.secret_exists(secret), make)  # type: ignore[misc]
        elif purpose == "records":
            step = "name a Secret: without PostgreSQL no retry can resume, and `submit` refuses"
            yield Finding(f"{title}, records", "missing", "secrets.records names none", step)


def _storage(title: str, api: Api, cluster: KubernetesCluster) -> Iterator[Finding]:
    name = f"{title}, storage"
    if cluster.claim is None:
        seen = f"{cluster.storage or 'none'} does not keep checkpoints, and `submit` refuses it"
        yield Finding(name, "missing", seen, "set pvc://CLAIM, read-write-many; s3:// is for datasets")
        return
    claim = cluster.claim[0]
    yield _presence(name, lambda: api.claim_exists(claim), f"make the claim {claim}, read-write-many")


def _presence(name: str, exists: Callable[[], bool], make: str) -> Finding:
    try:
        there = exists()
    except Refused as refused:
        if refused.status != 403:
            return Finding(name, "missing", first_line(refused))
        return Finding(name, "warn", "you may not look, which submitting does not need", "ask whoever runs the cluster")
    except ClusterError as error:
        return Finding(name, "missing", first_line(error))
    return Finding(name, "ok", "is there") if there else Finding(name, "missing", "is not there", make)
