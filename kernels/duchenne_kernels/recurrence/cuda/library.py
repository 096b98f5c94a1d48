"""Builds and finds the CUDA library: built ahead of time for sm_80 and sm_90, loaded when first used."""

from __future__ import annotations

import ctypes
import subprocess
from functools import cache
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("recurrence.cu")
LIBRARY = SOURCE.with_name("recurrence.so")
ARCHITECTURES = (80, 90)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def built() -> bool:
    """Whether the library was built."""
    return LIBRARY.exists()


def nvcc_command(target: Path, compiler: str = "nvcc") -> list[str]:
    """The compiler's command line; `-Xptxas -v` reports registers and spills."""
    codes = [f"-gencode=arch=compute_{code},code=sm_{code}" for code in ARCHITECTURES]
    flags = ["-O3", "-std=c++17", "-Xptxas", "-v", "-shared", "-Xcompiler", "-fPIC"]
    return [compiler, *flags, *codes, "-o", str(target), str(SOURCE)]


def build(compiler: str = "nvcc") -> Path:
    """Compiles the library.

    Raises:
        FileNotFoundError: `compiler` isn't installed.
        subprocess.CalledProcessError: it refused the source; its message is in `stderr`.
    """
    fresh = LIBRARY.with_suffix(".new")  # a running process keeps the file that it has mapped
    subprocess.run(nvcc_command(fresh, compiler), check=True, capture_output=True, text=True)  # noqa: S603
    fresh.replace(LIBRARY)
    return LIBRARY


class Problem(ctypes.Structure):
    """The C struct DuchenneProblem; the fields and their order are those of recurrence.cu."""

    SIZES = ("rows", "steps", "tasks", "slots_each", "hidden", "tiles")
    TABLES = ("initial", "fed", "orders", "slots", "tile_order", "tile_start", "tile_count", "example", "column")
    WEIGHTS = ("weight_ih", "weight_hh", "weight_t", "bias_ih", "bias_hh", "weight_out", "bias_out")
    RESULTS = ("logits", "states", "grad_logits", "grad_gates", "grad_hidden", "grad_fed")
    _fields_ = [
        *[(name, ctypes.c_int64) for name in SIZES],
        *[(name, ctypes.c_void_p) for name in (*TABLES, *WEIGHTS, *RESULTS)],
    ]


def open_library(path: Path) -> ctypes.CDLL:
    """Loads a build of recurrence.cu, for a GPU or (tests) for a host.

    Raises:
        OSError: `path` is no library of this version.
    """
    functions = ctypes.CDLL(str(path))
    functions.duchenne_cuda_problem_bytes.restype = ctypes.c_int64
    functions.duchenne_cuda_tile_rows.restype = ctypes.c_int64
    functions.duchenne_cuda_error.restype = ctypes.c_char_p
    for name in ("forward", "backward"):
        getattr(functions, f"duchenne_cuda_{name}").argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    if functions.duchenne_cuda_problem_bytes() != ctypes.sizeof(Problem):
        raise OSError(f"{path.name} is of another version; run `python -m duchenne_kernels.build --cuda`")
    return functions


@cache
def load() -> ctypes.CDLL:
    """The library for the GPU.

    Raises:
        OSError: it isn't built, or of another version.
    """
    return open_library(LIBRARY)
