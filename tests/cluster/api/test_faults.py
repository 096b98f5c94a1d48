"""A sweep's life while the API server fails: nothing is lost, nothing is left, and each refusal is one line."""

from __future__ import annotations

import json
import threading
from typing import Any

import kmock
import pytest

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import Api
from duchenne.clusters.kubernetes.cluster import KubernetesPort
from duchenne.clusters.kubernetes.submit import stop, submit
from duchenne.clusters.kubernetes.watching import watch
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import Status
from duchenne.records import Amounts, NewSweep, open_store
from duchenne.spec import Sweep

JOBS = kmock.resource("ray.io", "v1", "rayjobs")
MAPS = kmock.resource("", "v1", "configmaps")
PODS = kmock.resource("", "v1", "pods")
EVENTS = kmock.resource("", "v1", "events")
WORKLOADS = kmock.resource("kueue.x-k8s.io", "v1beta2", "workloads")
JOBS_PATH = "/apis/ray.io/v1/namespaces/duchenne/rayjobs"
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}


@pytest.fixture
def sweep_id(server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster) -> str:
    for resource, kind in ((PODS, "Pod"), (EVENTS, "Event"), (WORKLOADS, "Workload")):
        server.install(resource, kind)
    return submit(sweep, prod, api)


def set_status(server: Any, sweep_id: str, **status: Any) -> None:
    server.patch("ray.io", "v1", "rayjobs", sweep_id, {"status": status})


def put_pod(server: Any, sweep_id: str, name: str, status: dict[str, Any], **spec: Any) -> None:
    labels = {"duchenne.dev/sweep": sweep_id, "duchenne.dev/pool": "a100-spot"}
    metadata = {"name": name, "namespace": "duchenne", "labels": labels}
    server.mock.objects[PODS, "duchenne", name] = {"metadata": metadata, "spec": spec, "status": status}


@pytest.mark.parametrize("fault", ["cut", json.dumps(GONE), "not json at all\n"], ids=["cut", "expired", "garbled"])
def test_a_watch_that_breaks_in_the_middle_loses_nothing(server: Any, api: Api, sweep_id: str, fault: str) -> None:
    seen = watch(sweep_id, api)
    assert next(seen) == Status("queued")
    server.mock.watches[:] = [fault] * 3
    threading.Timer(0.2, set_status, (server, sweep_id), {"jobDeploymentStatus": "Complete"}).start()
    assert list(seen) == [Status("succeeded")]
    assert server.mock.watches == []


def test_an_evicted_worker_is_told_until_it_is_back(server: Any, api: Api, sweep_id: str) -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    containers = [{"name": "ray-worker", "image": "i", **limits}]
    set_status(server, sweep_id, jobDeploymentStatus="Running")
    put_pod(server, sweep_id, "worker-1", {"phase": "Running"}, containers=containers)
    seen = watch(sweep_id, api)
    assert next(seen) == Status("running")
    server.mock.objects[PODS, "duchenne", "worker-1"].delete()
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    put_pod(server, sweep_id, "worker-2", {"phase": "Pending", "conditions": [unscheduled]}, containers=containers)
    set_status(server, sweep_id, reason="")
    expected = "pod worker-2 has no node with nvidia.com/gpu: 1 in pool a100-spot: 0/3 nodes are available"
    assert next(seen) == Status("running", expected)
    put_pod(server, sweep_id, "worker-2", {"phase": "Running"}, containers=containers)
    set_status(server, sweep_id, jobDeploymentStatus="Complete")
    assert list(seen) == [Status("succeeded")]


def test_a_volume_that_can_not_be_mounted_is_told(server: Any, api: Api, sweep_id: str) -> None:
    set_status(server, sweep_id, jobDeploymentStatus="Initializing")
    put_pod(server, sweep_id, "head", {"phase": "Pending"}, containers=[])
    for name, kind, message in (("a", "Normal", "Pulling image"), ("b", "Warning", 'claim "home" not found')):
        server.mock.objects[EVENTS, "duchenne", name] = {
            "metadata": {"name": name, "namespace": "duchenne"},
            "involvedObject": {"kind": "Pod", "name": "head"},
            "type": kind,
            "reason": "FailedMount",
            "message": message,
        }
    expected = 'pod head can\'t start: FailedMount: claim "home" not found'
    assert next(watch(sweep_id, api)) == Status("starting", expected)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_deletion_whose_answer_is_lost_is_a_deletion(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, status: int
) -> None:
    """The mock deletes although it answers so: the next try finds nothing."""
    server.mock[f"delete {JOBS_PATH}/{sweep_id}"][:1] << status
    stop(sweep_id, prod, api)
    assert server.kept(JOBS) == server.kept(MAPS) == {}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "must know you"),
        (403, r"`delete` on rayjobs\.ray\.io in namespace duchenne must be allowed"),
        (409, "a name must be new to delete"),
        (429, "failed to delete rayjobs"),
        (500, "failed to delete rayjobs"),
    ],
)
def test_a_refused_deletion_is_one_line_and_can_be_tried_again(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, status: int, message: str
) -> None:
    server.mock.failing = ("DELETE", "/rayjobs", status)
    with pytest.raises(ClusterError, match=message) as caught:
        stop(sweep_id, prod, api)
    assert "\n" not in str(caught.value)
    assert set(server.kept(JOBS)) == set(server.kept(MAPS)) == {sweep_id}
    server.mock.failing = None
    stop(sweep_id, prod, api)
    assert server.kept(JOBS) == server.kept(MAPS) == {}


