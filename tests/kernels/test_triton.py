"""The Triton backend: in its interpreter, and on a GPU.

The switch is read when kernels are defined, so the interpreter gets a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duchenne_kernels import explain

pytest.importorskip("triton", reason="triton isn't installed")

from duchenne_kernels.recurrence.tiled import active_orders, all_orders

INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
interpreter = pytest.mark.skipif(not INTERPRETING, reason="run by test_in_the_interpreter, with TRITON_INTERPRET=1")
gpu = pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETING, reason="no GPU here")
FP32_BOUND, BF16_BOUND = 1e-5, 1e-2
# (B, M, T, H)
SIZES = [
    *[(1, 1, 1, 16), (3, 3, 2, 48), (17, 1, 5, 64), (65, 1, 2, 16), (2, 3, 3, 33), (17, 1, 2, 100)],
    *[(1, 1, 14, 16), (1, 120, 1, 16)],
]
DRAWN = 4  # the interpreter takes seconds for one of them
GPU_SIZES = [*SIZES, (16, 128, 12, 64), (64, 120, 5, 64), (3, 513, 14, 48), (65, 120, 5, 100)]
GROUPS = [[0, 3], [1], [4, 2]]


@pytest.mark.skipif(INTERPRETING, reason="the interpreter runs already")
def test_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-k", "interpreted", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SIZES) + 11} passed" in done.stdout


@interpreter
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_interpreted_agrees(sizes, make, run, assert_close, poisoned) -> None:  # type: ignore[no-untyped-def]
    problem = make(*sizes, masked=True)
    assert_close(run(problem, "triton"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@interpreter
@given(
    batch=st.sampled_from([1, 3, 17]),
    count=st.integers(1, 2),
    tasks=st.sampled_from([1, 2, 5]),
    hidden=st.sampled_from([16, 48, 64, 100]),
    active=st.one_of(st.none(), st.integers(1, 3)),
    masked=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(
    max_examples=DRAWN, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_interpreted_agrees_whatever_the_sizes(make, run, assert_close, poisoned, **drawn) -> None:  # type: ignore[no-untyped-def]
    problem = make(**drawn)
    assert_close(run(problem, "triton"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@interpreter
@pytest.mark.parametrize(("count", "active"), [(4, 3), (2, 5)])
def test_interpreted_subsets_agree(count: int, active: int, make, run, assert_close, poisoned) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=9, count=count, tasks=2, hidden=16, active=active)
    assert_close(run(problem, "triton"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@interpreter
@pytest.mark.parametrize(("hidden", "active"), [(12, 3), (70, None)])
def test_interpreted_groups_agree(hidden: int, active: int | None, make, run, assert_close, poisoned) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=2, tasks=5, hidden=hidden, groups=GROUPS, masked=True, active=active)
    assert_close(run(problem, "triton"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@interpreter
def test_interpreted_shared_cells_agree(make, run, assert_close, poisoned) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=2, tasks=3, hidden=16, shared=True)
    assert_close(run(problem, "triton"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@interpreter
def test_interpreted_bfloat16_weights_keep_a_float32_state(make, run, assert_close) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=5, count=2, tasks=3, hidden=32, dtype=torch.bfloat16)
    found, wanted = run(problem, "triton"), run(problem.to(torch.float64), "reference")
    assert_close(found, wanted, BF16_BOUND)


@interpreter
def test_interpreted_nan_stays_nan(make, run) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=2, tasks=3, hidden=16)
    problem.hidden[1, 4] = float("nan")
    logits = run(problem, "triton")["logits"]
    assert logits[1].isnan().all()
    assert logits[[0, 2]].isfinite().all()


@interpreter
def test_interpreted_passes_opcheck(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=2, tasks=2, hidden=16)
    weights = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in problem.cells.stacked()]
    arguments = (problem.hidden.requires_grad_(), problem.labels.requires_grad_(), problem.orders, None, *weights)
    results = torch.library.opcheck(torch.ops.duchenne_kernels.recurrence_triton.default, arguments)
    assert set(results.values()) == {"SUCCESS"}


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("active", [None, 7])
@pytest.mark.parametrize("sizes", GPU_SIZES, ids=str)
def test_on_a_gpu_agrees(sizes, active, dtype, make, run, assert_close) -> None:  # type: ignore[no-untyped-def]
    problem = make(*sizes, active=active, dtype=dtype)
    here = type(problem)(
        problem.to(dtype).cells.cuda(),
        problem.hidden.cuda(),
        problem.labels.cuda(),
        problem.orders.cuda(),
        None,
        None if problem.active is None else problem.active.cuda(),
    )
    found = {name: value.cpu() for name, value in run(here, "triton").items()}
    bound = FP32_BOUND if dtype == torch.float32 else BF16_BOUND
    assert_close(found, run(problem.to(torch.float64), "cpu"), bound)


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (16, 3), (17, 2), (40, 5)])
def test_tiles_cover_every_row_once(batch: int, count: int) -> None:
    tiles = all_orders(batch, count, 16, torch.device("cpu"))
    seen = _rows(tiles)
    assert sorted(seen) == [(m, b, b * count + m) for m in range(count) for b in range(batch)]


@pytest.mark.parametrize(("batch", "count", "kept"), [(1, 1, 1), (20, 3, 2), (33, 40, 5), (4, 2, 30)])
def test_active_tiles_cover_every_row_once(batch: int, count: int, kept: int) -> None:
    active = torch.randint(0, count, (batch, kept), generator=torch.Generator().manual_seed(0))
    tiles = active_orders(active, count, 16)
    wanted = [(int(active[b, k]), b, b * kept + k) for b in range(batch) for k in range(kept)]
    assert sorted(_rows(tiles)) == sorted(wanted)
    assert int(tiles.count.max()) <= 16


def _rows(tiles) -> list[tuple[int, int, int]]:  # type: ignore[no-untyped-def]
    """(order, example, column) of every row that a program would touch."""
    return [
        (int(order), int(tiles.example[row]), int(tiles.column[row]))
        for order, start, count in zip(tiles.order, tiles.start, tiles.count, strict=True)
        for row in range(int(start), int(start) + int(count))
    ]


def test_explain_names_what_triton_lacks(make) -> None:  # type: ignore[no-untyped-def]
    if not INTERPRETING:
        problem = make()
        reason = explain(problem.hidden, problem.orders, problem.cells)["triton"]
        assert reason == "triton: hidden is on cpu, not on a GPU"


@interpreter
@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"hidden": 129}, "triton: hidden size 129 is above 128"),
        ({"dtype": torch.float64}, "triton: computes in float32 or bfloat16, not torch.float64"),
    ],
)
def test_explains_refusals_when_interpreted(sizes, reason: str, make) -> None:  # type: ignore[no-untyped-def]
    problem = make(**sizes)
    assert explain(problem.hidden, problem.orders, problem.cells)["triton"] == reason
