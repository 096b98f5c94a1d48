"""Everything that this repository would put into a cluster, whatever rendered it: valid, and closed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

K8S_GROUPS = ("networking", "rbac.authorization", "scheduling")
Items = list[dict[str, Any]]
SECRET = re.compile(r"(?i)(passw|secret|token|credential|api_?key|access_?key)")
BUILT_IN = {"v1", "apps", "batch", "autoscaling", "policy", *(f"{name}.k8s.io" for name in K8S_GROUPS)}
REFERENCES = {"RAY_AUTH_MODE"}  # names like a secret, holds none


def pod_specs(value: Any) -> Iterator[dict[str, Any]]:
    """Every pod spec within a document: whatever has containers."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield value
        for part in value.values():
            yield from pod_specs(part)
    elif isinstance(value, list):
        for part in value:
            yield from pod_specs(part)


def containers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key, [])


def faults_of(items: Items) -> list[str]:
    """What is open, one line a fault."""
    found: list[str] = []
    for item in items:
        where = f"{item['kind']}/{item['metadata']['name']}"
        for spec in pod_specs(item):
            found += [f"{where}: {fault}" for fault in _pod_faults(spec)]
        found += [f"{where}: {fault}" for fault in _object_faults(item)]
    return found


def _pod_faults(spec: dict[str, Any]) -> Iterator[str]:
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(shared):
            yield shared
    if spec.get("securityContext", {}).get("runAsNonRoot") is not True:
        yield "may run as root"
    if spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if "automountServiceAccountToken" not in spec:
        yield "a token of the API server by default"
    for volume in spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"host path {volume['name']}"
    for container in containers(spec):
        yield from _container_faults(container)


def _container_faults(container: dict[str, Any]) -> Iterator[str]:
    name, security = container["name"], container.get("securityContext", {})
    if security.get("privileged") or security.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: privilege"
    if security.get("readOnlyRootFilesystem") is not True:
        yield f"{name}: writes to its root"
    if security.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name}: capabilities"
    if not {"cpu", "memory"} <= set(container.get("resources", {}).get("limits", {})):
        yield f"{name}: no limits"
    for port in container.get("ports", []):
        if "hostPort" in port:
            yield f"{name}: host port"
    for variable in container.get("env", []):
        if "value" in variable and SECRET.search(variable["name"]) and variable["name"] not in REFERENCES:
            yield f"{name}: {variable['name']} is written out"
    for argument in [*container.get("args", []), *container.get("command", [])]:
        if SECRET.search(str(argument)):
            yield f"{name}: a secret in an argument"


def _object_faults(item: dict[str, Any]) -> Iterator[str]:
    kind, spec = item["kind"], item.get("spec", {})
    if kind == "Secret":
        yield "a secret is written out"
    if kind == "ConfigMap" and SECRET.search(json.dumps(item.get("data", {}))):
        yield "a secret in a ConfigMap"
    if kind in ("ClusterRoleBinding", "ClusterRole"):
        yield "a right in every namespace"
    for rule in item.get("rules", []):
        if "*" in [*rule.get("apiGroups", []), *rule.get("resources", []), *rule.get("verbs", [])]:
            yield "a wildcard"
        if "secrets" in rule.get("resources", []):
            yield "reads secrets"
    if kind == "ServiceAccount" and item.get("automountServiceAccountToken") is not False:
        yield "a token of the API server by default"
    if kind == "Service" and spec.get("type", "ClusterIP") != "ClusterIP":
        yield "reached from outside"
    if kind == "Ingress":
        covered = {host for entry in spec.get("tls", []) if entry.get("secretName") for host in entry["hosts"]}
        if not {rule.get("host") for rule in spec["rules"]} <= covered:
            yield "reached without TLS"
    if kind == "RayJob":
        yield from _ray_faults(spec)
    if kind == "NetworkPolicy":
        for rule in spec.get("ingress", []):
            if not rule.get("from") or any("ipBlock" in source for source in rule["from"]):
                yield "lets addresses in"
            if any(source.get("namespaceSelector") == {} for source in rule.get("from", [])):
                yield "lets every namespace in"


