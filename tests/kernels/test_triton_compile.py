"""Compiles the Triton kernels ahead of time for sm_80 and sm_90, without a GPU: no spills, bounded shared memory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton isn't installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter has replaced the compiler", allow_module_level=True)

from triton.backends import nvidia  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from duchenne_kernels.recurrence.triton import kernels, launch  # noqa: E402

PTXAS = Path(nvidia.__file__).parent / "bin" / "ptxas"
SHARED_BOUND = 64 * 1024  # two programs or more on a multiprocessor: 164 KiB on sm_80, 228 KiB on sm_90
INDICES = dict.fromkeys(("orders", "positions", "slots"), "*i64")
INDICES |= dict.fromkeys(("steps", "tasks", "rows", "tiles", "tiles_each"), "i32")
INDICES |= dict.fromkeys(("tile_order", "tile_start", "tile_count", "example", "column"), "*i32")
SUMS = ("states", "grad_gates", "grad_hidden", "grad_fed", "sums")
SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16"}
# (H, W, dtype of the weights, compute capability)
CASES = [(size, 1, dtype, capability) for size in (64, 128) for dtype in SHORT for capability in (80, 90)]
CASES += [(16, 1, torch.float32, 80), (32, 1, torch.float32, 90), (20, 4, torch.bfloat16, 90)]
CASES += [(48, 1, torch.float32, 90), (48, 6, torch.float32, 80), (48, 3, torch.bfloat16, 90)]
CASES += [(100, 3, torch.float32, 90), (100, 3, torch.bfloat16, 80)]


def signature(names: list[str], weights: str) -> dict[str, str]:
    constants = dict.fromkeys(("H", "P", "K", "B", "W", "R", "PRECISION"), "constexpr")
    known = INDICES | dict.fromkeys(SUMS, "*fp32") | constants
    return {name: known.get(name, f"*{weights}") for name in names}


@pytest.mark.skipif(not PTXAS.exists(), reason="this triton brings no ptxas")
@pytest.mark.parametrize("name", ["forward_kernel", "backward_kernel", "matrix_kernel", "vector_kernel"])
@pytest.mark.parametrize(("size", "width", "weights", "capability"), CASES, ids=str)
def test_compiles_without_spills(
    size: int, width: int, weights: torch.dtype, capability: int, name: str, tmp_path: Path
) -> None:
    kernel = getattr(kernels, name)
    pinned = launch.pinned(size, weights)
    sizes = {"H": size, "P": pinned.padded, "K": pinned.depth, "B": min(pinned.padded, launch.MAX_BLOCK), "W": width}
    sizes |= {"R": launch.TILE_ROWS, "PRECISION": "ieee"}
    constants = {argument: value for argument, value in sizes.items() if argument in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature(kernel.arg_names, SHORT[weights]), constexprs=constants)
    options = {"num_warps": pinned.warps, "num_stages": pinned.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.metadata.shared <= SHARED_BOUND
    if name in ("forward_kernel", "backward_kernel"):
        # Where products read rows back that other threads have written; the interpreter wouldn't miss the barrier.
        assert ("ttg.barrier" in compiled.asm["ttgir"]) == (pinned.depth < pinned.padded)

    code = tmp_path / "kernel.ptx"
    code.write_text(compiled.asm["ptx"])
    target = re.search(r"\.target (\w+)", compiled.asm["ptx"])
    assert target is not None
    command = [str(PTXAS), "-v", f"--gpu-name={target[1]}", str(code), "-o", str(tmp_path / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert spills is not None, done.stderr
    assert spills.groups() == ("0", "0"), done.stderr
