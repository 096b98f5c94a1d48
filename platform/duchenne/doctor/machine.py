"""What this machine has to run a sweep with: Python, torch, GPUs, compilers, Ray, memory, disk."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from duchenne.clusters.local import OBJECT_STORE_BYTES
from duchenne.doctor.finding import Finding, first_line

GIB = 2**30
MIN_PYTHON = (3, 11)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - Ray's object store
FREE_LEAST, FREE_COMFORT = 1 * GIB, 10 * GIB
INSTALL = "install the project: make install"


def machine_findings(home: Path) -> Iterator[Finding]:
    """Each check in turn; torch is imported, Ray is not started."""
    yield python_finding(sys.version_info[:2])
    yield from torch_findings()
    yield ray_finding()
    yield shared_memory_finding(SHARED_MEMORY)
    yield home_finding(home)


def python_finding(version: tuple[int, int]) -> Finding:
    """The interpreter, and the cores that it may use."""
    seen = f"{version[0]}.{version[1]}, {len(os.sched_getaffinity(0))} cores"
    if version < MIN_PYTHON:
        return Finding("Python", "missing", seen, f"needs {MIN_PYTHON[0]}.{MIN_PYTHON[1]}: set PYTHON of make install")
    return Finding("Python", "ok", seen)


def torch_findings() -> Iterator[Finding]:
    """torch, its GPUs, and the kernels of the recurrence."""
    if find_spec("torch") is None:
        yield Finding("torch", "missing", "is not installed", INSTALL)
        return
    import torch

    yield Finding("torch", "ok", torch.__version__)
    gpus = gpu_names()
    if gpus:
        yield Finding("GPU", "ok", f"{len(gpus)} x {gpus[0]}, CUDA {torch.version.cuda}")
    elif torch.version.cuda is None and Path("/dev/nvidiactl").exists():
        yield Finding("GPU", "warn", "there is one, but torch is built for CPUs", "install torch for CUDA to use it")
    else:
        yield Finding("GPU", "ok", "none: sweeps with folds.resources.gpu need a cluster")
    yield triton_finding(bool(gpus))
    yield kernels_finding()


def gpu_names() -> list[str]:
    """Names of the GPUs that torch can use."""
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def triton_finding(has_gpu: bool) -> Finding:
    """Triton, and the C compiler with which it builds its launcher once."""
    if not has_gpu:
        return Finding("Triton", "ok", "not needed without a GPU")
    if find_spec("triton") is None:
        return Finding("Triton", "warn", "is not installed", f"slower kernels stay in use; {INSTALL}")
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return Finding(
            "Triton", "warn", "needs a C compiler once, for its launcher, and there is none", "apt-get install gcc"
        )
    return Finding("Triton", "ok", f"with {compiler} for its launcher")


def kernels_finding() -> Finding:
    """The compiled CPU kernels of the recurrence."""
    from duchenne_kernels.recurrence.native.library import load

    library = load()
    if isinstance(library, str):
        return Finding("CPU kernels", "warn", library, "same results, slower; python -m duchenne_kernels.build")
    return Finding("CPU kernels", "ok", f"compiled, {library.variant}")


def ray_finding() -> Finding:
    """Ray, which every sweep runs on."""
    if find_spec("ray") is None:
        return Finding("Ray", "missing", "is not installed", INSTALL)
    from importlib.metadata import version

    return Finding("Ray", "ok", version("ray"))


def shared_memory_finding(folder: Path) -> Finding:
    """Room for Ray's object store; without it Ray takes the disk."""
    name = "shared memory"
    if not folder.is_dir():
        return Finding(name, "warn", f"{folder} is not there", "Ray uses the disk; mount a tmpfs there")
    free = shutil.disk_usage(folder).free
    if free < OBJECT_STORE_BYTES:
        return Finding(
            name,
            "warn",
            f"{free / GIB:.2f} GiB free in {folder}, and Ray takes {OBJECT_STORE_BYTES / GIB:.2f}",
            "Ray uses the disk; in Docker: --shm-size=1g",
        )
    return Finding(name, "ok", f"{free / GIB:.1f} GiB free in {folder}")


def home_finding(home: Path) -> Finding:
    """Whether the home can be written, and how much fits."""
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("home", "missing", f"{place} can't be written", "choose another --home or mend its permissions")
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding("home", "missing", f"{place} can't be read: {first_line(error)}", "choose another --home")
    seen = f"{home}, {free / GIB:.1f} GiB free"
    if free < FREE_LEAST:
        return Finding("home", "missing", seen, f"a sweep needs {FREE_LEAST / GIB:g} GiB: free some, or another --home")
    if free < FREE_COMFORT:
        return Finding("home", "warn", seen, "checkpoints of a face sweep take several GiB")
    return Finding("home", "ok", seen)
