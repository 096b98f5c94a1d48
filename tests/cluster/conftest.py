"""What manifests are held against: the schemas of custom resources and of Kubernetes, unknown fields refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python
import jsonpatch
import jsonschema
import kubernetes_validate
import pytest
import yaml

from duchenne.clusters.file import load_clusters_text
from duchenne.clusters.kubernetes import manifests
from duchenne.spec import Sweep, load_sweep_text

ROOT = Path(__file__).parents[2]
CRDS = ROOT.parent / "shared/crds"
KUBERNETES = "1.37"
SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: small, team: faces}
data: {uri: "s3://bucket/disfa"}
search:
  space: {training.batch_size: {grid: [32, 64]}}
  algorithm: grid
folds: {count: 3, inner: 2, resources: {cpu: 4, gpu: 1}}
seeds: 2
budget: {usd: 40, wall_seconds: 3600}
"""
CLUSTERS = """\
default: prod
clusters:
  here: {type: local}
  lab: {type: ray, address: "https://ray.example.org:8265", token_env: LAB_TOKEN}
  prod:
    type: kubernetes
    context: prod-eu
    namespace: duchenne
    queue: faces
    priority: duchenne-normal
    image: registry.example.org/duchenne@sha256:0000000000000000000000000000000000000000000000000000000000000000
    storage: pvc://duchenne-home/sweeps
    secrets: {storage: duchenne-s3, records: duchenne-records}
    tolerations: [{key: team, operator: Equal, value: faces, effect: NoSchedule}]
    node_pools:
      - {name: cpu, cpu: 16, memory_gib: 64, max_nodes: 4, usd_per_hour: 0.8, node_selector: {pool: cpu}}
      - name: a100-spot
        cpu: 48
        memory_gib: 340
        gpu: 4
        max_nodes: 2
        spot: true
        usd_per_hour: 6
        node_selector: {pool: a100-spot}
        tolerations: [{key: spot, effect: NoSchedule}]
        runtime_class: nvidia
"""

CHART_VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "bare": {
        "namespace": {"create": False},
        "rbac": {"create": False},
        "queues": {"create": False},
        "priorities": {"create": False},
        "disruption": {"protectHeads": False},
    },
    "teams": {
        "namespace": {"name": "sweeps"},
        "accounts": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/sweeps"}},
        "rbac": {"submitters": ["faces", "video"], "viewers": []},
        "network": {"storageCidr": "10.1.0.0/16", "databaseCidrs": ["10.2.0.0/24"], "apiServerPort": 443},
        "queues": {
            "teams": ["faces", "video"],
            "flavors": [
                {
                    "name": "spot",
                    "nodeLabels": {"pool": "spot"},
                    "taints": [{"key": "spot", "value": "true", "effect": "NoSchedule"}],
                    "quotas": {"cpu": "500m", "memory": "64Gi", "ephemeral-storage": "1Ti", "nvidia.com/gpu": 8},
                }
            ],
        },
    },
    "server": {"server": {"enabled": True, "image": "duchenne:0.1.0"}},
    "server-behind-ingress": {
        "accounts": {"serverAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/server"}},
        "server": {
            "enabled": True,
            "image": "duchenne:0.1.0",
            "imagePullSecrets": ["registry"],
            "fromNamespaces": ["ingress-nginx"],
            "trustedProxies": ["10.42.0.0/16", "fd00:42::/56"],
            "homeClaim": "duchenne-home",
            "autoscaling": {"enabled": True, "maxReplicas": 3},
            "oidc": {"issuer": "https://login.example.org", "clientId": "duchenne"},
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "duchenne.example.org",
                "tlsSecret": "duchenne-tls",
                "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
            },
        },
    },
    "trial": {
        "server": {"enabled": True, "image": "duchenne:0.1.0", "migrations": {"enabled": False}},
        "postgresql": {"enabled": True, "storage": "1Gi", "storageClass": "standard"},
    },
    "database-alone": {"postgresql": {"enabled": True}},
}
FOLDERS = ("base", "server", "overlays/dev", "overlays/prod")
RENDERED = {
    **{f"k8s-{path.replace('/', '-')}": ("kustomize", path) for path in FOLDERS},
    **{f"chart-{name}": ("chart", name) for name in CHART_VALUES},
    **{f"sweep-{name}": ("manifests", name) for name in ("prod", "plain", "fixed")},
}


