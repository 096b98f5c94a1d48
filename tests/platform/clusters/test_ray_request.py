"""What a Ray job carries, and how many fold workers a Ray cluster has room for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.clusters.config import RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.rayjobs.request import Room, checked_code, fold_room, request, staged
from duchenne.spec import Sweep, load_sweep_text

ROOT = Path(__file__).parents[3]
CLUSTER = RayCluster(address="http://127.0.0.1:8265")


def sweep(resources: str = "{cpu: 1}", uri: str = "builtin://toy") -> Sweep:
    return load_sweep_text(
        "apiVersion: duchenne/v1\nkind: Sweep\nmetadata: {name: small, team: faces}\n"
        f'data: {{uri: "{uri}"}}\nfolds: {{count: 2, inner: 2, resources: {resources}}}\nbudget: {{wall_seconds: 60}}\n'
    )


@pytest.mark.parametrize(
    ("nodes", "resources", "workers"),
    [
        ([{"CPU": 3.0}], "{cpu: 1}", 2),  # one core is for the trials
        ([{"CPU": 8.0}, {"CPU": 2.0}], "{cpu: 4}", 2),  # which the second node has to spare
        ([{"CPU": 8.0}], "{cpu: 4}", 1),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 4.0}], "{cpu: 4, gpu: 1}", 4),
        ([{"CPU": 16.0, "GPU": 1.0}], "{cpu: 2, gpu: 0.25}", 4),
    ],
)
def test_room_is_counted_node_by_node(nodes: list[dict[str, float]], resources: str, workers: int) -> None:
    given_sweep = sweep(resources)
    needed = given_sweep.folds.resources
    assert fold_room(nodes, given_sweep, CLUSTER) == Room(workers * needed.cpu, workers * needed.gpu)


def test_no_room_is_one_line_unless_the_cluster_grows() -> None:
    with pytest.raises(ClusterError, match=r"needs 4 CPU and 1 GPU .* the largest of 1 nodes has 16 and 0; lower"):
        fold_room([{"CPU": 16.0}], sweep("{cpu: 4, gpu: 1}"), CLUSTER)
    growing = CLUSTER.model_copy(update={"max_workers": 5})
    assert fold_room([{"CPU": 1.0}], sweep("{cpu: 4, gpu: 1}"), growing) == Room(20, 5)


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 8)), min_size=1, max_size=5), st.integers(1, 16))
@settings(max_examples=50, deadline=None)
def test_workers_and_the_trials_fit_together(nodes: list[tuple[int, int]], cpu: int) -> None:
    given_sweep = sweep(f"{{cpu: {cpu}}}")
    try:
        room = fold_room([{"CPU": float(c), "GPU": float(g)} for c, g in nodes], given_sweep, CLUSTER)
    except ClusterError:
        assert max(c for c, _ in nodes) < 2 * cpu + 1
        return
    assert room.cpus + 1 <= sum(c for c, _ in nodes)
    assert room.cpus <= sum(c // cpu * cpu for c, _ in nodes)


@pytest.mark.parametrize("uri", ["faces", "../faces"])
def test_data_of_this_machine_is_refused(uri: str) -> None:
    with pytest.raises(ClusterError, match=r"data\.uri: a Ray cluster reads s3://"):
        request(sweep(uri=uri), CLUSTER, "small-0")


def test_secrets_are_not_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "DUCHENNE_RECORDS_URL"):
        monkeypatch.setenv(variable, "a-secret")
    sent = request(sweep(), CLUSTER.model_copy(update={"home": "/shared"}), "small-0", room=Room(4, 0), home=tmp_path)
    assert sent.environment == {
        "DUCHENNE_HOME": "/shared",
        "DUCHENNE_CLUSTER_CPUS": "4",
        "DUCHENNE_CLUSTER_GPUS": "0",
    }
    assert "a-secret" not in repr(sent)


def test_a_working_tree_is_its_packages_without_what_is_built() -> None:
    sent = request(sweep(), CLUSTER, "small-0", code=checked_code(ROOT))
    assert sent.entrypoint.startswith("python -m duchenne run sweep.yaml")
    assert len(sent.environment["DUCHENNE_REVISION"]) >= 7
    with staged(sent) as folder:
        names = {path.name for path in Path(folder).iterdir()}
        assert names == {"sweep.yaml", "duchenne", "duchenne_jobs", "duchenne_kernels"}
        assert (Path(folder) / "duchenne/__main__.py").exists()
        assert not [path for path in Path(folder).rglob("*") if path.suffix in (".so", ".pyc", ".cubin")]
        assert sum(path.stat().st_size for path in Path(folder).rglob("*")) < 20e6
    assert not Path(folder).exists()


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="has no platform/duchenne; name a checkout"):
        checked_code(tmp_path)
