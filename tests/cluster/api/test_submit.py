"""Submit and stop against a stateful mock of the API server, over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kmock
import pytest
import yaml
from kubernetes import client

from duchenne.cli.main import call
from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import TRIES, Api
from duchenne.clusters.kubernetes.submit import stop, submit
from duchenne.spec import Sweep

JOBS = kmock.resource("ray.io", "v1", "rayjobs")
MAPS = kmock.resource("", "v1", "configmaps")


def rayjobs_path() -> str:
    return "/apis/ray.io/v1/namespaces/duchenne/rayjobs"


def test_submit_creates_a_job_that_owns_its_spec(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster, faults: Any
) -> None:
    sweep_id = submit(sweep, prod, api)
    (job,), (config,) = server.kept(JOBS).values(), server.kept(MAPS).values()
    assert job["metadata"]["name"] == config["metadata"]["name"] == sweep_id
    (owner,) = config["metadata"]["ownerReferences"]
    assert owner["uid"] == job["metadata"]["uid"]
    for item in (job, config):
        assert faults(item) == []
    assert f"--id {sweep_id}" in job["spec"]["entrypoint"]


def test_submitting_twice_makes_two_sweeps(server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster) -> None:
    assert submit(sweep, prod, api) != submit(sweep, prod, api)
    assert len(server.kept(JOBS)) == 2


def test_stop_leaves_no_object(server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster) -> None:
    other, sweep_id = submit(sweep, prod, api), submit(sweep, prod, api)
    stop(sweep_id, prod, api)
    assert set(server.kept(JOBS)) == set(server.kept(MAPS)) == {other}
    with pytest.raises(ClusterError, match=f"none of {sweep_id}"):
        stop(sweep_id, prod, api)


def test_deleting_the_job_by_hand_deletes_everything(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster
) -> None:
    sweep_id = submit(sweep, prod, api)
    api.delete_ray_job(sweep_id)
    assert server.kept(MAPS) == {}


def test_a_job_that_does_not_go_is_told(server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster) -> None:
    sweep_id = submit(sweep, prod, api)
    stored = server.mock.objects[JOBS, "duchenne", sweep_id]
    stored.patch({"metadata": {"finalizers": ["ray.io/rayjob-finalizer"]}})
    with pytest.raises(ClusterError, match=r"must be gone within 0 s, but is still there; see `kubectl describe"):
        stop(sweep_id, prod, api, seconds=0)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "must know you, but does not"),
        (403, r"`create` on rayjobs in namespace duchenne must be allowed, but is not; ask for the role"),
        (409, "a name must be new to create rayjobs"),
        (422, "rayjobs must be valid to create"),
        (429, "failed to create rayjobs with 429"),
        (500, "failed to create rayjobs with 500"),
    ],
)
def test_a_refused_job_is_one_line_and_leaves_nothing(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster, status: int, message: str
) -> None:
    server.mock.failing = ("POST", "/rayjobs", status)
    with pytest.raises(ClusterError, match=message) as caught:
        submit(sweep, prod, api)
    assert "\n" not in str(caught.value)
    assert server.kept(JOBS) == server.kept(MAPS) == {}


@pytest.mark.parametrize("status", [403, 500])
def test_a_refused_spec_takes_the_job_back(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster, status: int
) -> None:
    server.mock.failing = ("POST", "/configmaps", status)
    with pytest.raises(ClusterError, match="configmaps"):
        submit(sweep, prod, api)
    assert server.kept(JOBS) == server.kept(MAPS) == {}


def test_throttling_and_a_lost_answer_are_lived_through(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster
) -> None:
    """The mock makes the job although it answers 500: the next try meets 409, and the job is ours."""
    server.mock[f"post {rayjobs_path()}"][:1] << 500
    server.mock["post /api/v1/namespaces/duchenne/configmaps"][:1] << 429
    sweep_id = submit(sweep, prod, api)
    assert set(server.kept(JOBS)) == set(server.kept(MAPS)) == {sweep_id}


def test_a_missing_queue_is_named_before_anything_is_made(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster
) -> None:
    with pytest.raises(ClusterError, match=r"LocalQueue must be in namespace duchenne, but there is no 'video'"):
        submit(sweep, prod.model_copy(update={"queue": "video"}), api)
    assert server.asked("POST", "") == 0


@pytest.mark.parametrize(
    ("group", "message"),
    [("ray.io/v1", "KubeRay is not installed in this cluster"), ("kueue.x-k8s.io/v1beta2", "Kueue is not installed")],
)
def test_a_missing_operator_is_named(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster, group: str, message: str
) -> None:
    server.mock[f"get /apis/{group}"] << 404
    with pytest.raises(ClusterError, match=message):
        submit(sweep, prod, api)
    assert server.asked("POST", "") == 0


def test_more_than_the_largest_node_is_refused_before_anything_is_made(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster
) -> None:
    resources = sweep.folds.resources.model_copy(update={"gpu": 16})
    larger = sweep.model_copy(update={"folds": sweep.folds.model_copy(update={"resources": resources})})
    with pytest.raises(ClusterError, match="the largest node, of a100-spot, has 48 and 4") as caught:
        submit(larger, prod, api)
    assert "\n" not in str(caught.value)
    assert server.asked("POST", "") == 0


@pytest.mark.parametrize(("field", "value"), [("storage", None), ("storage", "s3://bucket/home")])
def test_results_that_would_be_lost_are_refused(
    server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster, field: str, value: str | None
) -> None:
    with pytest.raises(ClusterError, match="need pvc://CLAIM"):
        submit(sweep, prod.model_copy(update={field: value}), api)
    assert server.asked("POST", "") == 0


def test_a_server_that_is_not_there_is_one_line(sweep: Sweep, prod: KubernetesCluster) -> None:
    configuration = client.Configuration()
    configuration.host, configuration.retries = "http://127.0.0.1:9", 0
    api = Api(client.ApiClient(configuration), prod, pause_seconds=0.001)
    with pytest.raises(ClusterError, match=f"must answer, but did not in {TRIES} tries") as caught:
        submit(sweep, prod, api)
    assert "\n" not in str(caught.value)


def kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    named = {"name": "prod-eu", "context": {"cluster": "c", "user": "u"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "prod-eu",
        "contexts": [named],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_verbs_submit_and_stop(
    server: Any,
    tmp_path: Path,
    clusters_text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "c.yaml").write_text(clusters_text)
    (tmp_path / "s.yaml").write_text(
        'apiVersion: duchenne/v1\nkind: Sweep\nmetadata: {name: s, team: faces}\ndata: {uri: "s3://bucket/d"}\n'
        "budget: {wall_seconds: 60}\n"
    )
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig(tmp_path, server.url))
    )
    cluster = ["--cluster", "prod", "--cluster-file", str(tmp_path / "c.yaml")]
    assert call(["submit", str(tmp_path / "s.yaml"), *cluster]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    (sweep_id,) = server.kept(JOBS)
    assert first == f"sweep: {sweep_id}"
    assert call(["stop", sweep_id, *cluster]) == 0
    assert server.kept(JOBS) == {}
    assert call(["stop", sweep_id, *cluster]) == 2
    (tmp_path / "c.yaml").write_text(clusters_text.replace("prod-eu", "prod-us"))
    capsys.readouterr()
    assert call(["submit", str(tmp_path / "s.yaml"), *cluster]) == 2
    assert "the kubeconfig must have context 'prod-us'" in capsys.readouterr().err
