"""The CUDA backend: its arithmetic on a host (the source runs with a team of one), its compilation, and on a GPU.

What a host can't show: races between threads.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from duchenne_kernels.recurrence.cuda import launch, library

FP32_BOUND = 1e-5
gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or not library.LIBRARY.exists(), reason="no GPU or no build here"
)


@pytest.fixture(scope="module")
def on_a_host(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Makes the backend take CPU tensors, by the same source compiled for the host."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    built = tmp_path_factory.mktemp("cuda") / "host.so"
    flags = ["-O2", "-std=c++17", "-x", "c++", "-DDUCHENNE_HOST", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, "-o", str(built), str(library.SOURCE)], check=True)
    functions = library.open_library(built)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "load", lambda: functions)
        patch.setattr(launch, "refusal", lambda *_arguments: None)
        yield functions


def test_the_python_side_knows_the_tile(on_a_host) -> None:  # type: ignore[no-untyped-def]
    assert on_a_host.duchenne_cuda_tile_rows() == launch.TILE_ROWS


@pytest.mark.parametrize("active", [None, 3])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 16), (3, 5, 2, 48), (17, 7, 5, 64), (33, 2, 12, 100), (2, 40, 3, 1)], ids=str
)
def test_the_arithmetic_agrees(sizes, active, make, run, assert_close, poisoned, on_a_host) -> None:  # type: ignore[no-untyped-def]
    problem = make(*sizes, active=active, masked=True)
    assert_close(run(problem, "cuda"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@pytest.mark.parametrize("active", [None, 3])
@pytest.mark.parametrize("groups", [[[0, 3], [1], [4, 2]], [[4, 1, 0], [2, 3]]], ids=str)
def test_groups_of_tasks_agree(groups, active, make, run, assert_close, poisoned, on_a_host) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=17, count=6, tasks=5, hidden=12, groups=groups, masked=True, active=active)
    assert_close(run(problem, "cuda"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


def test_shared_cells_agree(make, run, assert_close, poisoned, on_a_host) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=6, tasks=5, hidden=12, shared=True)
    assert_close(run(problem, "cuda"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


def test_passes_opcheck(make, on_a_host) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=2, tasks=2, hidden=16)
    weights = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in problem.cells.stacked()]
    arguments = (problem.hidden.requires_grad_(), problem.labels.requires_grad_(), problem.orders, None, *weights)
    results = torch.library.opcheck(torch.ops.duchenne_kernels.recurrence_cuda.default, arguments)
    assert set(results.values()) == {"SUCCESS"}


def test_nan_stays_nan(make, run, on_a_host) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=2, tasks=3, hidden=16)
    problem.hidden[1, 4] = float("nan")
    logits = run(problem, "cuda")["logits"]
    assert logits[1].isnan().all()
    assert logits[[0, 2]].isfinite().all()


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
def test_compiles_for_both_architectures_without_spills(tmp_path: Path) -> None:
    done = subprocess.run(library.nvcc_command(tmp_path / "recurrence.so"), capture_output=True, text=True, check=True)
    output = done.stdout + done.stderr
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", output)
    assert len(spills) == 2 * len(library.ARCHITECTURES), output
    assert set(spills) == {("0", "0", "0")}, output
    for code in library.ARCHITECTURES:
        assert f"sm_{code}" in output


def test_shared_memory_of_the_largest_size_fits() -> None:
    backward_bytes = 4 * launch.TILE_ROWS * (7 * launch.MAX_HIDDEN + 8)
    assert backward_bytes <= 163 * 1024  # what sm_80 gives a block


@gpu
@pytest.mark.parametrize("active", [None, 7])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 16), (16, 128, 12, 64), (65, 120, 5, 100), (3, 513, 14, 48)], ids=str)
def test_on_a_gpu_agrees(sizes, active, make, run, assert_close) -> None:  # type: ignore[no-untyped-def]
    problem = make(*sizes, active=active)
    here = type(problem)(
        problem.to(torch.float32).cells.cuda(),
        problem.hidden.cuda(),
        problem.labels.cuda(),
        problem.orders.cuda(),
        None,
        None if problem.active is None else problem.active.cuda(),
    )
    found = {name: value.cpu() for name, value in run(here, "cuda").items()}
    assert_close(found, run(problem.to(torch.float64), "cpu"), FP32_BOUND)
