"""What a sweep's job carries to a Ray cluster: its spec, and the working tree where that is asked for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from duchenne.clusters.config import RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.limits import Limits
from duchenne.clusters.local import CPUS_VARIABLE, GPUS_VARIABLE
from duchenne.clusters.portable import SPEC_NAME, entrypoint_words, portable_files
from duchenne.clusters.revision import REVISION_VARIABLE, revision_of
from duchenne.paths import HOME_VARIABLE
from duchenne.plan.teams import TEAMS_NAME, TEAMS_VARIABLE
from duchenne.spec import Sweep
from duchenne.spec.sections import split_uri

PACKAGES = ("platform/duchenne", "jobs/duchenne_jobs", "kernels/duchenne_kernels")
# Compiled kernels are for the CPU that they were compiled on; without them the plain PyTorch ones run.
EXCLUDES = ("__pycache__", "*.pyc", "*.so", "*.cubin", ".*")


@dataclass(frozen=True)
class Room:
    """What a cluster has for a sweep: CPUs and GPUs of its fold workers."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Request:
    """One Ray job. `files` lie in the folder in which it starts; `code` is the working tree to run, if one is."""

    entrypoint: str
    metadata: dict[str, str]
    environment: dict[str, str]
    files: dict[str, str]
    code: Path | None = None


def request(
    sweep: Sweep,
    cluster: RayCluster,
    sweep_id: str,
    *,
    room: Room | None = None,
    home: Path | None = None,
    limits: Limits | None = None,
    code: Path | None = None,
) -> Request:
    """The job that runs a sweep, or goes on with it.

    Args:
        room: see `fold_room`; None leaves it to the driver, which then counts its own machine.
        home: where this machine's `teams.yaml` is, which travels with the spec.
        code: a checkout, whose packages replace those that are installed on the cluster.

    Raises:
        ClusterError: data that the cluster's nodes can't reach.
    """
    _require_reachable(sweep)
    files = portable_files(sweep, home)
    environment = base_environment(cluster)
    if room is not None:
        environment |= {CPUS_VARIABLE: f"{room.cpus:g}", GPUS_VARIABLE: f"{room.gpus:g}"}
    if TEAMS_NAME in files:
        environment[TEAMS_VARIABLE] = TEAMS_NAME
    if code is not None:
        environment[REVISION_VARIABLE] = revision_of(code)
    words = [program(cluster, code), *entrypoint_words(SPEC_NAME, sweep_id, limits)]
    return Request(" ".join(words), metadata(sweep_id, sweep), environment, files, code)


def metadata(sweep_id: str, sweep: Sweep | None = None) -> dict[str, str]:
    """What tells the jobs of a sweep from others."""
    known = {"name": sweep.metadata.name, "team": sweep.metadata.team} if sweep is not None else {}
    return {"duchenne": "driver", "sweep": sweep_id, **known}


def base_environment(cluster: RayCluster) -> dict[str, str]:
    """Variables of every job: where the home is. Secrets are not among them: the cluster's nodes have their own."""
    return {} if cluster.home is None else {HOME_VARIABLE: cluster.home}


def program(cluster: RayCluster, code: Path | None) -> str:
    """How Duchenne is called; with a working tree by the Python beside it, since the script may be of another."""
    if code is None:
        return cluster.program
    python = str(Path(cluster.program).with_name("python")) if "/" in cluster.program else "python"
    return f"{python} -m duchenne"


@contextmanager
def staged(sent: Request) -> Iterator[str]:
    """A folder with the files of a job and, where it carries one, the packages of the working tree."""
    with TemporaryDirectory(prefix="duchenne-") as folder:
        for name, text in sent.files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        if sent.code is not None:
            for package in PACKAGES:
                source = sent.code / package
                shutil.copytree(source, Path(folder) / source.name, ignore=shutil.ignore_patterns(*EXCLUDES))
        yield folder


def checked_code(folder: Path) -> Path:
    """A checkout of this project. Raises ClusterError where it is none."""
    missing = [package for package in PACKAGES if not (folder / package).is_dir()]
    if missing:
        raise ClusterError(
            f"a working tree must hold {', '.join(PACKAGES)}, but {folder} has no {missing[0]}; name a checkout"
        )
    return folder.resolve()


def fold_room(nodes: list[dict[str, float]], sweep: Sweep, cluster: RayCluster) -> Room:
    """The fold workers that fit, node by node; one core of the cluster is left to the trials, which only wait.

    Args:
        nodes: resources of each node, `CPU` and `GPU`.

    Raises:
        ClusterError: no node holds a fold worker.
    """
    needed = sweep.folds.resources
    cpus = sorted((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes)

    def fitting(cpu: float, gpu: float) -> int:
        by_cpu = int(cpu / needed.cpu + 1e-9)
        return min(by_cpu, int(gpu / needed.gpu + 1e-9)) if needed.gpu else by_cpu

    whole = sum(fitting(cpu, gpu) for cpu, gpu in cpus)
    # The core comes from the node that loses no worker by it, else from the one with the most left.
    workers = max((whole - fitting(cpu, gpu) + fitting(cpu - 1, gpu) for cpu, gpu in cpus if cpu >= 1), default=0)
    if workers < 1 and cluster.max_workers is None:
        largest = max(cpus, key=lambda node: (node[1], node[0]), default=(0.0, 0.0))
        raise ClusterError(
            f"folds.resources: a fold worker needs {needed.cpu:g} CPU and {needed.gpu:g} GPU beside one CPU for the "
            f"trials, but the largest of {len(cpus)} nodes has {largest[0]:g} and {largest[1]:g}; lower "
            "folds.resources, or set max_workers where the cluster grows"
        )
    workers = workers if cluster.max_workers is None else cluster.max_workers
    if workers < sweep.folds.workers_per_fold:
        raise ClusterError(
            f"folds.workers_per_fold: a fold's workers must fit the pool of {workers}, but got "
            f"{sweep.folds.workers_per_fold}; lower it, or raise max_workers of the cluster"
        )
    return Room(workers * needed.cpu, workers * needed.gpu)


def _require_reachable(sweep: Sweep) -> None:
    """Jobs start in a folder of their own, on another machine."""
    scheme, rest = split_uri(sweep.data.uri)
    if scheme in (None, "file") and not rest.startswith("/"):
        raise ClusterError(
            f"data.uri: a Ray cluster reads s3://, builtin:// or an absolute folder that its nodes share, but got "
            f"{sweep.data.uri}; write it out, or copy the dataset to s3://"
        )
    protocol = sweep.data.protocol
    if protocol is not None and re.search(r"\.(ya?ml|json)$", protocol, re.IGNORECASE) and not protocol.startswith("/"):
        raise ClusterError(
            f"data.protocol: a Ray cluster reads published folds or an absolute path that its nodes share, but got "
            f"{protocol}; write it out"
        )
