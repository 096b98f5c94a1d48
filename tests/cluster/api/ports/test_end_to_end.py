"""A RayJob without Kubernetes: its very command and environment, on a real Ray cluster, killed and tried again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duchenne.cli.main import call
from duchenne.clusters.config import KubernetesCluster, NodePool, SecretNames
from duchenne.clusters.kubernetes import manifests
from duchenne.clusters.kubernetes.pods import HOME, SPEC_FOLDER
from duchenne.clusters.rayjobs.api import RayApi
from duchenne.records import RecordStore, open_store
from duchenne.spec import load_sweep_text

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]  # Ray Train starts twice
IMAGE = "registry.example.org/duchenne@sha256:" + "0" * 64
SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: small, team: faces}
data: {uri: "builtin://toy?count=120&tasks=3&seed=0"}
model: {name: monet, encoder: {layers: 1, width: 8}, hidden_size: 8, orders: {count: 2}, trajectories: 4}
training: {epochs: 12, batch_size: 16}
search:
  space: {training.learning_rate: {grid: [0.01]}}
  algorithm: grid
folds: {count: 2, inner: 2}
seeds: 1
budget: {wall_seconds: 600, usd: 10}
prices: {cpu_hour_usd: 0.1}
"""


def wait_for(condition: Callable[[], Any], seconds: float = 240.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def environment(job: dict[str, Any], secrets: dict[tuple[str, str], str]) -> dict[str, str]:
    """The variables of the head's container, with the Secrets of this test in place of references."""
    (container,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    found = {}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        value = variable.get("value") if reference is None else secrets.get((reference["name"], reference["key"]))
        if value is None:
            assert reference["optional"], f"a Secret that must be there: {reference}"
        else:
            found[variable["name"]] = value
    return found


def mounted(job: dict[str, Any], folders: dict[str, Path], text: str) -> str:
    """A text with folders of this machine in place of the container's mounts, all of which are volumes of the pod."""
    (container,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert set(folders) <= {mount["mountPath"] for mount in container["volumeMounts"]}
    for mount, folder in folders.items():
        text = text.replace(mount, str(folder))
    return text


def keys(store: RecordStore, sweep_id: str) -> list[tuple[Any, ...]]:
    return [(r.trial, r.phase, r.method, r.fold, r.inner, r.seed, r.epoch) for r in store.results(sweep_id)]


def test_a_retry_goes_on_and_ends_in_an_entry(
    head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pools = (NodePool(name="cpu", cpu=8, memory_gib=32, usd_per_hour=0.5),)
    secrets = SecretNames(records="records")
    place = KubernetesCluster(image=IMAGE, node_pools=pools, max_workers=1, secrets=secrets, storage="pvc://home")
    (tmp_path / "teams.yaml").write_text("faces: {usd_per_month: 100}\nvideo: {usd_per_month: 1}\n")
    job, config = manifests(load_sweep_text(SWEEP), place, sweep_id="small-0123ab", home=tmp_path)

    folders = {SPEC_FOLDER: tmp_path / "etc", HOME: tmp_path / "home"}
    folders[SPEC_FOLDER].mkdir()
    for name, text in config["data"].items():
        (folders[SPEC_FOLDER] / name).write_text(text)
    url = f"sqlite:///{folders[HOME] / 'records.sqlite'}"
    token = (place.secrets.ray_token, "auth_token")
    held = environment(job, {("records", "url"): url, token: "the head's own"})
    assert held["RAY_AUTH_MODE"] == "token"
    variables = {name: mounted(job, folders, value) for name, value in held.items() if not name.startswith("RAY_AUTH_")}
    command = mounted(job, folders, job["spec"]["entrypoint"])
    monkeypatch.setenv("TEST_RAY_TOKEN", head.token)
    api = RayApi(head.cluster(folders[HOME], "duchenne"))

    def submit(attempt: int) -> str:
        return api.submit(command, job["spec"]["metadata"], {"env_vars": variables}, f"small-{attempt}")

    with open_store(url) as store:
        first = submit(1)
        wait_for(lambda: "small-0123ab" in [record.id for record in store.list_sweeps()])
        wait_for(lambda: len(store.results("small-0123ab")) >= 8)
        holder = str(store.get_sweep("small-0123ab").lock_holder)
        os.kill(int(holder.split(":")[1]), signal.SIGKILL)
        wait_for(lambda: api.status(first) == "FAILED")
        before = keys(store, "small-0123ab")
        assert store.entries(sweep="small-0123ab") == []

        second = submit(2)
        wait_for(lambda: api.status(second) in ("SUCCEEDED", "FAILED"))
        assert api.status(second) == "SUCCEEDED", api.log(second)
        after = keys(store, "small-0123ab")
        record = store.get_sweep("small-0123ab")
        assert (record.state, record.image) == ("succeeded", IMAGE)
        assert len(after) == len(set(after)) == 12 * (2 * 2 + 2)  # epochs x (inner folds of the trial + the evaluation)
        assert set(before) <= set(after)
        assert 0 < len(before) < len(after)

    monkeypatch.setenv("DUCHENNE_RECORDS_URL", url)
    capsys.readouterr()
    assert call(["leaderboard", "--home", str(folders[HOME]), "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["entry"], entry["verified"], entry["trials"]) == ("small-0123ab.monet", "verified", 1)
    assert entry["cost_usd"] > 0