def _ray_faults(spec: dict[str, Any]) -> Iterator[str]:
    cluster = spec["rayClusterSpec"]
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "Ray without a token"
    if cluster["headGroupSpec"].get("serviceType") != "ClusterIP" or cluster["headGroupSpec"].get("enableIngress"):
        yield "Ray reached from outside"
    security = cluster.get("autoscalerOptions", {}).get("securityContext", {"readOnlyRootFilesystem": True})
    if security.get("readOnlyRootFilesystem") is not True or security.get("privileged"):
        yield "the autoscaler is open"
    for pod in pod_specs(spec):
        for container in containers(pod):
            variables = {variable["name"]: variable for variable in container["env"]}
            if variables.get("RAY_AUTH_MODE", {}).get("value") != "token":
                yield f"{container['name']}: Ray without a token"
            if "secretKeyRef" not in variables.get("RAY_AUTH_TOKEN", {}).get("valueFrom", {}):
                yield f"{container['name']}: a token that is no reference"
    if SECRET.search(spec["entrypoint"]) or "runtimeEnvYAML" in spec:
        yield "a secret in the entrypoint"


def is_built_in(item: dict[str, Any]) -> bool:
    return item["apiVersion"].split("/")[0] in BUILT_IN


def test_kinds_of_kubernetes_itself_are_valid(rendered: Items, own_faults: Callable[[Any], list[str]]) -> None:
    """And the pods within custom resources: needs no file that may be absent."""
    items = [item for item in rendered if is_built_in(item)]
    specs = [spec for item in rendered if not is_built_in(item) for spec in pod_specs(item)]
    items += [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec} for spec in specs]
    found = [(item["kind"], item["metadata"]["name"], fault) for item in items for fault in own_faults(item)]
    assert found == []


def test_custom_resources_are_valid(rendered: Items, faults: Callable[[dict[str, Any]], list[str]]) -> None:
    custom = [item for item in rendered if not is_built_in(item)]
    assert {item["metadata"]["name"]: found for item in custom if (found := faults(item))} == {}


def test_everything_is_closed(rendered: Items) -> None:
    assert rendered
    assert faults_of(rendered) == []


@pytest.mark.parametrize("folder", ["base", "overlays/dev", "overlays/prod"])
def test_the_network_is_closed_by_default(folder: str, kustomize: Callable[[str], Items]) -> None:
    _require_default_deny(kustomize(folder), "duchenne")


@pytest.mark.parametrize("namespace", ["duchenne", "sweeps"])
def test_so_is_the_charts(namespace: str, chart: Callable[[dict[str, Any]], Items]) -> None:
    _require_default_deny(chart({"namespace": {"name": namespace, "create": False}}), namespace)


def _require_default_deny(items: Items, namespace: str) -> None:
    policies = [item for item in items if item["kind"] == "NetworkPolicy"]
    assert {policy["metadata"]["namespace"] for policy in policies} == {namespace}
    (closed,) = [policy for policy in policies if policy["spec"]["podSelector"] == {}]
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # Nobody from outside the namespace reaches a sweep's pod, but KubeRay's operator the dashboard of a head.
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            outside = [source for source in rule["from"] if "namespaceSelector" in source]
            if outside:
                assert policy["metadata"]["name"] == "head-from-operator"
                assert rule["ports"] == [{"protocol": "TCP", "port": 8265}]
                assert all("podSelector" in source for source in outside)


@pytest.mark.parametrize(
    ("breach", "fault"),
    [
        (lambda spec: spec["containers"][0]["securityContext"].update(privileged=True), "privilege"),
        (lambda spec: spec["volumes"].append({"name": "root", "hostPath": {"path": "/"}}), "host path root"),
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
        (lambda spec: spec["containers"][0]["env"].append({"name": "DB_PASSWORD", "value": "x"}), "written out"),
        (lambda spec: spec["containers"][0].update(args=["--token=x"]), "a secret in an argument"),
        (lambda spec: spec["containers"][0].update(env=[]), "Ray without a token"),
        (lambda spec: spec["containers"][0].pop("resources"), "no limits"),
    ],
)
def test_an_open_door_would_be_found(breach: Callable[[dict[str, Any]], Any], fault: str, sweep: Any) -> None:
    from duchenne.clusters.config import KubernetesCluster
    from duchenne.clusters.kubernetes import manifests

    items = manifests(sweep, KubernetesCluster())
    breach(items[0]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"])
    assert any(fault in line for line in faults_of(items))
