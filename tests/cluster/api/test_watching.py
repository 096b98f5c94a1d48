"""Following a sweep: every state, why it waits, and a watch that is cut, refused or too old."""

from __future__ import annotations

import threading
from typing import Any

import kmock
import pytest

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import Api
from duchenne.clusters.kubernetes.submit import stop, submit
from duchenne.clusters.kubernetes.watching import Status, logs, watch
from duchenne.spec import Sweep

PODS = kmock.resource("", "v1", "pods")
EVENTS = kmock.resource("", "v1", "events")
WORKLOADS = kmock.resource("kueue.x-k8s.io", "v1beta2", "workloads")


@pytest.fixture
def sweep_id(server: Any, api: Api, sweep: Sweep, prod: KubernetesCluster) -> str:
    server.install(PODS, "Pod")
    server.install(EVENTS, "Event")
    server.install(WORKLOADS, "Workload")
    return submit(sweep, prod, api)


def put(server: Any, resource: kmock.resource, name: str, body: dict[str, Any]) -> None:
    metadata = {"name": name, "namespace": "duchenne", **body.pop("metadata", {})}
    server.mock.objects[resource, "duchenne", name] = {"metadata": metadata, **body}


def set_status(server: Any, sweep_id: str, **status: Any) -> None:
    """What KubeRay would write, through the API, so that watches hear of it."""
    server.patch("ray.io", "v1", "rayjobs", sweep_id, {"status": status})


def test_it_is_told_from_the_queue_to_the_end(server: Any, api: Api, sweep_id: str) -> None:
    seen = watch(sweep_id, api)
    assert next(seen) == Status("queued")
    for status, expected in (
        ({"jobDeploymentStatus": "Initializing"}, Status("starting")),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, Status("running")),
        ({"jobDeploymentStatus": "Retrying", "failed": 1}, Status("retrying", "1 of 4 clusters failed")),
        ({"jobDeploymentStatus": "Running"}, Status("running", "1 of 4 clusters failed")),
        ({"jobDeploymentStatus": "Complete", "message": "done"}, Status("succeeded", "done: 1 of 4 clusters failed")),
    ):
        threading.Timer(0.2, set_status, (server, sweep_id), status).start()
        assert next(seen) == expected
    assert list(seen) == []


def test_a_deadline_is_told(server: Any, api: Api, sweep_id: str) -> None:
    set_status(server, sweep_id, jobDeploymentStatus="Failed", reason="DeadlineExceeded", message="ran too\nlong")
    assert list(watch(sweep_id, api)) == [Status("failed", "DeadlineExceeded: ran too long")]


def test_why_it_waits_in_the_queue(server: Any, api: Api, sweep_id: str) -> None:
    condition = {"type": "QuotaReserved", "status": "False", "message": "insufficient nvidia.com/gpu in flavor spot"}
    for name, owner, queue, priority, created in (
        ("elsewhere", "not-ours", "video", 9, "2026-01-01T00:00:00Z"),
        ("earlier", "not-ours", "faces", 0, "2026-01-01T00:01:00Z"),
        ("ours", sweep_id, "faces", 0, "2026-01-01T00:02:00Z"),
        ("more-urgent", "not-ours", "faces", 5, "2026-01-01T00:03:00Z"),
        ("later", "not-ours", "faces", 0, "2026-01-01T00:04:00Z"),
    ):
        reference = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": owner, "uid": "1"}
        message = condition | ({} if owner == sweep_id else {"message": "not ours"})
        put(
            server,
            WORKLOADS,
            name,
            {
                "metadata": {"ownerReferences": [reference], "creationTimestamp": created},
                "spec": {"queueName": queue, "priority": priority},
                "status": {"conditions": [message]},
            },
        )
    expected = "waits in queue faces, position 3: insufficient nvidia.com/gpu in flavor spot"
    assert next(watch(sweep_id, api)) == Status("queued", expected)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: 3 Insufficient gpu"}]},
            "pod head has no node: 0/3 nodes: 3 Insufficient gpu",
        ),
        (
            {
                "containerStatuses": [
                    {
                        "name": "ray-head",
                        "image": "i",
                        "imageID": "",
                        "ready": False,
                        "restartCount": 0,
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
                    }
                ]
            },
            "pod head can't start: ImagePullBackOff: no such image",
        ),
    ],
)
def test_why_its_pods_do_not_start(server: Any, api: Api, sweep_id: str, status: dict[str, Any], why: str) -> None:
    set_status(server, sweep_id, jobDeploymentStatus="Initializing")
    put(server, PODS, "head", {"status": status})
    assert next(watch(sweep_id, api)) == Status("starting", why)


@pytest.mark.parametrize("status", [401, 409, 410, 429, 500])
def test_a_watch_that_is_refused_loses_nothing(server: Any, api: Api, sweep_id: str, status: int) -> None:
    seen = watch(sweep_id, api)
    assert next(seen) == Status("queued")
    server.mock.failing = ("GET", "watch=", status)
    threading.Timer(0.2, set_status, (server, sweep_id), {"jobDeploymentStatus": "Running"}).start()
    assert next(seen) == Status("running")
    server.mock.failing = None
    threading.Timer(0.2, set_status, (server, sweep_id), {"jobDeploymentStatus": "Complete"}).start()
    assert list(seen) == [Status("succeeded")]


def test_a_sweep_that_is_stopped_meanwhile_is_gone(
    server: Any, api: Api, sweep_id: str, prod: KubernetesCluster
) -> None:
    seen = watch(sweep_id, api)
    assert next(seen).state == "queued"
    threading.Timer(0.2, stop, (sweep_id, prod, api)).start()
    assert [status.state for status in seen] == ["gone"]


def test_a_server_that_stays_away_is_told(server: Any, api: Api, sweep_id: str) -> None:
    seen = watch(sweep_id, api)
    assert next(seen).state == "queued"
    server.mock.failing = ("GET", "", 500)
    with pytest.raises(ClusterError, match=r"failed to get rayjobs\.ray\.io with 500"):
        next(seen)


def test_the_log_is_that_of_the_newest_submitter(server: Any, api: Api, sweep_id: str) -> None:
    for name, owner, created in (
        ("first", sweep_id, "2026-01-01T00:00:00Z"),
        ("second", sweep_id, "2026-01-01T00:10:00Z"),
        ("other", "someone-else", "2026-01-01T00:20:00Z"),
    ):
        put(server, PODS, name, {"metadata": {"labels": {"job-name": owner}, "creationTimestamp": created}})
    (
        server.mock["get /api/v1/namespaces/duchenne/pods/second/log"]
        << "sweep: ID\nfold 1 of 3: \u00e9tude\nlast".encode()
    )
    assert list(logs(sweep_id, api)) == ["sweep: ID", "fold 1 of 3: \u00e9tude", "last"]


def test_a_sweep_without_a_log_says_why(api: Api, sweep_id: str) -> None:
    with pytest.raises(ClusterError, match=f"{sweep_id} is queued; see `duchenne watch"):
        list(logs(sweep_id, api))
