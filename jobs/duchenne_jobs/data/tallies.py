"""What this process counts of its data: faces given out, waits for them, the cache, S3. Plain numbers, never reset.

A count is one addition a batch, a shard or a request, so nothing asks whether anybody looks. Processes of a
`DataLoader` have tallies of their own, which nobody reads.
"""

from __future__ import annotations

import threading
from typing import Final, Literal, TypeAlias, get_args

STALL_SECONDS: Final = 1.0
"""A step that waits longer than this for its batch was stalled."""

Tally: TypeAlias = Literal[
    "images",
    "wait_seconds",
    "stalls",
    "cache_hits",
    "cache_misses",
    "s3_attempts",
    "s3_denied",
    "s3_server",
    "s3_connection",
    "s3_other",
]
TALLIES: Final[tuple[Tally, ...]] = get_args(Tally)


class Tallies:
    """Sums by name; threads may add at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[Tally, float] = dict.fromkeys(TALLIES, 0.0)

    def add(self, name: Tally, amount: float = 1.0) -> None:
        """Count `amount` more."""
        with self._lock:
            self._sums[name] += amount

    def batch(self, images: int, waited: float) -> None:
        """A batch of `images` faces was given out, `waited` seconds after it was asked for."""
        with self._lock:
            self._sums["images"] += images
            self._sums["wait_seconds"] += waited
            self._sums["stalls"] += waited > STALL_SECONDS

    def read(self) -> dict[Tally, float]:
        """The sums at this moment."""
        with self._lock:
            return dict(self._sums)


HERE: Final = Tallies()
"""Those of this process."""