def test_a_failed_sweep_goes_on_with_the_spec_that_the_cluster_kept(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster
) -> None:
    port = KubernetesPort(prod, api=api)
    spec = server.kept(MAPS)[sweep_id]["data"]["sweep.yaml"]
    before = server.kept(JOBS)[sweep_id]
    set_status(server, sweep_id, jobDeploymentStatus="Failed", reason="DeadlineExceeded")
    port.resume(sweep_id, Limits(usd=80, wall_seconds=7200))
    (job,), (config,) = server.kept(JOBS).values(), server.kept(MAPS).values()
    assert config["data"]["sweep.yaml"] == spec
    assert job["metadata"]["uid"] != before["metadata"]["uid"]
    assert config["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert job["spec"]["entrypoint"].endswith(f"--id {sweep_id} --supervised --usd 80 --wall-seconds 7200")
    assert job["spec"]["activeDeadlineSeconds"] - before["spec"]["activeDeadlineSeconds"] == 3600


def test_nothing_is_taken_away_from_a_sweep_that_can_not_go_on(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster
) -> None:
    set_status(server, sweep_id, jobDeploymentStatus="Failed")
    elsewhere = KubernetesPort(prod.model_copy(update={"queue": "video"}), api=api)
    with pytest.raises(ClusterError, match="there is no 'video'"):
        elsewhere.resume(sweep_id, Limits())
    assert set(server.kept(JOBS)) == set(server.kept(MAPS)) == {sweep_id}


def test_cost_is_that_of_the_lifetimes_of_its_pods(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster
) -> None:
    set_status(
        server,
        sweep_id,
        jobDeploymentStatus="Complete",
        startTime="2026-01-01T00:00:00Z",
        endTime="2026-01-01T02:00:00Z",
    )
    gpu = {"name": "w", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    over = {"state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T01:00:00Z"}}}
    ended = {"name": "w", "image": "i", "imageID": "", "ready": False, "restartCount": 0, **over}
    for name in ("a", "b"):
        begun = {"phase": "Succeeded", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [ended]}
        put_pod(server, sweep_id, name, begun, containers=[gpu])
        prices = {"duchenne.dev/node-usd-per-hour": "6", "duchenne.dev/node-share": "0.25"}
        server.mock.objects[PODS, "duchenne", name].patch({"metadata": {"annotations": prices}})
    port = KubernetesPort(prod, api=api)
    cost = port.cost(sweep_id)
    assert cost["spent"] == {"usd": 3.0, "gpu_hours": 2.0, "wall_seconds": 7200.0}
    assert cost["budget"] == {"usd": 40, "gpu_hours": None, "wall_seconds": 3600}
    put_pod(server, sweep_id, "unpriced", begun, containers=[gpu])
    assert port.cost(sweep_id)["spent"]["usd"] is None  # unknown, not less


def test_the_records_say_what_the_cluster_can_not(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    new = NewSweep(
        name="small", team="faces", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="builtin://toy",
        budget=Amounts(usd=7),
    )  # fmt: skip
    with open_store(url) as store:
        store.create_sweep(new, sweep_id)
        store.set_sweep_state(sweep_id, "exhausted", token=None, error="the budget is spent")
    monkeypatch.setenv("DUCHENNE_RECORDS_URL", url)
    port = KubernetesPort(prod, api=api)
    set_status(server, sweep_id, jobDeploymentStatus="Complete")
    assert list(port.watch(sweep_id)) == [Status("exhausted", "the budget is spent")]
    assert port.cost(sweep_id)["budget"]["usd"] == 7
    assert "observed" in port.cost(sweep_id)
    stop(sweep_id, prod, api)
    assert port.cost(sweep_id)["budget"]["usd"] == 7
