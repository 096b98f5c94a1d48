"""The clusters file: what it may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.clusters.config import KubernetesCluster, LocalCluster, RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.file import load_clusters, load_clusters_text
from duchenne.spec import SpecError


def test_a_file_holds_clusters_of_each_type(clusters_text: str) -> None:
    clusters = load_clusters_text(clusters_text)
    assert isinstance(clusters.get("here"), LocalCluster)
    lab = clusters.get("lab")
    assert isinstance(lab, RayCluster)
    assert lab.token_env == "LAB_TOKEN"  # noqa: S105 - the variable's name
    prod = clusters.kubernetes(None)
    assert prod.context == "prod-eu"
    assert prod.claim == ("duchenne-home", "sweeps")
    assert [pool.name for pool in prod.node_pools] == ["cpu", "a100-spot"]


def test_local_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    clusters = load_clusters()
    assert clusters.by_name == {}
    assert clusters.get("local") == LocalCluster()


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml:1: \(file\): must exist, got no such file"):
        load_clusters(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("token_env", "token", 4, "clusters.lab.token: unknown field, got token, did you mean `token_env`?"),
        ("type: ray", "type: rya", 4, "clusters.lab.type: must be one of local, ray, kubernetes, got rya"),
        ("  here: {type: local}", "  here: {}", 3, "clusters.here.type: must be one of local, ray, kubernetes"),
        ("  here: {type: local}", "  here: local", 3, "clusters.here: must be a mapping, got local"),
        ("  here:", "  Here_1:", 3, "clusters.Here_1: a name must be lower-case"),
        ("namespace: duchenne", "namespace: Duchenne_1", 8, "clusters.prod.namespace: must be lower-case letters"),
        ("sha256:0000", "sha256:", 11, "clusters.prod.image: an image must be REGISTRY/NAME:TAG"),
        ("LAB_TOKEN", 'LAB_TOKEN, home: "s3://b/h"', 4, "clusters.lab.home: a folder of the cluster must be"),
        ("pvc://", "nfs://", 12, "clusters.prod.storage: storage must be pvc://CLAIM/FOLDER or s3://"),
        ("max_nodes: 4", "max_nodes: four", 16, "clusters.prod.node_pools[0].max_nodes: must be a whole number"),
        ("name: a100-spot", "name: cpu", 5, "clusters.prod: names of node pools must be distinct"),
        ("max_nodes: 4, usd", "spot: true, usd", 5, "clusters.prod: a head needs a node that nobody takes away"),
        ("default: prod", "default: production", 1, "default: must name a cluster of this file, got production"),
        ("operator: Equal, ", "", 14, "clusters.prod.tolerations[0]: `value` goes with operator Equal"),
    ],
)
def test_each_error_has_its_line(clusters_text: str, before: str, after: str, line: int, message: str) -> None:
    assert before in clusters_text
    with pytest.raises(SpecError) as caught:
        load_clusters_text(clusters_text.replace(before, after, 1), "c.yaml")
    assert any(text.startswith(f"c.yaml:{line}: {message}") for text in str(caught.value).splitlines()), str(
        caught.value
    )


def test_every_error_is_told_at_once(clusters_text: str) -> None:
    text = clusters_text.replace("token_env", "token").replace("namespace: duchenne", "namespace: 5")
    with pytest.raises(SpecError) as caught:
        load_clusters_text(text)
    assert [problem.field for problem in caught.value.problems] == ["clusters.lab.token", "clusters.prod.namespace"]


def test_a_credential_is_refused_and_not_repeated(clusters_text: str) -> None:
    text = clusters_text.replace("https://ray", "https://user:hunter2@ray")
    with pytest.raises(SpecError) as caught:
        load_clusters_text(text)
    assert "clusters.lab.address" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prid", "there is no 'prid'; did you mean prod?"),
        ("zzz", "its clusters are here, lab, prod"),
        ("lab", "lab is of type ray"),
    ],
)
def test_a_cluster_that_has_no_objects_is_one_line(clusters_text: str, name: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message) as caught:
        load_clusters_text(clusters_text).kubernetes(name)
    assert "\n" not in str(caught.value)


def test_the_only_kubernetes_cluster_needs_no_name(clusters_text: str) -> None:
    clusters = load_clusters_text(clusters_text.replace("default: prod\n", ""))
    assert isinstance(clusters.kubernetes(None), KubernetesCluster)
    twice = clusters_text.replace("default: prod\n", "") + "  dev: {type: kubernetes}\n"
    with pytest.raises(ClusterError, match="prod, dev; name it with --cluster"):
        load_clusters_text(twice).kubernetes(None)
