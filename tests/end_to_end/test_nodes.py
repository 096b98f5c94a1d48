"""Three Ray nodes with addresses of their own: folds on all of them, DDP across two, and a link that is cut.

Each node lives in a network namespace; a bridge in a fourth joins them. Needs root and iproute2.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from duchenne.clusters.local import ADDRESS_VARIABLE, CPUS_VARIABLE
from duchenne.records import RecordStore, open_home

PORT = 6379
NODES = {"a": 3, "b": 1, "c": 1}  # CPUs; one of the first node's is for the trials
WORKERS, GROUPS, EPOCHS = 4, 2, 24
SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: nodes, team: tests}
data: {uri: "builtin://toy?count=240&tasks=3&seed=0"}
model: {name: vmnc, encoder: {layers: 1, width: 8}, hidden_size: 8}
training: {epochs: 24, batch_size: 4, learning_rate: 0.003}
search: {space: {training.decay: {grid: [1.0]}}, algorithm: grid, scheduler: {name: fifo}, metric: accuracy}
folds: {count: 2, inner: 2, workers_per_fold: 2}
seeds: 1
budget: {wall_seconds: 72000}
"""
# A node that is not heard of for some 15 s is lost, where Ray's own patience is near a minute; on a busy machine a node
# takes longer to start than Ray waits.
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "4000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
}


