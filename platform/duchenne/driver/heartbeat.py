"""The driver's pulse: keeps its lock, pays for wall time in advance, and hears when somebody asks it to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from duchenne.plan.leasing import BEAT_SECONDS, TEARDOWN_SECONDS
from duchenne.records import Amounts, Lease, Lock, LockLostError, RecordsError, Refusal, holder_name
from duchenne.records.port import RunRecords

LOGGER = logging.getLogger("duchenne.driver")
LOCK_SECONDS = 60.0
STOP_ASKED = "a stop was asked for"


class BudgetSpent(Exception):  # noqa: N818 - the sweep's end, with a line for the user
    """The budget has no room for another second."""


class Endable(Protocol):
    """What a heartbeat may end: a pool."""

    def end(self, state: str, reason: str) -> None:
        """Grant nothing more; what waits or runs ends as `state`."""
        ...


class Heartbeat:
    """Runs beside the driver for the time of a `with` block, on a thread; on a virtual clock `open`, `check` and
    `close` are called instead.

    Args:
        store: the records; its connections may be shared by threads.
        lock: the driver's lock on the sweep.
        priced: whether the sweep's resources have a price; without one its cost in dollars is unknown, not 0.
        clock: seconds that pass.

    Raises:
        BudgetSpent: on entry, when the wall time is used up already.
    """

    def __init__(
        self, store: RunRecords, lock: Lock, priced: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._lock = lock
        # A driver holds no GPU and is not billed by the second: jobs pay for what they hold.
        self._usd = 0.0 if priced else None
        self._pool: Endable | None = None
        self._clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._started = clock()
        self._paid_seconds = 0.0
        self._lease: Lease | None = None

    def watch(self, pool: Endable) -> None:
        """End this pool when the sweep must end."""
        self._pool = pool

    def open(self) -> None:
        """Pay for the first seconds.

        Raises:
            BudgetSpent: the wall time is used up already.
        """
        self._started = self._clock()
        seconds = BEAT_SECONDS + TEARDOWN_SECONDS
        answer = self._store.ledger.reserve(
            self._lock.sweep, self._amounts(seconds), ttl=LOCK_SECONDS, holder=holder_name(), kind="driver"
        )
        if isinstance(answer, Refusal):
            raise BudgetSpent(f"budget: {answer.reason}")
        self._lease, self._paid_seconds = answer, seconds

    def close(self) -> None:
        """Settle what was paid on what passed."""
        if self._lease is not None:
            self._store.ledger.settle(self._lease.id, self._amounts(self._clock() - self._started))

    def __enter__(self) -> Self:
        self.open()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=30)
        self.close()

    def seconds_left(self, limit: float | None) -> float | None:
        """Wall time until the pool must have ended, with room to write down what came out; None without a limit."""
        if limit is None:
            return None
        spent = self._store.ledger.totals(self._lock.sweep)["spent"].wall_seconds or 0.0
        return limit - spent - (self._clock() - self._started) - TEARDOWN_SECONDS

    def _amounts(self, wall_seconds: float) -> Amounts:
        return Amounts(usd=self._usd, gpu_seconds=0.0, wall_seconds=wall_seconds)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                ending = self.check()
            except LockLostError as error:
                ending = ("stopped", str(error))
            except RecordsError as error:
                # The records may be back at the next beat; if not, the driver's own writes say so.
                LOGGER.warning("heartbeat: %s", error)
                continue
            if ending is not None and self._pool is not None:
                self._pool.end(*ending)
                return

    def check(self) -> tuple[str, str] | None:
        """One beat: renew the lock, pay on. (state, reason) when the sweep must end."""
        self._store.renew_lock(self._lock, LOCK_SECONDS)
        if self._store.stop_requested(self._lock.sweep):
            return "stopped", STOP_ASKED
        assert self._lease is not None  # noqa: S101 - the thread starts after the reservation
        needed = self._clock() - self._started + BEAT_SECONDS + TEARDOWN_SECONDS
        extra = max(0.0, needed - self._paid_seconds)
        answer = self._store.ledger.renew(self._lease.id, self._amounts(extra), ttl=LOCK_SECONDS)
        if isinstance(answer, Refusal):
            return "exhausted", f"budget: {answer.reason}"
        self._paid_seconds += extra
        self._store.ledger.expire(sweep=self._lock.sweep)
        return None
