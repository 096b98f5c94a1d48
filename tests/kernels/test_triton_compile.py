"""Compiles the Triton kernels ahead of time for sm_80 and sm_90, without a GPU: no spills, bounded shared memory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton isn't installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter has replaced the compiler", allow_module_level=True)

from triton.backends import nvidia  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from duchenne_kernels.recurrence.triton import kernels, launch  # noqa: E402

PTXAS = Path(nvidia.__file__).parent / "bin" / "ptxas"
SHARED_BOUND = 64 * 1024  # two programs or more on a multiprocessor: 164 KiB on sm_80, 228 KiB on sm_90
INDICES = {"orders": "*i64", "positions": "*i64", "steps": "i32", "rows": "i32", "tiles": "i32", "tiles_each": "i32"}
INDICES |= dict.fromkeys(("tile_order", "tile_start", "tile_count", "example", "column"), "*i32")
SUMS = ("states", "grad_gates", "grad_hidden", "grad_fed", "sum_weight", "sum_vector")
CASES = [(64, weights, capability) for weights in ("fp32", "bf16") for capability in (80, 90)]
CASES += [(16, "fp32", 80), (32, "fp32", 90)]


def signature(names: list[str], weights: str) -> dict[str, str]:
    constants = dict.fromkeys(("H", "P", "R", "PRECISION"), "constexpr")
    known = INDICES | dict.fromkeys(SUMS, "*fp32") | constants
    return {name: known.get(name, f"*{weights}") for name in names}


@pytest.mark.skipif(not PTXAS.exists(), reason="this triton brings no ptxas")
@pytest.mark.parametrize("name", ["forward_kernel", "backward_kernel", "weight_kernel"])
@pytest.mark.parametrize(("size", "weights", "capability"), CASES)
def test_compiles_without_spills(size: int, weights: str, capability: int, name: str, tmp_path: Path) -> None:
    kernel = getattr(kernels, name)
    constants = {"H": size, "P": launch.padded(size), "R": launch.BLOCK, "PRECISION": "ieee"}
    source = ASTSource(fn=kernel, signature=signature(kernel.arg_names, weights), constexprs=constants)
    pinned = launch.PINNED[launch.padded(size)]
    options = {"num_warps": pinned.warps, "num_stages": pinned.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.metadata.shared <= SHARED_BOUND

    code = tmp_path / "kernel.ptx"
    code.write_text(compiled.asm["ptx"])
    target = re.search(r"\.target (\w+)", compiled.asm["ptx"])
    assert target is not None
    command = [str(PTXAS), "-v", f"--gpu-name={target[1]}", str(code), "-o", str(tmp_path / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert spills is not None, done.stderr
    assert spills.groups() == ("0", "0"), done.stderr
