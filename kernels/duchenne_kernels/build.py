"""`python -m duchenne_kernels.build`: compiles the C++ kernels ahead of time. Optional; nothing compiles at import."""

from __future__ import annotations

import argparse
import subprocess
import sys

from duchenne_kernels.recurrence.native.library import build


def main() -> int:
    """Compiles and names the files; exit code 1 with one line when there is no compiler or it refuses."""
    parser = argparse.ArgumentParser(prog="python -m duchenne_kernels.build", description=__doc__)
    parser.add_argument("--compiler", default="g++", help="C++17 compiler with GNU vector extensions (g++ or clang++)")
    compiler = parser.parse_args().compiler
    try:
        for path in build(compiler):
            sys.stdout.write(f"{path}\n")
    except FileNotFoundError:
        sys.stderr.write(f"no compiler {compiler!r} found; the plain PyTorch kernels stay in use\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{compiler} failed: {error.stderr.strip()}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
