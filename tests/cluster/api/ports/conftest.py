"""The three kinds of cluster, as real as they can be had here: a process, a Ray cluster, an API server over HTTP.

The driver is a stand-in that keeps real records and ends when it is told to: the contract is about how a sweep gets to
a cluster and back, not about training.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kmock
import pytest

from duchenne.clusters.background import LocalPort
from duchenne.clusters.config import KubernetesCluster, RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.file import load_clusters_text
from duchenne.clusters.kubernetes.api import Api
from duchenne.clusters.kubernetes.cluster import KubernetesPort
from duchenne.clusters.port import Port
from duchenne.clusters.rayjobs.api import RayApi
from duchenne.clusters.rayjobs.cluster import RayPort

TOKEN = "0123456789abcdef" * 2
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
PODS = kmock.resource("", "v1", "pods")
EVENTS = kmock.resource("", "v1", "events")
WORKLOADS = kmock.resource("kueue.x-k8s.io", "v1beta2", "workloads")

DRIVER = '''\
"""Takes `duchenne run` and `duchenne resume`, and leaves every other verb to Duchenne."""
import os, sys, time
from pathlib import Path
from duchenne.paths import HOME_VARIABLE

if sys.argv[1] not in ("run", "resume"):
    from duchenne.cli.main import main
    main()
from duchenne.records import Amounts, NewSweep, holder_name, open_home
from duchenne.spec import load_sweep

words = sys.argv[1:]
home = Path(os.environ[HOME_VARIABLE])
sweep_id = words[words.index("--id") + 1] if "--id" in words else words[1]
with open_home(home) as store:
    if sweep_id not in [record.id for record in store.list_sweeps()]:
        sweep = load_sweep(words[1])
        store.create_sweep(
            NewSweep(
                name=sweep.metadata.name, team=sweep.metadata.team, board="b", spec=sweep.model_dump(mode="json"),
                spec_text="", spec_digest="d", dataset_uri=sweep.data.uri,
                budget=Amounts(wall_seconds=sweep.budget.wall_seconds),
            ),
            sweep_id,
        )
    if "--usd" in words:
        store.set_budget(sweep_id, Amounts(usd=float(words[words.index("--usd") + 1])))
    lock = store.acquire_lock(sweep_id, holder_name())
    store.set_sweep_state(sweep_id, "running", token=lock.token)
    print(f"sweep: {sweep_id}", flush=True)
    while not (ended := store.stop_requested(sweep_id)) and not (home / f"finish-{sweep_id}").exists():
        time.sleep(0.1)
    state = "stopped" if ended else "succeeded"
    store.set_sweep_state(sweep_id, state, token=lock.token)
    print(f"{sweep_id}: {state}" + (": asked to" if ended else ""), flush=True)
'''


def interpreter(folder: Path) -> Path:
    """The stand-in as an executable file."""
    path = folder / "driver"
    path.write_text(f"#!{sys.executable}\n{DRIVER}")
    path.chmod(0o755)
    return path


@dataclass
class Place:
    """A cluster with what a test needs to move it on."""

    port: Port
    home: Path
    section: str

    def begin(self, sweep_id: str) -> None:
        """Let the sweep run: these start by themselves."""

    def finish(self, sweep_id: str) -> None:
        """Let the driver end well."""
        (self.home / f"finish-{sweep_id}").touch()

    def limits_given(self, sweep_id: str) -> float | None:
        """The dollars that a resumed sweep may spend."""
        limit: float | None = self.port.cost(sweep_id)["budget"]["usd"]
        return limit


@dataclass
class KubernetesPlace(Place):
    """KubeRay is played: what it would write goes through the API, so that watches hear of it."""

    server: Any = None

    def begin(self, sweep_id: str) -> None:
        status = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "startTime": "2026-01-01T00:00:00Z"}
        self.server.patch("ray.io", "v1", "rayjobs", sweep_id, {"status": status})
        for name, labels in (("x", {"job-name": sweep_id}), ("head", {"duchenne.dev/sweep": sweep_id})):
            metadata = {"name": f"{sweep_id}-{name}", "namespace": "duchenne", "labels": labels}
            self.server.mock.objects[PODS, "duchenne", f"{sweep_id}-{name}"] = {"metadata": metadata}
        log = f"sweep: {sweep_id}\n{sweep_id}: succeeded\n"
        self.server.mock[f"get /api/v1/namespaces/duchenne/pods/{sweep_id}-x/log"] << log.encode()

    def finish(self, sweep_id: str) -> None:
        self.server.patch("ray.io", "v1", "rayjobs", sweep_id, {"status": {"jobDeploymentStatus": "Complete"}})

    def limits_given(self, sweep_id: str) -> float | None:
        jobs = self.server.kept(kmock.resource("ray.io", "v1", "rayjobs"))
        words = jobs[sweep_id]["spec"]["entrypoint"].split()
        return float(words[words.index("--usd") + 1])


@dataclass(frozen=True)
class Head:
    """A Ray cluster of this test run, with token authentication."""

    address: str
    folder: Path
    token: str = TOKEN

    def cluster(self, home: Path, program: Path | str) -> RayCluster:
        named = {"address": self.address, "token_env": "TEST_RAY_TOKEN"}
        return RayCluster(**named, home=str(home), program=str(program))


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """A real Ray head on loopback: job API, dashboard, token."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # a short path: Ray makes sockets in it
    ports = free_ports()
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    settings["RAY_agent_register_timeout_ms"] = "150000"  # on a busy machine its imports take longer than 30 s
    program = Path(sys.executable).with_name("ray")
    command = [program, "start", "--head", "--block", "--num-cpus=3", "--object-store-memory=100000000"]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *command,
                "--dashboard-host=127.0.0.1",
                *(f"--{name}={port}" for name, port in ports.items()),
                f"--temp-dir={folder}",
            ],
            env=os.environ | settings | {"PATH": f"{program.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        started = Head(address, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEST_RAY_TOKEN", TOKEN)
            _wait_for(started.cluster(folder, "duchenne"), process, folder / "head.log")
        yield started
    finally:
        for way in (signal.SIGTERM, signal.SIGKILL):  # the first ends Ray's processes, the second what waited for them
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, way)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(3)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports() -> dict[str, int]:
    """Ports that are free, outside of Ray's own for workers: those that another Ray on this machine may have, too."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {name: 20000 + probe.getsockname()[1] % 20000 for name, probe in zip(PORTS, probes, strict=True)}


def _wait_for(cluster: RayCluster, process: subprocess.Popen[bytes], log: Path) -> None:
    api = RayApi(cluster, pause_seconds=0.05)
    deadline, refusal = time.monotonic() + 180, None
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:  # its parts start one by one; the agent that takes jobs is the last
            if api.nodes() and api.submit("true", {}, {}, "first"):
                return
        except ClusterError as error:
            refusal = error
        time.sleep(0.2)
    raise AssertionError(f"Ray did not take a job in time: {refusal}")


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.service), "kubernetes"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Each kind of cluster in turn."""
    home = tmp_path / "home"
    home.mkdir()
    program = interpreter(tmp_path)
    if request.param == "local":
        yield Place(LocalPort(home, [str(program)]), home, "{type: local}")
        return
    if request.param == "ray":
        monkeypatch.setenv("TEST_RAY_TOKEN", TOKEN)
        cluster = request.getfixturevalue("head").cluster(home, program)
        section = f'{{type: ray, address: "{cluster.address}", token_env: TEST_RAY_TOKEN, home: {home}, '
        yield Place(RayPort(cluster, home), home, f"{section}program: {program}}}")
        return
    server, api = request.getfixturevalue("server"), request.getfixturevalue("api")
    for resource, kind in ((PODS, "Pod"), (EVENTS, "Event"), (WORKLOADS, "Workload")):
        server.install(resource, kind)
    prod: KubernetesCluster = request.getfixturevalue("prod")
    assert isinstance(api, Api)
    monkeypatch.setattr(Api, "connect", lambda _: api)
    text = str(request.getfixturevalue("clusters_text"))
    assert load_clusters_text(text).kubernetes("prod") == prod
    yield KubernetesPlace(KubernetesPort(prod, home, api), home, text, server=server)
