"""The version of a build, from git's tags; hatchling evaluates `version()` (`tool.hatch.version` in pyproject.toml).

A tag `v1.2.3` is 1.2.3, and the n-th commit after it 1.2.4.devN: no local part, which neither an image's tag nor a
Kubernetes label could hold. The revision is on record beside it (`duchenne.driver.prepare.code_revision`). An sdist
keeps its version in PKG-INFO, and `DUCHENNE_VERSION` names that of a tree without history, as an image is built from.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

FALLBACK = "0.1.0.dev0"  # where no tag is in reach: a shallow clone, an archive
VARIABLE = "DUCHENNE_VERSION"
DESCRIBED = re.compile(r"v(\d+\.\d+\.)(\d+)-(\d+)-g[0-9a-f]+(-dirty)?")
RELEASES = ("--match", "v[0-9]*.[0-9]*.[0-9]*", "--exclude", "v*[a-z]*")  # `v1.2.0rc1` is passed over
DESCRIBE = ("git", "describe", "--tags", "--long", "--dirty", *RELEASES)


def version(root: Path = Path(__file__).parents[1]) -> str:
    """What is built from the tree at `root`."""
    return os.environ.get(VARIABLE, "").strip().removeprefix("v") or (_described(root) or FALLBACK)


def _described(root: Path) -> str | None:
    """By the newest tag that the tree descends from; None without one, or without a history of its own."""
    if not (root / ".git").exists():  # git would go on to ask the folders above
        return None
    try:
        said = subprocess.run(DESCRIBE, cwd=root, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    parts = DESCRIBED.fullmatch(said)
    if parts is None:
        return None
    series, patch, commits, dirty = parts.groups()
    return f"{series}{patch}" if commits == "0" and not dirty else f"{series}{int(patch) + 1}.dev{commits}"
