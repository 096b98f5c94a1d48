"""Sweeps that are running on record and nowhere else: a driver that was killed could not write down that it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from duchenne.records import RecordStore

LOGGER = logging.getLogger("duchenne.server")
PATIENCE_SECONDS = 600.0
"""How long a sweep may be without a driver before it counts as failed: a retry builds a new cluster first."""


class Abandoned:
    """Ends them: at once where a stop was asked for, else after `PATIENCE_SECONDS` without a driver.

    The time counts from the first look of this process: after an outage of the database every lock is old, and drivers
    need a moment to renew theirs.
    """

    def __init__(self, store: RecordStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._since: dict[str, float] = {}

    def look(self) -> list[str]:
        """Look once; the ids of the sweeps that were ended."""
        now, found = self._clock(), self._store.undriven_sweeps()
        self._since = {sweep.id: self._since.get(sweep.id, now) for sweep in found}
        due = [sweep.id for sweep in found if sweep.stop_requested or now - self._since[sweep.id] >= PATIENCE_SECONDS]
        for sweep in due:
            ended = self._store.end_undriven(sweep, actor="duchenne serve")
            self._store.ledger.expire(sweep=sweep)
            LOGGER.warning("sweep %s had no driver any more; it is %s now", sweep, ended.state)
        return due
