"""A real Ray cluster that asks for a token: what it refuses, and a working tree that runs in place of what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duchenne.cli.main import call
from duchenne.clusters.config import RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.rayjobs.api import RayApi
from duchenne.clusters.rayjobs.cluster import RayPort
from duchenne.doctor.clusters import cluster_findings
from duchenne.spec import load_sweep_text

ROOT = Path(__file__).parents[4]
TEXT = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: small, team: faces}
data: {uri: "builtin://toy?count=60&tasks=3&seed=0"}
folds: {count: 2, inner: 2}
seeds: 1
budget: {wall_seconds: 1}
"""


@pytest.mark.service
@pytest.mark.parametrize(("token", "seen"), [(None, "it is not set"), ("f" * 32, "it is set")])
def test_a_wrong_token_is_one_line(head: Any, monkeypatch: pytest.MonkeyPatch, token: str | None, seen: str) -> None:
    monkeypatch.delenv("TEST_RAY_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("TEST_RAY_TOKEN", token)
    cluster = head.cluster(Path("/shared"), "duchenne")
    for ask in (RayApi(cluster).nodes, RayApi(cluster).jobs):
        message = f"must accept the token in TEST_RAY_TOKEN, but does not .{seen}"
        with pytest.raises(ClusterError, match=message) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    api = RayApi(RayCluster(address="http://127.0.0.1:9"), pause_seconds=0.001)
    for ask in (api.nodes, api.jobs):
        with pytest.raises(ClusterError, match="must answer, but does not") as caught:
            ask()
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(ClusterError, match="would go to what RAY_ADDRESS says; unset it"):
        RayApi(RayCluster(address="http://127.0.0.1:9")).jobs()


@pytest.mark.service
def test_a_working_tree_runs_there_and_how_it_ended_is_told(
    head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real driver, whose budget can't pay for one trial: it ends before Ray Train starts."""
    monkeypatch.setenv("TEST_RAY_TOKEN", head.token)
    cluster = head.cluster(tmp_path / "home", "duchenne")
    port = RayPort(cluster, tmp_path, code=ROOT)
    sweep_id = port.submit(load_sweep_text(TEXT))
    *_, last = port.watch(sweep_id)
    log = "\n".join(port.logs(sweep_id))
    assert last.state == "exhausted", log
    assert last.detail.startswith("budget: ")
    assert "python -m duchenne run sweep.yaml" in log
    (row,) = [row for row in port.sweeps() if row.id == sweep_id]
    assert (row.state, row.trials) == ("exhausted", 0)
    with pytest.raises(ClusterError, match="is exhausted; nothing to do"):
        port.stop(sweep_id)
    path = tmp_path / "c.yaml"
    section = f'{{type: ray, address: "{cluster.address}", token_env: TEST_RAY_TOKEN, home: {cluster.home}}}'
    path.write_text(f"clusters: {{lab: {section}}}\n")
    assert call(["watch", sweep_id, "--cluster-file", str(path)]) == 3  # the only cluster is meant
    (finding,) = cluster_findings(path)
    assert (finding.state, "1 nodes, 3 CPU" in finding.seen) == ("ok", True)
