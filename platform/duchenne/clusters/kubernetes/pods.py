"""Pod templates of head, workers and submitter: the same image, closed in the same way, on different nodes."""

from __future__ import annotations

from duchenne.clusters.config import KubernetesCluster, NodePool, Toleration
from duchenne.clusters.kubernetes.sizing import WorkerGroup
from duchenne.clusters.port import Json
from duchenne.paths import PID_VARIABLE

HOME = "/var/lib/duchenne"
SPEC_FOLDER = "/etc/duchenne"
USER = 10001  # the Dockerfile's
GPU_RESOURCE = "nvidia.com/gpu"
POOL_LABEL = "duchenne.dev/pool"
SUBMITTER_LABEL = "job-name"  # Kubernetes gives it to the pods of a Job, and KubeRay names the Job after the RayJob
PRICE_ANNOTATION = "duchenne.dev/node-usd-per-hour"
SHARE_ANNOTATION = "duchenne.dev/node-share"
TEMPORARY_GIB = 20
RAY_PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001}
# Where clouds and node provisioners say that a node may be taken away; `NotIn` also admits nodes without the label.
SPOT_LABELS = {
    "duchenne.dev/capacity": "spot",
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "cloud.google.com/gke-spot": "true",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
AGENT_PORT = 52365  # of Ray's dashboard agent, on every node
PID_FILE = "/tmp/duchenne-driver.pid"  # noqa: S108 - a volume of the pod's own
HEAD_GRACE_SECONDS = 90  # the driver's: a checkpoint, the pool's end, the last line on record
# Ray kills the driver with its own processes. Before that, it is told, and waited for.
_END_DRIVER = (
    f'test -f {PID_FILE} || exit 0; driver=$(cat {PID_FILE}); kill -TERM "$driver"; '
    f'while test -f {PID_FILE} && kill -0 "$driver"; do sleep 1; done 2>/dev/null; true'
)


def closed_container() -> Json:
    """The security context of every container: no root, no privilege, nothing to write to but volumes."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def environment(cluster: KubernetesCluster) -> list[Json]:
    """Variables of every container that runs Ray or Duchenne; whatever is secret is a reference."""
    names = cluster.secrets
    variables: list[Json] = [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        _secret("RAY_AUTH_TOKEN", names.ray_token, "auth_token"),
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"},
        {"name": "DUCHENNE_HOME", "value": HOME},
        {"name": "DUCHENNE_IMAGE", "value": cluster.image},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a volume of the pod's own
    ]
    if names.storage is not None:
        variables += [_secret(key, names.storage, key) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
        variables += [
            _secret(key, names.storage, key, optional=True)
            for key in ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL")
        ]
    if names.records is not None:
        variables.append(_secret("DUCHENNE_RECORDS_URL", names.records, "url"))
        variables.append(_secret("PGPASSWORD", names.records, "password", optional=True))
    return variables


def head_template(
    cluster: KubernetesCluster, pool: NodePool | None, sweep_id: str, labels: Json, workers: Json
) -> Json:
    """The head's pod: the driver and Ray's control plane. `workers` are the variables that size the driver's pool."""
    container = _container(cluster, "ray-head", cluster.head.cpu, int(cluster.head.memory_gib * 1024))
    told = {**workers, PID_VARIABLE: PID_FILE}
    container["env"] += [{"name": name, "value": value} for name, value in told.items()]
    container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", _END_DRIVER]}}}
    container["ports"] = [{"name": name, "containerPort": port} for name, port in RAY_PORTS.items()]
    if cluster.metrics_port is not None:
        # To the pod's network, which the chart's NetworkPolicy opens to Prometheus alone.
        listening = {"DUCHENNE_METRICS_PORT": str(cluster.metrics_port), "DUCHENNE_METRICS_HOST": "0.0.0.0"}  # noqa: S104
        container["env"] += [{"name": name, "value": value} for name, value in listening.items()]
        container["ports"].append({"name": "metrics", "containerPort": cluster.metrics_port})
    if cluster.secrets.webhooks is not None:
        container["envFrom"] = [{"secretRef": {"name": cluster.secrets.webhooks}}]
    container["volumeMounts"].append({"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": True})
    container["readinessProbe"] = _probe(RAY_PORTS["dashboard"], "/api/gcs_healthz", failures=10)
    container["livenessProbe"] = _probe(RAY_PORTS["dashboard"], "/api/gcs_healthz", failures=120)
    spec = _pod(cluster, pool, container)
    spec["serviceAccountName"] = cluster.head_service_account
    # Ray's autoscaler, beside the head, asks the API server for pods; nothing else here may.
    spec["automountServiceAccountToken"] = cluster.autoscaling
    spec["affinity"] = _off_spot()
    spec["terminationGracePeriodSeconds"] = HEAD_GRACE_SECONDS
    if cluster.head_priority_class is not None:
        spec["priorityClassName"] = cluster.head_priority_class
    spec["volumes"].append({"name": "spec", "configMap": {"name": sweep_id, "defaultMode": 0o444}})
    annotations = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", **_price(pool, container)}
    return {"metadata": {"labels": {**labels, **_pool_labels(pool)}, "annotations": annotations}, "spec": spec}


def worker_template(cluster: KubernetesCluster, group: WorkerGroup, labels: Json) -> Json:
    """A worker's pod: fold workers, which may be evicted."""
    container = _container(cluster, "ray-worker", group.cpus, group.memory_mib, group.gpus)
    container["readinessProbe"] = _probe(AGENT_PORT, "/api/local_raylet_healthz", failures=10)
    container["livenessProbe"] = _probe(AGENT_PORT, "/api/local_raylet_healthz", failures=120)
    # Room to save a checkpoint after the eviction's SIGTERM.
    spec = {**_pod(cluster, group.pool, container), "terminationGracePeriodSeconds": 60}
    if group.gpus:
        spec["tolerations"] = [*spec.get("tolerations", []), {"key": GPU_RESOURCE, "operator": "Exists"}]
    if not cluster.allow_spot:
        spec["affinity"] = _off_spot()
    return {
        "metadata": {"labels": {**labels, **_pool_labels(group.pool)}, "annotations": _price(group.pool, container)},
        "spec": spec,
    }


def submitter_template(cluster: KubernetesCluster, pool: NodePool | None, labels: Json) -> Json:
    """The pod that hands the entrypoint to Ray's job API and follows its log."""
    container = _container(cluster, "ray-job-submitter", 0.5, 512, disk_gib=1)
    container["volumeMounts"] = [{"name": "temporary", "mountPath": "/tmp"}]  # noqa: S108
    spec = {
        **_pod(cluster, pool, container),
        "restartPolicy": "Never",
        "affinity": _off_spot(),
        "volumes": [_empty("temporary", 1)],
    }
    return {"metadata": {"labels": labels}, "spec": spec}


def autoscaler_options() -> Json:
    """Ray's autoscaler, a container beside the head: version 2, closed like the rest."""
    return {
        "version": "v2",
        "idleTimeoutSeconds": 60,
        "upscalingMode": "Default",
        "resources": {
            "requests": {"cpu": "500m", "memory": "512Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"},
        },
        "securityContext": closed_container(),
        "volumeMounts": [{"name": "temporary", "mountPath": "/tmp"}],  # noqa: S108
    }


def _container(
    cluster: KubernetesCluster,
    name: str,
    cpus: float,
    memory_mib: int,
    gpus: int = 0,
    disk_gib: int = TEMPORARY_GIB,
) -> Json:
    """Limits equal requests: a pod gets what it pays for, and is not killed for a neighbour's memory."""
    amounts = {"cpu": f"{round(cpus * 1000)}m", "memory": f"{memory_mib}Mi", "ephemeral-storage": f"{disk_gib}Gi"}
    amounts |= {GPU_RESOURCE: str(gpus)} if gpus else {}
    return {
        "name": name,
        "image": cluster.image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment(cluster),
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": closed_container(),
        "volumeMounts": [
            {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - Ray's object store
            _home_mount(cluster),
        ],
    }


def _pod(cluster: KubernetesCluster, pool: NodePool | None, container: Json) -> Json:
    spec: Json = {
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            _empty("temporary", TEMPORARY_GIB),
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": _half_of(container)}},
            _home_volume(cluster),
        ],
    }
    selector = dict(pool.node_selector) if pool else {}
    tolerations = [*cluster.tolerations, *(pool.tolerations if pool else ())]
    runtime_class = (pool.runtime_class if pool else None) or cluster.runtime_class
    spec |= {"nodeSelector": selector} if selector else {}
    spec |= {"tolerations": [_toleration(toleration) for toleration in tolerations]} if tolerations else {}
    spec |= {"runtimeClassName": runtime_class} if runtime_class else {}
    if cluster.secrets.image_pull is not None:
        spec["imagePullSecrets"] = [{"name": cluster.secrets.image_pull}]
    return spec


def _off_spot() -> Json:
    """Keeps a pod off nodes that may be taken away, whoever runs them."""
    rules = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in SPOT_LABELS.items()]
    required = {"nodeSelectorTerms": [{"matchExpressions": rules}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _home_volume(cluster: KubernetesCluster) -> Json:
    if cluster.claim is None:
        return _empty("home", TEMPORARY_GIB)
    return {"name": "home", "persistentVolumeClaim": {"claimName": cluster.claim[0]}}


def _home_mount(cluster: KubernetesCluster) -> Json:
    mount: Json = {"name": "home", "mountPath": HOME}
    return mount | ({"subPath": cluster.claim[1]} if cluster.claim is not None and cluster.claim[1] else {})


def _empty(name: str, gib: int) -> Json:
    return {"name": name, "emptyDir": {"sizeLimit": f"{gib}Gi"}}


def _half_of(container: Json) -> str:
    """Ray's object store may take half of the pod's memory, which it counts against."""
    return f"{int(container['resources']['limits']['memory'].removesuffix('Mi')) // 2}Mi"


def _toleration(toleration: Toleration) -> Json:
    return toleration.model_dump(exclude_none=True)


def _secret(variable: str, secret: str, key: str, optional: bool = False) -> Json:
    reference: Json = {"name": secret, "key": key} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _probe(port: int, path: str, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": port},
        "initialDelaySeconds": 10,
        "periodSeconds": 5,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _pool_labels(pool: NodePool | None) -> Json:
    if pool is None:
        return {}
    return {POOL_LABEL: pool.name, "duchenne.dev/capacity": "spot" if pool.spot else "on-demand"}


def _price(pool: NodePool | None, container: Json) -> Json:
    """What an hour of the pod's node costs, and the largest share of the node that the pod keeps from others."""
    if pool is None or pool.usd_per_hour is None:
        return {}
    held = container["resources"]["limits"]
    shares = [int(held["cpu"].removesuffix("m")) / 1000 / pool.cpu]
    shares += [int(held["memory"].removesuffix("Mi")) / 1024 / pool.memory_gib]
    shares += [int(held.get(GPU_RESOURCE, 0)) / pool.gpu] if pool.gpu else []
    return {PRICE_ANNOTATION: f"{pool.usd_per_hour:g}", SHARE_ANNOTATION: f"{min(1.0, max(shares)):.4g}"}