def closed(schema: Any) -> Any:
    """A copy of a structural schema that refuses what it does not name, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            result["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
    return result


@pytest.fixture(scope="session")
def schemas() -> dict[tuple[str, str], Any]:
    """(apiVersion, kind) -> the closed schema of every custom resource that is used here."""
    if not CRDS.is_dir():
        pytest.skip(f"needs the custom resource definitions in {CRDS}, which are not here")
    found = {}
    for path in CRDS.glob("*.yaml"):
        definition = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
        spec = definition["spec"]
        for served in spec["versions"]:
            key = (f"{spec['group']}/{served['name']}", spec["names"]["kind"])
            found[key] = closed(served["schema"]["openAPIV3Schema"])
    return found


@pytest.fixture(scope="session")
def faults(schemas: dict[tuple[str, str], Any]) -> Callable[[dict[str, Any]], list[str]]:
    """What is wrong with an object, one line a fault; the schemas of its own API decide."""

    def check(item: dict[str, Any]) -> list[str]:
        key = (item["apiVersion"], item["kind"])
        if key in schemas:
            errors = jsonschema.Draft202012Validator(schemas[key]).iter_errors(item)
            return [f"{error.json_path}: {error.message}" for error in errors]
        return builtin_faults(item)

    return check


def builtin_faults(item: dict[str, Any]) -> list[str]:
    """The same for Kubernetes' own kinds."""
    try:
        kubernetes_validate.validate(copy.deepcopy(item), KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return [str(error).splitlines()[0]]
    return []


@pytest.fixture
def own_faults() -> Callable[[dict[str, Any]], list[str]]:
    """What is wrong with an object of Kubernetes' own kinds: needs no file that may be absent."""
    return builtin_faults


@pytest.fixture
def sweep() -> Sweep:
    """A GPU sweep of team faces."""
    return load_sweep_text(SWEEP)


@pytest.fixture
def clusters_text() -> str:
    """A clusters file with one cluster of each type."""
    return CLUSTERS


def kustomized(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization, for the few features that ours use: `resources`, and JSON patches by target."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(kustomization) <= {"apiVersion", "kind", "resources", "patches"}, "teach this function what is new"
    items: list[dict[str, Any]] = []
    for name in kustomization["resources"]:
        path = (folder / name).resolve()
        items += kustomized(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for patch in kustomization.get("patches", []):
        target = patch["target"]
        (position,) = [i for i, item in enumerate(items) if is_target(item, target)]
        items[position] = jsonpatch.apply_patch(items[position], yaml.safe_load(patch["patch"]))
    return items


def is_target(item: dict[str, Any], target: dict[str, str]) -> bool:
    """Whether a patch means this object."""
    return item["kind"] == target["kind"] and item["metadata"]["name"] == target["name"]


def charted(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of the chart, by Helm's own engine."""
    chart = helm_python.Chart.load(str(ROOT / "helm/duchenne"))
    chart.validate_schema(values)
    rendered = chart.render(values, name="duchenne", namespace="duchenne")
    texts = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
    return [item for text in texts for item in yaml.safe_load_all(text) if item is not None]


@pytest.fixture(params=sorted(RENDERED))
def rendered(request: pytest.FixtureRequest, sweep: Sweep) -> list[dict[str, Any]]:
    """Everything that this repository would put into a cluster, one kind of origin at a time."""
    origin, choice = RENDERED[request.param]
    if origin == "kustomize":
        return kustomized(ROOT / "k8s" / choice)
    if origin == "chart":
        return charted(CHART_VALUES[choice])
    clusters = load_clusters_text(
        CLUSTERS + "  plain: {type: kubernetes}\n  fixed: {type: kubernetes, autoscaling: false}"
    )
    return manifests(sweep, clusters.kubernetes(choice))


@pytest.fixture
def kustomize() -> Callable[[str], list[dict[str, Any]]]:
    """The objects of a folder below k8s."""
    return lambda folder: kustomized(ROOT / "k8s" / folder)


@pytest.fixture
def chart() -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """The objects of the chart with these values."""
    return charted


@pytest.fixture(params=sorted(CHART_VALUES))
def chart_values(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each combination of values that the chart must render."""
    return CHART_VALUES[request.param]
