"""A sweep's life while the API server fails: nothing is lost, nothing is left, and each refusal is one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kmock
import pytest

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import Api
from duchenne.clusters.kubernetes.cluster import KubernetesPort
from duchenne.clusters.kubernetes.recorded import end_recorded
from duchenne.clusters.kubernetes.submit import stop, submit
from duchenne.clusters.kubernetes.watching import watch
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import Status
from duchenne.records import Amounts, NewSweep, RecordsError, RecordStore, open_store
from duchenne.spec import Sweep, load_sweep_text

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


@pytest.mark.parametrize("left", [[], ["submitter"]], ids=["none", "submitter"])
def test_what_deleted_pods_cost_is_not_made_up(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, left: list[str]
) -> None:
    """Its pods go when a sweep ends, but for the submitter's: nothing there knows what the sweep cost."""
    port = KubernetesPort(prod, api=api)
    for name in left:
        put_pod(server, sweep_id, name, {"phase": "Succeeded", "startTime": "2026-01-01T00:00:00Z"}, containers=[])
        server.mock.objects[PODS, "duchenne", name].patch({"metadata": {"labels": {"job-name": sweep_id}}})
    begun = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T02:00:00Z"}
    for status in ({"jobDeploymentStatus": "Complete"}, {"jobDeploymentStatus": "Running", "failed": 1}):
        set_status(server, sweep_id, **status, **begun)
        with pytest.raises(ClusterError, match="pods of it are deleted; set DUCHENNE_RECORDS_URL") as caught:
            port.cost(sweep_id)
        assert "\n" not in str(caught.value)


@pytest.fixture
def store(tmp_path: Path, sweep: Sweep, sweep_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordStore]:
    """The records that this machine reaches, in which the driver of the sweep has registered it."""
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    spec = sweep.model_dump(mode="json")
    new = NewSweep(
        name="small", team="faces", board="b", spec=spec, spec_text="", spec_digest="", dataset_uri="builtin://toy",
        budget=Amounts(usd=7),
    )  # fmt: skip
    monkeypatch.setenv("DUCHENNE_RECORDS_URL", url)
    with open_store(url) as opened:
        opened.create_sweep(new, sweep_id)
        yield opened


def drive(store: RecordStore, sweep_id: str, seconds: float) -> None:
    """A driver that holds the sweep, and then is killed with its pod."""
    lock = store.acquire_lock(sweep_id, "head-pod:7:1:2", seconds)
    store.set_sweep_state(sweep_id, "running", token=lock.token)


def test_after_a_stop_the_records_say_so_too(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, store: RecordStore
) -> None:
    """Its driver was killed with its pod before it could write: the lock runs out, and the stop is written here."""
    drive(store, sweep_id, seconds=1.5)
    KubernetesPort(prod, api=api).stop(sweep_id)
    assert server.kept(JOBS) == server.kept(MAPS) == {}
    record = store.get_sweep(sweep_id)
    assert (record.state, record.ended_at is not None) == ("stopped", True)
    assert [event.what for event in store.events(sweep_id)].count("stop requested") == 1
    with pytest.raises(ClusterError, match=f"none of {sweep_id}"):
        KubernetesPort(prod, api=api).stop(sweep_id)


def test_a_stop_that_could_not_write_is_made_up_for(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(store, sweep_id, seconds=0.01)
    port = KubernetesPort(prod, api=api)
    with monkeypatch.context() as elsewhere:
        elsewhere.delenv("DUCHENNE_RECORDS_URL")
        port.stop(sweep_id)
    assert store.get_sweep(sweep_id).state == "running"
    port.stop(sweep_id)  # no object is left, but the records take it for running
    assert store.get_sweep(sweep_id).state == "stopped"


def test_records_out_of_reach_leave_no_object_either(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCHENNE_RECORDS_URL", "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(RecordsError, match="must be in reach"):
        KubernetesPort(prod, api=api).stop(sweep_id)
    assert server.kept(JOBS) == server.kept(MAPS) == {}


def test_a_driver_elsewhere_is_told(
    server: Any, api: Api, sweep_id: str, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(store, sweep_id, seconds=600)
    with pytest.raises(ClusterError, match="but head-pod:7:1:2 holds it on record; end that one"):
        end_recorded(sweep_id, seconds=0)
    assert store.get_sweep(sweep_id).stop_requested


def test_after_a_stop_it_goes_on_with_the_spec_on_record(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, store: RecordStore
) -> None:
    spec = server.kept(MAPS)[sweep_id]["data"]["sweep.yaml"]
    drive(store, sweep_id, seconds=0.01)
    port = KubernetesPort(prod, api=api)
    port.stop(sweep_id)
    port.resume(sweep_id, Limits())
    (config,) = server.kept(MAPS).values()
    sent, first = (load_sweep_text(text).model_dump() for text in (config["data"]["sweep.yaml"], spec))
    assert sent == first
    store.set_sweep_state(sweep_id, "running", token=None)
    store.set_sweep_state(sweep_id, "succeeded", token=None)
    api.delete_ray_job(sweep_id)
    with pytest.raises(ClusterError, match="is succeeded on record; nothing to do"):
        port.resume(sweep_id, Limits())


def test_the_records_say_what_the_cluster_can_not(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster, store: RecordStore
) -> None:
    store.set_sweep_state(sweep_id, "exhausted", token=None, error="the budget is spent")
    port = KubernetesPort(prod, api=api)
    set_status(server, sweep_id, jobDeploymentStatus="Complete")
    assert list(port.watch(sweep_id)) == [Status("exhausted", "the budget is spent")]
    assert port.cost(sweep_id)["budget"]["usd"] == 7
    assert "observed" in port.cost(sweep_id)
    stop(sweep_id, prod, api)
    assert port.cost(sweep_id)["budget"]["usd"] == 7
