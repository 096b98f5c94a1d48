"""Hatch's build hook: a wheel ships the compiled CPU kernels where there is a C++ compiler, and is pure otherwise.

`CXX` names the compiler (default: g++). An editable install is left alone: `python -m duchenne_kernels.build` there.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "duchenne_kernels/recurrence/native"


class CompiledKernels(BuildHookInterface[Any]):
    """Compiles into a folder of its own, so that a build leaves the source tree as it was."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the libraries to the wheel and marks it as this platform's; says so when there are none."""
        if version == "editable":
            return
        self._made = tempfile.TemporaryDirectory()
        compiler = os.environ.get("CXX", "g++")
        try:
            libraries = _compiler_module(Path(self.root)).build(compiler, Path(self._made.name))
        except FileNotFoundError:
            self.app.display_warning(f"no C++ compiler {compiler!r}: a pure wheel, whose CPU kernels are slower")
            return
        except subprocess.CalledProcessError as error:
            self.app.display_warning(
                f"{compiler} failed: a pure wheel, whose CPU kernels are slower. {error.stderr.strip()}"
            )
            return
        build_data["force_include"].update({str(path): f"{FOLDER}/{path.name}" for path in libraries})
        build_data["pure_python"] = False
        # The libraries have a C ABI of their own and don't know Python: any version 3 will do.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the folder of the libraries."""
        if version != "editable":
            self._made.cleanup()


def _compiler_module(root: Path) -> ModuleType:
    """`native/compiler.py` alone: its package imports torch, which a build doesn't have."""
    path = root / "kernels" / FOLDER / "compiler.py"
    spec = importlib.util.spec_from_file_location("duchenne_native_compiler", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is missing")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
