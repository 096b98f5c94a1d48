"""The compiled kernels are optional: built by a command, never at import; the package needs torch alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from duchenne_kernels import cpu_kernels
from duchenne_kernels.recurrence.native import compiler, library

BUILD = [sys.executable, "-m", "duchenne_kernels.build"]


@pytest.mark.parametrize("flags", [["--compiler"], ["--cuda", "--nvcc"]])
def test_a_missing_compiler_is_one_line(flags: list[str]) -> None:
    done = subprocess.run([*BUILD, *flags, "no-such-compiler"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "no compiler 'no-such-compiler' found; the other kernels stay in use\n"
    assert done.stdout == ""


def test_a_compiler_that_refuses_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken-compiler"
    broken.write_text("#!/bin/sh\necho no vector extensions >&2\nexit 3\n")
    broken.chmod(0o755)
    done = subprocess.run([*BUILD, "--compiler", str(broken)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{broken} failed: no vector extensions\n"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_every_variant_compiles_without_a_warning(tmp_path: Path) -> None:
    for variant in compiler.variants():
        flags = ["-O3", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *variant.flags]
        command = ["g++", *flags, "-o", str(tmp_path / variant.name), str(compiler.SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_without_the_library_the_reason_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library.load.cache_clear()
    try:
        assert cpu_kernels() == "plain PyTorch: not built; run `python -m duchenne_kernels.build`"
    finally:
        library.load.cache_clear()


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variant in compiler.variants():
        (tmp_path / variant.file).write_text("no library")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library.load.cache_clear()
    try:
        assert re.fullmatch(r"plain PyTorch: recurrence_\w+\.so can't be loaded \(.*\); run .*", cpu_kernels())
    finally:
        library.load.cache_clear()


def test_imports_and_runs_with_torch_alone() -> None:
    """In a process where Triton and numpy can't be imported, and no compiler is on the path."""
    program = """
import sys
sys.modules["triton"] = None
sys.modules["numpy"] = None
import torch
from duchenne_kernels import GRUCells, explain, order_log_likelihood
cells, hidden, orders = GRUCells(3, 4), torch.randn(2, 4), torch.tensor([[0, 1, 2], [2, 0, 1]])
order_log_likelihood(hidden, torch.ones(2, 3), orders, cells, active=torch.tensor([[0], [1]])).sum().backward()
print(explain(hidden, orders, cells)["triton"])
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    source = str(Path(compiler.SOURCE).parents[3])
    environment = {"PATH": "", "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "triton: triton isn't installed\n", done.stderr
