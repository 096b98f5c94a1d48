"""The clusters file's models: what a cluster is called, where it is, what its nodes hold and cost.

Secrets are named here, never written: a token or a password comes from the environment or from a Kubernetes Secret.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from duchenne.spec.sections import SLUG_PATTERN
from duchenne_jobs.config import Config

SPOT_HINT = "set spot: false on one, or add a pool of on-demand nodes"
STORAGE_SCHEMES = ("pvc", "s3")
MAX_WORKER_GROUPS = 17  # Kueue's bound on the pod sets of a RayJob, less the head and the submitter
HOUR = 3600

Name = Annotated[str, Field(pattern=SLUG_PATTERN, max_length=63)]
Seconds = Annotated[int, Field(ge=1, le=31 * 24 * HOUR)]

_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/.*)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(
    r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9._-]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_STORAGE = re.compile(r"(?P<scheme>pvc|s3)://(?P<name>[a-z0-9]([-.a-z0-9]*[a-z0-9])?)(/(?P<folder>[\w./=-]*))?")


def _checked_address(address: str) -> str:
    if _ADDRESS.fullmatch(address) is None:
        # The value is not repeated: it may hold a secret.
        raise ValueError("an address must be http(s)://HOST:PORT, but got another; write the one of Ray's dashboard")
    return address


def _checked_variable(name: str) -> str:
    if _VARIABLE.fullmatch(name) is None:
        raise ValueError("must be the name of an environment variable, but got another text; put the token into it")
    return name


def _checked_folder(folder: str) -> str:
    if not folder.startswith("/") or ".." in folder.split("/"):
        raise ValueError(
            f"a folder of the cluster must be an absolute path, which its nodes share, but got {folder!r}; write it "
            "out (s3:// is for datasets)"
        )
    return folder


def _checked_program(program: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_./+-]+", program) is None:
        raise ValueError(f"a program must be a name or a path without blanks, but got {program!r}; write it so")
    return program


def _checked_image(image: str) -> str:
    if _IMAGE.fullmatch(image) is None:
        raise ValueError(
            f"an image must be REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:..., but got {image!r}; "
            "copy it from `docker push`"
        )
    return image


def _checked_storage(storage: str | None) -> str | None:
    if storage is None:
        return None
    match = _STORAGE.fullmatch(storage)
    if match is None or ".." in (match["folder"] or "").split("/"):
        raise ValueError(
            "storage must be pvc://CLAIM/FOLDER or s3://BUCKET/PREFIX without credentials, but got another; write one"
        )
    return storage


class Toleration(Config):
    """A taint of nodes that pods put up with."""

    key: str = Field(description="The taint's key.", min_length=1, max_length=317)
    operator: Literal["Exists", "Equal"] = Field("Exists", description="`Equal` compares the value.")
    value: str | None = Field(None, description="The taint's value, with `Equal`.", max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect; null for any."
    )

    @model_validator(mode="after")
    def _value_with_equal(self) -> Self:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError(
                f"`value` goes with operator Equal and no other, but got operator {self.operator}; mend one of the two"
            )
        return self


class NodePool(Config):
    """Nodes of one kind: what one of them offers to pods, how many there may be, what an hour costs."""

    name: Name = Field(description="Name of the pool; its worker group is called so.")
    cpu: Annotated[float, Field(gt=0, le=4096)] = Field(description="CPU cores that pods may use on a node.")
    memory_gib: Annotated[float, Field(gt=0, le=65536)] = Field(description="GiB that pods may use on a node.")
    gpu: Annotated[int, Field(ge=0, le=64)] = Field(0, description="GPUs of a node.")
    max_nodes: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="Nodes that one sweep may hold at most.")
    spot: bool = Field(False, description="Whether the cloud may take a node away.")
    usd_per_hour: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        None, description="US dollars an hour of a node; null where nobody knows."
    )
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of the nodes.")
    tolerations: tuple[Toleration, ...] = Field((), description="Taints of the nodes.")
    runtime_class: Name | None = Field(None, description="RuntimeClass, such as `nvidia`; null for the cluster's.")


class HeadSize(Config):
    """What the head's pod holds: Ray's own processes and the driver."""

    cpu: Annotated[float, Field(ge=1, le=256)] = Field(2, description="CPU cores.")
    memory_gib: Annotated[float, Field(ge=2, le=4096)] = Field(8, description="GiB.")


class SecretNames(Config):
    """Secrets of the namespace, by name. Their content is never read, printed or recorded here."""

    ray_token: Name = Field("duchenne-ray-token", description="Key `auth_token`: the token of Ray's job API.")
    storage: Name | None = Field(
        None, description="Keys AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; null with workload identity."
    )
    image_pull: Name | None = Field(None, description="Of type dockerconfigjson, for a registry that asks for it.")
    records: Name | None = Field(
        None, description="Keys `url` (postgresql://USER@HOST/NAME) and `password`: the records of every sweep."
    )
    webhooks: Name | None = Field(None, description="Keys DUCHENNE_WEBHOOK_NAME_URL, ..._SECRET, ..._FORMAT.")


class LocalCluster(Config):
    """Embedded Ray on this machine."""

    type: Literal["local"] = Field("local", description="This machine.")


class RayCluster(Config):
    """A Ray cluster that runs already, reached through Ray Jobs."""

    type: Literal["ray"] = Field("ray", description="An existing Ray cluster.")
    address: Annotated[str, AfterValidator(_checked_address)] = Field(
        description="URL of its dashboard, `https://HOST:PORT`."
    )
    token_env: Annotated[str, AfterValidator(_checked_variable)] = Field(
        "RAY_AUTH_TOKEN", description="Environment variable that holds the token."
    )
    home: Annotated[str, AfterValidator(_checked_folder)] | None = Field(
        None, description="Home on the cluster, a folder that all nodes share; null for the one that its nodes know."
    )
    program: Annotated[str, AfterValidator(_checked_program)] = Field(
        "duchenne", description="How Duchenne is called there: a name on its PATH, or a path."
    )
    max_workers: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Fold workers at most; null for as many as fit the nodes that are there at submission."
    )


class KubernetesCluster(Config):
    """A Kubernetes cluster with KubeRay and Kueue."""

    type: Literal["kubernetes"] = Field("kubernetes", description="A Kubernetes cluster.")
    context: str | None = Field(None, description="Context of the kubeconfig; null takes the current one.")
    namespace: Name = Field("duchenne", description="Namespace of sweeps.")
    queue: Name | None = Field(None, description="Kueue's LocalQueue; null takes the one named after the team.")
    priority: Name | None = Field(None, description="Kueue's WorkloadPriorityClass; null for none.")
    image: Annotated[str, AfterValidator(_checked_image)] = Field(
        default_factory=lambda: f"duchenne:{version('duchenne')}",
        description="Image of head, workers and submitter; pin it by digest.",
    )
    node_pools: Annotated[tuple[NodePool, ...], Field(max_length=MAX_WORKER_GROUPS)] = Field(
        (), description="Nodes to choose from; none lets the scheduler place pods of the size of one fold worker."
    )
    head: HeadSize = Field(default_factory=HeadSize, description="Size of the head's pod.")
    worker_memory_gib: Annotated[float, Field(gt=0, le=65536)] = Field(
        4, description="GiB of a fold worker's pod where no pool is described."
    )
    max_workers: Annotated[int, Field(ge=1, le=1000)] = Field(8, description="Fold workers that a sweep may hold.")
    storage: Annotated[str | None, AfterValidator(_checked_storage)] = Field(
        None, description="Where checkpoints and predictions go: `pvc://CLAIM/FOLDER` (read-write-many) or `s3://`."
    )
    service_account: Name = Field("duchenne-sweep", description="ServiceAccount of workers and submitter.")
    head_service_account: Name = Field("duchenne-head", description="ServiceAccount of heads: the autoscaler's.")
    secrets: SecretNames = Field(default_factory=SecretNames, description="Secrets by name.")
    head_priority_class: Name | None = Field(None, description="PriorityClass of heads; null for none.")
    metrics_port: Annotated[int, Field(ge=1024, le=65535)] | None = Field(
        None, description="Port on which heads are scraped, that of the chart's `monitoring.port`; null for none."
    )
    tolerations: tuple[Toleration, ...] = Field((), description="Taints that every pod puts up with.")
    runtime_class: Name | None = Field(None, description="RuntimeClass of every pod; null for the cluster's.")
    autoscaling: bool = Field(
        True, description="Workers from 0 on demand; needs Kueue's ElasticJobsViaWorkloadSlices. false: all at once."
    )
    allow_spot: bool = Field(True, description="Whether workers may run on spot nodes; heads never do.")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(3, description="New Ray clusters after a failed one.")
    start_seconds: Seconds = Field(1800, description="How long pods may take to start before the sweep is given up.")
    max_seconds: Seconds = Field(7 * 24 * HOUR, description="Wall time of a sweep whose budget bounds none.")

    @model_validator(mode="after")
    def _pools_that_fit_together(self) -> Self:
        names = [pool.name for pool in self.node_pools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of node pools must be distinct, but got {', '.join(twice)} twice; rename one")
        if names and all(pool.spot for pool in self.node_pools):
            raise ValueError(f"a head needs a node that nobody takes away, but got spot pools only; {SPOT_HINT}")
        return self

    @property
    def claim(self) -> tuple[str, str] | None:
        """(name, folder) of the persistent volume claim that holds the home; None without one."""
        match = _STORAGE.fullmatch(self.storage or "")
        return (match["name"], (match["folder"] or "").strip("/")) if match and match["scheme"] == "pvc" else None


Cluster = LocalCluster | RayCluster | KubernetesCluster
CLUSTER_TYPES: dict[str, type[LocalCluster] | type[RayCluster] | type[KubernetesCluster]] = {
    "local": LocalCluster,
    "ray": RayCluster,
    "kubernetes": KubernetesCluster,
}
