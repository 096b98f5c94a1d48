"""What a RayJob runs: starts once, goes on when run again, and ends a retry that would only cost."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from duchenne.cli import run
from duchenne.cli.main import call
from duchenne.clusters.file import load_clusters_text
from duchenne.clusters.kubernetes.manifests import entrypoint, manifests
from duchenne.clusters.local import Machine
from duchenne.records import NewSweep, RecordsConflictError, RecordStore, open_home
from duchenne.spec import Sweep

SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: toy}
data: {uri: "builtin://toy?count=60&tasks=3&seed=0"}
folds: {count: 2, inner: 2}
seeds: 1
budget: {wall_seconds: 1}
"""
SWEEP_ID = "toy-0123ab"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """The entrypoint's words, with the spec and the home of this test."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    program, *words = shlex.split(entrypoint(SWEEP_ID))
    assert program == "duchenne"
    spec = [str(tmp_path / "sweep.yaml") if word.endswith("sweep.yaml") else word for word in words]
    return [*spec, "--home", str(tmp_path / "home")]


def states(home: Path) -> list[tuple[str, str]]:
    with open_home(home) as store:
        return [(record.id, record.state) for record in store.list_sweeps()]


def test_a_spent_budget_is_no_reason_to_try_again(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCHENNE_IMAGE", "duchenne@sha256:12")
    assert call(command) == 0
    assert states(tmp_path / "home") == [(SWEEP_ID, "exhausted")]
    with open_home(tmp_path / "home") as store:
        assert store.get_sweep(SWEEP_ID).image == "duchenne@sha256:12"
    assert call(command) == 0
    assert states(tmp_path / "home") == [(SWEEP_ID, "exhausted")]  # the same sweep went on
    assert call([word for word in command if word != "--supervised"]) == 3


def test_neither_is_wrong_input(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP.replace("seeds: 1", "seeds: 0"))
    assert call(command) == 0
    assert "seeds" in capsys.readouterr().err
    assert call([word for word in command if word != "--supervised"]) == 2


def test_an_id_means_one_spec(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command) == 0
    (tmp_path / "sweep.yaml").write_text(SWEEP.replace("seeds: 1", "seeds: 2"))
    assert call([word for word in command if word != "--supervised"]) == 2
    assert f"{SWEEP_ID} is on record with another" in capsys.readouterr().err


def test_a_retry_waits_for_the_lock_of_the_driver_before(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(command) == 0
    monkeypatch.setattr(run, "LOCK_POLL_SECONDS", 0.2)
    with open_home(tmp_path / "home") as store:
        store.acquire_lock(SWEEP_ID, "another-host:1:2:3", ttl_seconds=1.5)
        expires = store.get_sweep(SWEEP_ID).lock_expires_at
        assert expires is not None
        assert call(command) == 0
        assert store.get_sweep(SWEEP_ID).ended_at >= expires - timedelta(seconds=0.1)
        store.acquire_lock(SWEEP_ID, "another-host:1:2:3", ttl_seconds=60)
    monkeypatch.setattr(run, "LOCK_PATIENCE_SECONDS", 0.3)
    assert call(command) != 0  # the driver before still works: the next retry may find it gone


def test_records_live_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCHENNE_RECORDS_URL", f"sqlite:///{tmp_path / 'elsewhere.sqlite'}")
    with open_home(tmp_path / "home") as store:
        assert store.list_sweeps() == []
    assert (tmp_path / "elsewhere.sqlite").exists()
    assert not (tmp_path / "home").exists()


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    def create(store: RecordStore) -> str:
        new = NewSweep(
            name="toy", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="builtin://toy"
        )
        return store.create_sweep(new, SWEEP_ID).id

    with open_home(tmp_path) as store:
        assert create(store) == SWEEP_ID
        with pytest.raises(RecordsConflictError, match=f"{SWEEP_ID} is on record; resume it"):
            create(store)


def test_a_cluster_says_how_much_it_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCHENNE_CLUSTER_CPUS", "24")
    monkeypatch.setenv("DUCHENNE_CLUSTER_GPUS", "1.5")
    assert Machine.here() == Machine(cpus=24, gpus=1.5)
    assert Machine.here().workers(4, 0.25) == 6


LONG = (
    SWEEP.replace("wall_seconds: 1", "wall_seconds: 7200")
    + """\
