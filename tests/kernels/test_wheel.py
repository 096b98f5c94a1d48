"""The wheel: with the compiled CPU kernels where there is a compiler, pure where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from duchenne_kernels.recurrence.native import compiler

pytest.importorskip("hatchling", reason="hatchling isn't installed")

ROOT = Path(__file__).parents[2]


def build(target: Path, **environment: str) -> tuple[Path, str]:
    """The wheel of this source tree, without a network, and what the build said."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
    (wheel,) = target.glob("*.whl")
    return wheel, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_an_installed_wheel_uses_its_compiled_kernels(tmp_path: Path, compiled_kernels) -> None:  # type: ignore[no-untyped-def]
    wheel, _said = build(tmp_path / "dist", CXX="g++")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/WHEEL")]
        assert "Root-Is-Purelib: false" in archive.read(metadata).decode()
    for variant in compiler.variants():
        assert names.count(f"duchenne_kernels/recurrence/native/{variant.file}") == 1

    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    program = "import duchenne_kernels as k; print(k.__file__, k.cpu_kernels(), sep='\\n')"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    file, kernels = done.stdout.splitlines()
    assert Path(file).is_relative_to(site)
    assert kernels == f"compiled ({compiled_kernels.variant})"


def test_without_a_compiler_the_wheel_is_pure_and_says_so(tmp_path: Path) -> None:
    wheel, said = build(tmp_path, CXX="no-such-compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "no C++ compiler 'no-such-compiler': a pure wheel" in said
    assert not [name for name in ZipFile(wheel).namelist() if name.endswith(".so")]
