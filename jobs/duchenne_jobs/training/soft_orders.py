"""The soft order matrices of one evaluation, epoch by epoch, for the figures: a JSON line an epoch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from duchenne_jobs.training.job import FoldJob


def soft_orders_path(job: FoldJob) -> Path:
    """One JSON line an epoch: its number, and `OrderSummary.record`."""
    return Path(job.folder) / "soft_orders" / f"{job.key.slug}.jsonl"


class SoftOrderLines:
    """Adds an epoch's line at a time, so that an epoch costs its own line, not all before it.

    Args:
        path: the file.
        start: epochs done before this segment. The first line added takes the place of what stands after them: of a
            run that went further and was lost, or of a line that was cut when its process died.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._start = start
        self._is_trimmed = False

    def add(self, epoch: int, record: dict[str, Any]) -> None:
        """Keep the orders after `epoch`."""
        if not self._is_trimmed:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _trim(self._path, self._start)
            self._is_trimmed = True
        with self._path.open("a") as file:
            file.write(json.dumps({"epoch": epoch} | record) + "\n")


def _trim(path: Path, last: int) -> None:
    """Leave the whole lines up to epoch `last`."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["epoch"] > last:
            break
        kept.append(line)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text("".join(kept))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