def ip(*words: str, netns: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["ip", *(["-n", netns] if netns else []), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Network:
    """Namespaces joined by a bridge, with a Ray node in each."""

    def __init__(self, tag: str, folder: Path) -> None:
        self.tag, self.folder = tag, folder
        self.switch = f"{tag}s"
        self.addresses = {name: f"10.213.77.{place}" for place, name in enumerate(NODES, start=1)}

    def build(self) -> str | None:
        """Why this machine does not let us; None where it does."""
        steps = [("netns", "add", self.switch), ("-n", self.switch, "link", "add", "br0", "type", "bridge")]
        steps.append(("-n", self.switch, "link", "set", "br0", "up"))
        for name, address in self.addresses.items():
            space, inner, outer = f"{self.tag}{name}", f"{self.tag}i{name}", f"{self.tag}o{name}"
            steps += [
                ("netns", "add", space),
                ("link", "add", inner, "type", "veth", "peer", "name", outer),
                ("link", "set", inner, "netns", space, "name", "eth0"),
                ("link", "set", outer, "netns", self.switch),
                ("-n", self.switch, "link", "set", outer, "master", "br0", "up"),
                ("-n", space, "addr", "add", f"{address}/24", "dev", "eth0"),
                ("-n", space, "link", "set", "eth0", "up"),
                ("-n", space, "link", "set", "lo", "up"),
            ]
        for step in steps:
            done = ip(*step)
            if done.returncode:
                return f"ip {' '.join(step)}: {done.stderr.strip()}"
        return None

    def link(self, name: str, state: str) -> None:
        assert ip("link", "set", f"{self.tag}o{name}", state, netns=self.switch).returncode == 0

    def environment(self) -> dict[str, str]:
        head = f"{self.addresses['a']}:{PORT}"
        return (
            os.environ
            | PATIENCE
            | {
                ADDRESS_VARIABLE: head,
                CPUS_VARIABLE: str(WORKERS),
                "GLOO_SOCKET_IFNAME": "eth0",
                "RAY_USAGE_STATS_ENABLED": "0",
            }
        )

    def inside(self, name: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.tag}{name}", *command]

    def start(self, *names: str) -> None:
        """Ray nodes in their namespaces, side by side."""
        started = [self._start(name) for name in names]
        for one in started:
            said, _ = one.communicate(timeout=200)
            assert one.returncode == 0, said

    def _start(self, name: str) -> subprocess.Popen[str]:
        address = self.addresses[name]
        program = str(Path(sys.executable).with_name("ray"))
        words = [program, "start", f"--node-ip-address={address}", f"--num-cpus={NODES[name]}", "--disable-usage-stats"]
        words.append("--object-store-memory=80000000")
        if name == "a":
            words += ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        else:
            words.append(f"--address={self.addresses['a']}:{PORT}")
        environment = {key: value for key, value in self.environment().items() if key != ADDRESS_VARIABLE}
        return subprocess.Popen(
            self.inside(name, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def pids(self, name: str) -> list[int]:
        return [int(pid) for pid in ip("netns", "pids", f"{self.tag}{name}").stdout.split()]

    def ranks(self, name: str) -> list[int]:
        """Pids of the pool's workers on a node."""
        return [pid for pid in self.pids(name) if "ray::RayTrainWorker" in title_of(pid)]

    def stop(self, name: str) -> None:
        for pid in self.pids(name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        for name in NODES:
            self.stop(name)
            ip("netns", "del", f"{self.tag}{name}")
        ip("netns", "del", self.switch)
        shutil.rmtree(self.folder, ignore_errors=True)


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_for(condition: Callable[[], Any], driver: subprocess.Popen[bytes], log: Path, seconds: float = 240.0) -> Any:
    """What it says, once it is true; a driver that has ended will not make it so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        is_over = driver.poll() is not None
        found = condition()
        if found:
            return found
        assert not is_over, f"the driver ended with {driver.returncode}: {log.read_text()}"
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {log.read_text()}")


def all_groups_are_mid_job(store: RecordStore, sweep_id: str) -> bool:
    """Each group holds a job of which it has run an epoch and has half to run: a link that is cut now is missed."""
    held = {one.fold_job for one in store.attempts(sweep_id) if one.outcome is None}
    done = Counter((row.phase, row.fold, row.inner) for row in store.results(sweep_id) if row.trial is not None)
    jobs = [job.key for job in store.fold_jobs(sweep_id) if job.id in held]
    return len(jobs) == GROUPS and all(1 <= done[key.phase, key.fold, key.inner] <= EPOCHS // 2 for key in jobs)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    built = Network(f"dn{os.getpid() % 100000}", Path(tempfile.mkdtemp(prefix="dn", dir="/tmp")))
    with ExitStack() as stack:
        stack.callback(built.remove)
        why_not = built.build()
        if why_not is not None:
            pytest.skip(f"this machine allows no network namespaces: {why_not}")
        yield built


@pytest.mark.skipif(
    "DUCHENNE_TEST_NODES" not in os.environ,
    reason="three Ray nodes in network namespaces take about 4 minutes: set DUCHENNE_TEST_NODES=1",
)
@pytest.mark.timeout(900)
def test_a_link_is_cut_and_every_result_is_there_once(duchenne: Any, network: Network, tmp_path: Path) -> None:
    sweep, log = tmp_path / "nodes.yaml", tmp_path / "run.log"
    sweep.write_text(SWEEP)
    network.start("a")
    network.start("b", "c")
    with log.open("wb") as sink:
        driver = subprocess.Popen(
            network.inside("a", duchenne.program, "run", str(sweep)),
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=network.environment() | {"DUCHENNE_HOME": str(duchenne.home)},
        )
    try:
        said = wait_for(lambda: re.search(r"^sweep: (\S+)", log.read_text(), re.MULTILINE), driver, log)
        sweep_id = str(said.group(1))
        with open_home(duchenne.home) as store:
            wait_for(lambda: all_groups_are_mid_job(store, sweep_id), driver, log)
            spread = {name: len(network.ranks(name)) for name in NODES}
            # Four ranks in groups of two on three nodes of at most 3, 1 and 1: one group has a rank on each of two.
            assert sum(spread.values()) == WORKERS
            lonely = [name for name in ("b", "c") if spread[name] == 1]
            assert lonely, spread
            victim = lonely[-1]
            before = set(network.pids(victim))

            network.link(victim, "down")
            errors = wait_for(lambda: [one.error for one in store.attempts(sweep_id) if one.error], driver, log)
            network.link(victim, "up")
            # A node that was given up for lost does not come back: it is started anew, as a pod would be.
            network.stop(victim)
            network.start(victim)
            assert before.isdisjoint(network.pids(victim))
            assert driver.wait(timeout=400) == 0, (errors, log.read_text())
            rows = [
                (row.phase, row.trial, row.method, row.fold, row.inner, row.seed, row.epoch)
                for row in store.results(sweep_id)
            ]
            assert len(rows) == len(set(rows))
            searched = {(row[3], row[4], row[6]) for row in rows if row[0] == "search"}
            epochs = range(1, EPOCHS + 1)
            assert searched == {(fold, inner, epoch) for fold in (0, 1) for inner in (0, 1) for epoch in epochs}
            assert {row[3] for row in rows if row[0] == "evaluation" and row[6] == EPOCHS} == {0, 1}
    finally:
        driver.kill()
        driver.wait()
