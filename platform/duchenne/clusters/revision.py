"""Which code runs: the git revision of a checkout, or the one that an image or a shipped working tree says."""

from __future__ import annotations

import subprocess
from pathlib import Path

REVISION_VARIABLE = "DUCHENNE_REVISION"  # of the Dockerfile, and of a job that carries a working tree


def revision_of(root: Path) -> str:
    """The git revision of a checkout, `-dirty` if it was changed; `unknown` where git knows none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603

    revision = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return revision + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
