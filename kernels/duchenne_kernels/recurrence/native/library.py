"""Finds the compiled library for this processor, and the OpenMP pool that torch itself uses."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from duchenne_kernels.recurrence.native.compiler import variants

FOLDER = Path(__file__).parent


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
    built = [variant for variant in fitting if (FOLDER / variant.file).exists()]
    if not fitting:
        return f"no build for a processor of capability {capability}"
    if not built:
        return "not built; run `python -m duchenne_kernels.build`"
    try:
        functions = ctypes.CDLL(str(FOLDER / built[0].file))
    except OSError as error:
        return f"{built[0].file} can't be loaded ({error}); run `python -m duchenne_kernels.build`"
    for name in ("lanes", "problem_bytes", "packed_floats", "forward_floats", "backward_floats"):
        getattr(functions, f"duchenne_{name}").restype = ctypes.c_int64
    functions.duchenne_forward.restype = None
    functions.duchenne_backward.restype = None
    if functions.duchenne_problem_bytes() != ctypes.sizeof(Problem):
        return f"{built[0].file} is of another version; run `python -m duchenne_kernels.build`"
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
