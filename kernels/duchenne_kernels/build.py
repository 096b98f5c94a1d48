"""`python -m duchenne_kernels.build`: compiles the C++ or CUDA kernels. Optional; nothing compiles at import."""

from __future__ import annotations

import argparse
import subprocess
import sys

from duchenne_kernels.recurrence.cuda import library as cuda_library
from duchenne_kernels.recurrence.native import compiler as native_compiler


def main() -> int:
    """Compiles and names the files; exit code 1 with one line when there is no compiler or it refuses."""
    parser = argparse.ArgumentParser(prog="python -m duchenne_kernels.build", description=__doc__)
    parser.add_argument("--compiler", default="g++", help="C++17 compiler with GNU vector extensions (g++ or clang++)")
    parser.add_argument("--cuda", action="store_true", help="compile the CUDA kernels instead, for sm_80 and sm_90")
    parser.add_argument("--nvcc", default="nvcc", help="CUDA compiler")
    options = parser.parse_args()
    compiler = options.nvcc if options.cuda else options.compiler
    try:
        paths = [cuda_library.build(compiler)] if options.cuda else native_compiler.build(compiler)
    except FileNotFoundError:
        sys.stderr.write(f"no compiler {compiler!r} found; the other kernels stay in use\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{compiler} failed: {error.stderr.strip()}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
