"""Compiles the C++ kernels. Needs the standard library alone: the wheel's build hook loads this file by its path."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("recurrence.cpp")
X86 = ("x86_64", "amd64")


@dataclass(frozen=True)
class Variant:
    """One build of the source: the file's suffix, the compiler's target, and the torch capability that it needs."""

    name: str
    flags: tuple[str, ...]
    capabilities: tuple[str, ...]  # values of torch.backends.cpu.get_cpu_capability() that can run it

    @property
    def file(self) -> str:
        """The library's file name."""
        return f"recurrence_{self.name}.so"


def variants() -> tuple[Variant, ...]:
    """The builds for this kind of processor, best first."""
    if platform.machine().lower() in X86:
        return (
            Variant("avx512", ("-march=x86-64-v4",), ("AVX512",)),
            Variant("avx2", ("-march=x86-64-v3",), ("AVX2", "AVX512")),
        )
    return (Variant(platform.machine().lower(), (), ("DEFAULT", "NEON", "SVE128", "SVE256")),)


def build(compiler: str = "g++", folder: Path = SOURCE.parent) -> list[Path]:
    """Compiles every variant for this kind of processor into `folder`.

    Raises:
        FileNotFoundError: `compiler` isn't installed.
        subprocess.CalledProcessError: it refused the source; its message is in `stderr`.
    """
    made = []
    for variant in variants():
        target = folder / variant.file
        fresh = target.with_suffix(".new")  # a running process keeps the file that it has mapped
        flags = ("-O3", "-std=c++17", "-fno-math-errno", "-ffp-contract=fast", "-shared", "-fPIC", *variant.flags)
        command = [compiler, *flags, "-o", str(fresh), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - the user's own compiler
        fresh.replace(target)
        made.append(target)
    return made
