"""Compiles the C module by which Triton launches kernels: `triton_launcher.py DIR`. The image needs no compiler then.

Triton compiles it on first use, always from the same source. It links against the driver's libcuda, which is there on
a node with a GPU alone: an empty library of that name stands in, and the real one is found at run time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

LIBRARY = "libcuda.so.1"


def main() -> int:
    """Writes cuda_utils.so and the digest of its source; does nothing where there is no Triton."""
    target = Path(sys.argv[1])
    if find_spec("triton") is None:
        sys.stdout.write("no triton: nothing to compile\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        from triton.backends.nvidia import driver
        from triton.runtime.build import compile_so_from_file

        command = ["gcc", "-shared", "-x", "c", os.devnull, f"-Wl,-soname,{LIBRARY}", "-o", f"{folder}/{LIBRARY}"]
        subprocess.run(command, check=True)  # noqa: S603 - our own words
        source = Path(driver.dirname) / "driver.c"
        made = compile_so_from_file(
            str(source),
            "cuda_utils",
            library_dirs=[driver.libdevice_dir, folder],
            include_dirs=driver.include_dirs,
            libraries=driver.libraries,
        )
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, target / "cuda_utils.so")
    (target / "driver.c.sha256").write_text(hashlib.sha256(source.read_bytes()).hexdigest() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
