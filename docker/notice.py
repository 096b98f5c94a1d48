"""NOTICE: what is installed beside Duchenne, under which licences, and what copyleft among them means.

    python docker/notice.py > NOTICE       (`make notice`)

Reads the names and versions of `requirements-runtime.lock`, which is what the image holds, and the metadata of the
packages that are installed here. Refuses a licence that it does not know or that Apache-2.0 can't go with.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements-runtime.lock"

PERMISSIVE = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "LLVM-exception", "MIT", "MIT-0",
    "MIT-CMU", "PSF-2.0", "Zlib",
})  # fmt: skip
PROPRIETARY = frozenset({"LicenseRef-NVIDIA-Proprietary"})
# Of single files, or of a library that is loaded: a program under Apache-2.0 may use it.
COPYLEFT = frozenset({"LGPL-3.0-only", "MPL-2.0"})
NAMED = {
    # How metadata that is no SPDX expression names a licence; "BSD" alone is the three-clause one in the packages here.
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache-2.0 License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "Python Software Foundation License": "PSF-2.0",
}
# The metadata says nothing, or less than the licence file.
STATED = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
}
# Libraries under copyleft that a wheel may carry in binary form, which its own metadata does not tell.
CARRIED = {
    "libasound": "LGPL-2.1-or-later",
    "libavcodec": "LGPL-2.1-or-later",
    "libcrypt": "LGPL-2.1-or-later",
    "libgfortran": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libgmp": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libgnutls": "LGPL-2.1-or-later",
    "libgomp": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libkeyutils": "LGPL-2.1-or-later",
    "libmp3lame": "LGPL-2.0-or-later",
    "libnettle": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libquadmath": "LGPL-2.1-or-later",
    "libunistring": "LGPL-3.0-or-later OR GPL-2.0-or-later",
    "libx264": "GPL-2.0-or-later",
    "libx265": "GPL-2.0-or-later",
}
HEAD = """\
Duchenne
Copyright 2026 The Duchenne authors
Licensed under the Apache License, Version 2.0: see LICENSE.

Neither this source tree nor the wheel made of it contains any package named below: pip installs them, each under its
own licence, whose text lies in its .dist-info folder. The image that `Dockerfile` builds does contain them, and whoever
hands an image on must keep to them all. Made by `make notice` from the installed metadata of requirements-runtime.lock.
"""
MEANING = """\
Copyleft, and what it means

MPL-2.0 covers single files: changed ones must be offered under MPL-2.0. Duchenne changes none.
LGPL covers a library: whoever hands it on offers its source and lets it be replaced. Python loads psycopg as any
module, and pip replaces it; an application under Apache-2.0 may use it.
GPL with the GCC exception: the run-time libraries of gfortran and OpenMP bind nothing that is compiled with GCC.
GPL-2.0-or-later: the wheel of `av` carries FFmpeg with x264 and x265, so that FFmpeg is under the GPL there. Apache-2.0
goes with version 3 of the GPL. Using it binds to nothing; an image with that wheel is handed on under GPL-3.0 as a
whole, with an offer of the sources of these libraries. `pip install --no-binary av av` against an FFmpeg without them
avoids it.
LicenseRef-NVIDIA-Proprietary: NVIDIA's CUDA licences let their libraries be handed on with an application. An image of
`--build-arg ACCELERATOR=cpu` holds none of them.
"""


class LicenceError(ValueError):
    """A package whose licence is not known, or can't go with ours."""


def licence_of(package: Distribution) -> str:
    """The SPDX expression of a package: stated here, its own, or by what its metadata calls it."""
    name, metadata = package.metadata["Name"].lower(), package.metadata
    said = metadata.get("License-Expression") or metadata.get("License") or ""
    lines = metadata.get_all("Classifier", [])
    classifiers = [line.split(" :: ")[-1] for line in lines if line.startswith("License ::")]
    # A `License` of several lines is the text itself; then the classifier names it.
    candidates = [STATED.get(name, ""), "" if "\n" in said else said, *classifiers]
    for candidate in filter(None, candidates):
        expression = NAMED.get(candidate.split(" (")[0], candidate)
        if unknown(expression) == set():
            return expression
    seen = ", ".join(filter(None, candidates)) or "nowhere"
    raise LicenceError(
        f"{name}: the licence must be known and go with Apache-2.0, but it is {seen}; "
        "read its licence file, then state it in docker/notice.py or drop the package"
    )


def unknown(expression: str) -> set[str]:
    """The licences of an SPDX expression that are on none of the lists."""
    names = set(re.split(r"\s+(?:AND|OR|WITH)\s+|[()]", expression)) - {""}
    return names - PERMISSIVE - COPYLEFT - PROPRIETARY


def carried_by(package: Distribution) -> dict[str, str]:
    """Library -> licence, of the copyleft libraries in a package's files."""
    files = [file.name for file in package.files or () if ".so" in file.name]
    return {lib: licence for lib, licence in CARRIED.items() if any(re.match(rf"{lib}[-.]", name) for name in files)}


def notice(lock: Path = LOCK) -> str:
    """The whole file.

    Raises:
        LicenceError: a licence that is not known or not compatible, or another version installed than locked.
    """
    lines = [line.split("==") for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    packages = []
    for name, version in lines:
        found = distribution(name)
        if found.version.split("+")[0] != version:
            raise LicenceError(f"{name}: {version} is locked, but {found.version} is installed; run `make install`")
        packages.append((name, version, licence_of(found), carried_by(found)))
    width = max(len(f"{name} {version}") for name, version, _, _ in packages)
    rows = {name: f"{f'{name} {version}':{width}}  {licence}" for name, version, licence, _ in packages}
    copyleft = [rows[name] for name, _, licence, _ in packages if COPYLEFT & set(licence.split())]
    inside = [f"{name}: {lib} ({licence})" for name, _, _, libs in packages for lib, licence in libs.items()]
    sections = [
        HEAD,
        MEANING,
        *copyleft,
        "",
        "Inside binary wheels",
        "",
        *inside,
        "",
        "All packages",
        "",
        *rows.values(),
    ]
    return "\n".join([*sections, ""])


if __name__ == "__main__":
    sys.stdout.write(notice())
