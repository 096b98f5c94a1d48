"""The event stream of a live page: the parts that changed, about a second after they did."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from duchenne.records import RecordStore
from duchenne.server.pages.reads import fingerprint
from duchenne.server.pages.sweep_view import ENDED, Asked, Snapshot, draw_parts, take_snapshot
from duchenne.server.problems import Problem

TICK: Final = 0.6
"""Seconds between looks: with the reading and drawing of a large sweep, a change is on the page within two."""

LIFETIME: Final = 300.0
"""Seconds after which a stream ends; the browser asks again, and whether it may look is checked again."""

LISTENERS: Final = 200
KEPT: Final = 64


class Snapshots:
    """Snapshots of sweeps that somebody looks at: one each, taken again when the sweep changed, however many look."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._taken: dict[str, tuple[float, Snapshot]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, sweep: str, within: float = 0.0) -> Snapshot:
        """The sweep as it is now, or as it was at most `within` seconds ago."""
        with self._lock:
            own = self._locks.setdefault(sweep, threading.Lock())
            for oldest in list(self._taken)[:-KEPT]:
                self._taken.pop(oldest, None)
        with own:
            seen, kept = self._taken.get(sweep, (0.0, None))
            if kept is not None and time.monotonic() - seen < within:
                return kept
            asked = time.monotonic()
            if kept is None or kept.mark != fingerprint(self._store, sweep):
                kept = take_snapshot(self._store, sweep)
            self._taken[sweep] = (asked, kept)
            return kept


class Listeners:
    """How many streams are open: each takes a connection, so there is a most. Used in the event loop alone."""

    def __init__(self, most: int = LISTENERS) -> None:
        self._most, self._open = most, 0

    def require_room(self) -> None:
        """Raise a 503 problem where as many streams are open as may be."""
        if self._open >= self._most:
            raise Problem(
                503,
                f"a server streams to {self._most} pages, but as many are open; reload the page instead",
                headers={"Retry-After": "30"},
            )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One more while it lasts."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


async def follow(
    store: RecordStore, snapshots: Snapshots, listeners: Listeners, sweep: str, asked: Asked, seen: str
) -> AsyncIterator[dict[str, str]]:
    """Events `parts` ({part: html}) and, once, `over`.

    Args:
        seen: the mark of what the page shows already.
    """
    with listeners.counted():
        until = time.monotonic() + LIFETIME
        mark, sent = seen, dict[str, Markup]()
        while time.monotonic() < until:
            now = await run_in_threadpool(snapshots.of, sweep, TICK / 2)
            if now.mark != mark or not sent:
                drawn = await run_in_threadpool(draw_parts, store, now, asked)
                fresh = {part: html for part, html in drawn.items() if sent.get(part) != html}
                if now.mark != mark:
                    yield {"event": "parts", "data": json.dumps(fresh)}
                mark, sent = now.mark, drawn
            if now.sweep.state in ENDED:
                yield {"event": "over", "data": now.sweep.state}
                return
            await asyncio.sleep(TICK)
