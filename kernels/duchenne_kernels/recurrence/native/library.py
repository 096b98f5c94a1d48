"""Finds the compiled library for this processor, and the OpenMP pool that torch itself uses."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("recurrence.cpp")
X86 = ("x86_64", "amd64")


@dataclass(frozen=True)
class Variant:
    """One build of the source: the file's suffix, the compiler's target, and the torch capability that it needs."""

    name: str
    flags: tuple[str, ...]
    capabilities: tuple[str, ...]  # values of torch.backends.cpu.get_cpu_capability() that can run it


def variants() -> tuple[Variant, ...]:
    """The builds for this kind of processor, best first."""
    if platform.machine().lower() in X86:
        return (
            Variant("avx512", ("-march=x86-64-v4",), ("AVX512",)),
            Variant("avx2", ("-march=x86-64-v3",), ("AVX2", "AVX512")),
        )
    return (Variant(platform.machine().lower(), (), ("DEFAULT", "NEON", "SVE128", "SVE256")),)


def library_path(variant: Variant) -> Path:
    """Where the build of `variant` lies, beside the source."""
    return SOURCE.with_name(f"recurrence_{variant.name}.so")


def build(compiler: str = "g++") -> list[Path]:
    """Compiles every variant for this kind of processor.

    Raises:
        FileNotFoundError: `compiler` isn't installed.
        subprocess.CalledProcessError: it refused the source; its message is in `stderr`.
    """
    made = []
    for variant in variants():
        target = library_path(variant)
        fresh = target.with_suffix(".new")  # a running process keeps the file that it has mapped
        flags = ("-O3", "-std=c++17", "-fno-math-errno", "-ffp-contract=fast", "-shared", "-fPIC", *variant.flags)
        command = [compiler, *flags, "-o", str(fresh), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - the user's own compiler
        fresh.replace(target)
        made.append(target)
    return made


class Problem(ctypes.Structure):
    """The C struct of the same name; the fields and their order are those of recurrence.cpp."""

    SIZES = ("batch", "hidden", "padded", "slots", "cells", "depth", "per_row", "threads")
    PLAN = (
        "offsets",
        "parent",
        "fed",
        "example",
        "group_offsets",
        "groups",
        "start_offsets",
        "child_start",
        "child_row",
    )
    INPUTS = ("initial", "labels", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_out", "bias_out")
    OUTPUTS = ("logits", "states", "grad_logits", "grad_initial", "grad_inputs", "grad_weight_ih", "grad_weight_hh")
    MORE = ("grad_bias_ih", "grad_bias_hh", "grad_weight_out", "grad_bias_out", "packed", "sums", "level_grads")
    POOL = ("parallel", "barrier", "thread_num", "num_threads")
    _fields_ = [
        *[(name, ctypes.c_int64) for name in SIZES],
        *[(name, ctypes.c_void_p) for name in (*PLAN, *INPUTS, *OUTPUTS, *MORE)],
        ("level_stride", ctypes.c_int64),
        *[(name, ctypes.c_void_p) for name in POOL],
    ]


@dataclass(frozen=True)
class Library:
    """The loaded functions, and the addresses of OpenMP's (empty: one thread)."""

    functions: ctypes.CDLL
    variant: str
    lanes: int
    pool: dict[str, int]


@cache
def load() -> Library | str:
    """The library for this processor, or a sentence that says why there is none."""
    capability = torch.backends.cpu.get_cpu_capability()
    fitting = [variant for variant in variants() if capability in variant.capabilities]
    built = [variant for variant in fitting if library_path(variant).exists()]
    if not fitting:
        return f"no build for a processor of capability {capability}"
    if not built:
        return "not built; run `python -m duchenne_kernels.build`"
    functions = ctypes.CDLL(str(library_path(built[0])))
    for name in ("lanes", "problem_bytes", "packed_floats", "forward_floats", "backward_floats"):
        getattr(functions, f"duchenne_{name}").restype = ctypes.c_int64
    functions.duchenne_forward.restype = None
    functions.duchenne_backward.restype = None
    if functions.duchenne_problem_bytes() != ctypes.sizeof(Problem):
        return f"{library_path(built[0]).name} is of another version; run `python -m duchenne_kernels.build`"
    return Library(functions, built[0].name, functions.duchenne_lanes(), _openmp())


def _openmp() -> dict[str, int]:
    """Addresses of the OpenMP library that torch brought along: a second pool would fight torch's for the cores."""
    folder = Path(torch.__file__).parent / "lib"
    for path in sorted([*folder.glob("libgomp*.so*"), *folder.glob("libomp*"), *folder.glob("libiomp5*")]):
        library = ctypes.CDLL(str(path))
        names = {
            "parallel": "GOMP_parallel",
            "barrier": "GOMP_barrier",
            "thread_num": "omp_get_thread_num",
            "num_threads": "omp_get_num_threads",
        }
        if all(hasattr(library, symbol) for symbol in names.values()):
            return {
                field: ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value or 0
                for field, symbol in names.items()
            }
    return {}