model: {name: vmnc, encoder: {layers: 1, width: 8}, hidden_size: 8}
training: {epochs: 4000, batch_size: 8}
"""
)


@pytest.mark.timeout(600)
def test_a_pod_that_ends_tells_its_driver_which_tells_the_records(
    command: list[str], tmp_path: Path, sweep: Sweep, clusters_text: str
) -> None:
    """The hook that Kubernetes runs before it kills the head, on a real driver: it waits until all is on record."""
    (tmp_path / "sweep.yaml").write_text(LONG)
    job = manifests(sweep, load_clusters_text(clusters_text).kubernetes("prod"))[0]
    (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    told = next(variable["value"] for variable in head["env"] if variable["name"] == "DUCHENNE_PID_FILE")
    assert any(told.startswith(f"{mount['mountPath']}/") for mount in head["volumeMounts"])
    number = str(tmp_path / "pid")
    hook = [word.replace(told, number) for word in head["lifecycle"]["preStop"]["exec"]["command"]]
    assert subprocess.run(hook, timeout=10, check=False).returncode == 0, "without a driver it ends at once"
    with (tmp_path / "log").open("wb") as log, open_home(tmp_path / "home") as store:
        driver = subprocess.Popen(
            [sys.executable, "-m", "duchenne", *command],
            env=os.environ | {"DUCHENNE_PID_FILE": number},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 400
            while not (store.list_sweeps() and store.results(SWEEP_ID)):
                assert driver.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            subprocess.run(hook, timeout=90, check=True)
            assert driver.wait(timeout=120) not in (0, None), "a retry may go on"
        finally:
            driver.kill()
            driver.wait()
        record = store.get_sweep(SWEEP_ID)
        assert (record.state, record.lock_holder) == ("stopped", None)
        assert "SIGTERM" in str(record.error)
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not Path(number).exists()


JOINED = """
from duchenne.clusters.local import Machine, embedded_ray
import ray
with embedded_ray(Machine.here(), cpus_needed=2):
    print(ray.cluster_resources()["CPU"])
"""


def test_a_driver_joins_the_cluster_that_it_is_a_job_of() -> None:
    """With the environment that the pods have: a token, and the address that Ray gives its jobs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = 20000 + probe.getsockname()[1] % 20000  # outside of Ray's own ports for workers
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2, "RAY_USAGE_STATS_ENABLED": "0"}
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    folder = tempfile.mkdtemp(prefix="ray")  # a short path: Ray makes sockets in it
    head = subprocess.Popen(
        [*ray, "--num-cpus=3", "--include-dashboard=false", f"--port={port}", f"--temp-dir={folder}"],
        env=os.environ | token,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    environment = os.environ | token | {"RAY_ADDRESS": f"127.0.0.1:{port}", "DUCHENNE_CLUSTER_CPUS": "2"}
    try:
        _wait_for(port, head)
        for _ in range(2):  # the first one leaves it running
            done = subprocess.run(
                [sys.executable, "-c", JOINED],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.stdout.splitlines()[-1:] == ["3.0"], done.stderr
    finally:
        for way in (signal.SIGTERM, signal.SIGKILL):  # the first ends Ray's processes, the second what waited for them
            if head.poll() is None:
                os.killpg(head.pid, way)
                with suppress(subprocess.TimeoutExpired):
                    head.wait(5)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, head: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert head.poll() is None, "Ray did not start"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError("Ray did not listen in time")
