"""The plain manifests: complete, the same by kustomize itself, and with what sweeps refer to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from duchenne.clusters.config import KubernetesCluster

K8S = Path(__file__).parents[2] / "k8s"
FOLDERS = ["base", "overlays/dev", "overlays/prod"]
CLUSTER_SCOPED = {"Namespace", "ResourceFlavor", "ClusterQueue", "WorkloadPriorityClass", "PriorityClass"}
Render = Callable[[str], list[dict[str, Any]]]


def by_name(items: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    found = {(item["kind"], item["metadata"]["name"]): item for item in items}
    assert len(found) == len(items), "two objects of one name"
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_used_and_every_namespaced_object_says_where(folder: str, kustomize: Render) -> None:
    kustomization = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())
    files = {path.name for path in (K8S / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in kustomization["resources"] if name.endswith(".yaml")} == files
    for (kind, _), item in by_name(kustomize(folder)).items():
        assert ("namespace" in item["metadata"]) is (kind not in CLUSTER_SCOPED)


@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_itself_renders_the_same(folder: str, kustomize: Render) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, which is not here")
    done = subprocess.run(["kubectl", "kustomize", str(K8S / folder)], capture_output=True, text=True, check=True)
    assert by_name(list(yaml.safe_load_all(done.stdout))) == by_name(kustomize(folder))


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_sweep_refers_to_is_there(folder: str, kustomize: Render) -> None:
    objects = by_name(kustomize(folder))
    cluster = KubernetesCluster()
    assert ("Namespace", cluster.namespace) in objects
    for account in (cluster.service_account, cluster.head_service_account):
        assert objects["ServiceAccount", account]["automountServiceAccountToken"] is False
    assert objects["LocalQueue", "default"]["spec"]["clusterQueue"] == "duchenne"
    flavors = {name for kind, name in objects if kind == "ResourceFlavor"}
    (group,) = objects["ClusterQueue", "duchenne"]["spec"]["resourceGroups"]
    assert {flavor["name"] for flavor in group["flavors"]} == flavors
    for flavor in group["flavors"]:
        assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]


def test_the_queue_covers_whatever_a_pod_asks_for(kustomize: Render, chart: Callable[[Any], Any], sweep: Any) -> None:
    from duchenne.clusters.kubernetes import manifests

    job, _ = manifests(sweep, KubernetesCluster())
    cluster = job["spec"]["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], job["spec"]["submitterPodTemplate"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    asked = {
        name
        for template in templates
        for container in template["spec"]["containers"]
        for name in container["resources"]["requests"]
    }
    for objects in (kustomize("base"), chart({})):
        (queue,) = [item for item in objects if item["kind"] == "ClusterQueue"]
        (group,) = queue["spec"]["resourceGroups"]
        assert asked <= set(group["coveredResources"])


def test_overlays_differ_where_they_say(kustomize: Render) -> None:
    dev, prod = by_name(kustomize("overlays/dev")), by_name(kustomize("overlays/prod"))
    assert dev["PodDisruptionBudget", "duchenne-heads"]["spec"]["minAvailable"] == 0
    assert {("LocalQueue", "faces"), ("LocalQueue", "video")} <= set(prod)
    assert "eks.amazonaws.com/role-arn" in prod["ServiceAccount", "duchenne-sweep"]["metadata"]["annotations"]
    assert prod["ResourceFlavor", "duchenne-spot"]["spec"]["nodeTaints"]
