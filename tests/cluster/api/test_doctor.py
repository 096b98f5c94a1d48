"""What the doctor says of Kubernetes clusters, against a mock of the API server over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kmock
import pytest

from duchenne.clusters.kubernetes.api import Api
from duchenne.doctor.clusters import cluster_findings
from duchenne.doctor.finding import Finding
from duchenne.doctor.kubernetes import NEEDED

SECRETS = kmock.resource("", "v1", "secrets")
CLAIMS = kmock.resource("", "v1", "persistentvolumeclaims")
Findings = Callable[[], dict[str, Finding]]


@pytest.fixture
def findings(server: Any, api: Api, tmp_path: Path, clusters_text: str, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """The findings of the cluster prod by the rest of their names, each with a next step where it needs one."""
    monkeypatch.setattr(Api, "connect", lambda _: api)
    path = tmp_path / "c.yaml"
    path.write_text(clusters_text)

    def find() -> dict[str, Finding]:
        found = list(cluster_findings(path, "prod"))
        for finding in found:
            assert finding.state == "ok" or finding.next or ";" in finding.seen, finding.line
            assert "\n" not in finding.line
        return {finding.name.removeprefix("cluster prod").removeprefix(", "): finding for finding in found}

    return find


@pytest.fixture
def complete(server: Any) -> Any:
    """A cluster with all that a sweep needs."""
    for resource, kind, names in (
        (SECRETS, "Secret", ("duchenne-ray-token", "duchenne-s3", "duchenne-records")),
        (CLAIMS, "PersistentVolumeClaim", ("duchenne-home",)),
    ):
        server.install(resource, kind)
        for name in names:
            server.mock.objects[resource, "duchenne", name] = {"metadata": {"name": name, "namespace": "duchenne"}}
    server.mock["get /api/v1/namespaces/duchenne"] << {"metadata": {"name": "duchenne"}}
    return server


def test_a_complete_cluster_is_fine(complete: Any, findings: Findings) -> None:
    found = findings()
    assert {name: finding.line for name, finding in found.items() if finding.state != "ok"} == {}
    assert set(found) == {
        "",
        "KubeRay",
        "Kueue",
        "permissions",
        "queue",
        "secret duchenne-ray-token",
        "secret duchenne-s3",
        "secret duchenne-records",
        "storage",
    }


def test_the_content_of_no_secret_is_asked_for(complete: Any, findings: Findings) -> None:
    findings()
    asked = [request for request in complete.mock if "/secrets/" in str(request.url)]
    assert len(asked) == 3
    assert all("PartialObjectMetadata" in request.headers["Accept"] for request in asked)


def test_half_a_cluster(server: Any, findings: Findings) -> None:
    """No KubeRay, a verb that is not allowed, a queue that is stopped, a Secret and the claim that are not there."""
    server.install(SECRETS, "Secret")
    server.install(CLAIMS, "PersistentVolumeClaim")
    for name in ("duchenne-ray-token", "duchenne-s3"):
        server.mock.objects[SECRETS, "duchenne", name] = {"metadata": {"name": name, "namespace": "duchenne"}}
    server.mock["get /api/v1/namespaces/duchenne"] << {"metadata": {"name": "duchenne"}}
    server.mock["get /apis/ray.io/v1"] << 404
    server.mock.allowed = lambda asked: (asked["verb"], asked["resource"]) != ("create", "rayjobs")
    queues = kmock.resource("kueue.x-k8s.io", "v1beta2", "localqueues")
    condition = {"type": "Active", "status": "False", "message": "Can't submit new workloads to clusterQueue"}
    server.mock.objects[queues, "duchenne", "faces"].patch({"status": {"conditions": [condition]}})
    found = findings()
    missing = {name: finding.seen for name, finding in found.items() if finding.state == "missing"}
    assert missing == {
        "KubeRay": "ray.io/v1 is not served",
        "permissions": "you may not create rayjobs",
        "queue": "faces admits nothing: Can't submit new workloads to clusterQueue",
        "secret duchenne-records": "is not there",
        "storage": "is not there",
    }


def test_storage_that_keeps_no_checkpoint_is_told_with_what_does(
    complete: Any, findings: Findings, tmp_path: Path, clusters_text: str
) -> None:
    (tmp_path / "c.yaml").write_text(clusters_text.replace("pvc://duchenne-home/sweeps", "s3://bucket/home"))
    storage = findings()["storage"]
    assert (storage.state, "s3://bucket/home does not keep checkpoints" in storage.seen) == ("missing", True)
    assert "pvc://CLAIM" in str(storage.next)


def test_what_may_not_be_looked_at_is_no_fault(complete: Any, findings: Findings) -> None:
    complete.mock.failing = ("GET", "/secrets/", 403)
    found = findings()
    assert found["secret duchenne-s3"].state == "warn"
    assert "you may not look" in found["secret duchenne-s3"].seen


@pytest.mark.parametrize(("status", "seen"), [(401, "must know you, but does not"), (500, "failed to get namespaces")])
def test_a_cluster_that_refuses_is_one_line(server: Any, findings: Findings, status: int, seen: str) -> None:
    server.mock.failing = ("GET", "", status)
    (finding,) = findings().values()
    assert (finding.state, seen in finding.seen) == ("missing", True)


def test_no_namespace_is_one_line(server: Any, findings: Findings) -> None:
    server.mock["get /api/v1/namespaces/duchenne"] << 404
    (finding,) = findings().values()
    assert "has no namespace duchenne" in finding.seen


def test_the_role_of_submitters_allows_what_is_asked(kustomize: Callable[[str], list[dict[str, Any]]]) -> None:
    (role,) = [item for item in kustomize("base") if item["metadata"]["name"] == "duchenne-submitter"]
    allowed = {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert set(NEEDED) <= allowed
