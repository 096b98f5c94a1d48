"""How busy the parts are that a sweep has one of: the queue actor with its database, and Tune's driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from duchenne.simulation.clock import Clocks
from duchenne.simulation.model import Services


@dataclass
class Station:
    """Something that there is one of: calls wait for each other.

    Attributes:
        busy_seconds: spent on calls.
        longest: the longest that a call waited for its answer, in seconds.
    """

    busy_seconds: float = 0.0
    longest: float = 0.0
    _free_at: float = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """A call that takes `seconds`, made now: seconds until its answer."""
        if seconds <= 0.0 and self._free_at <= now:
            return 0.0
        self._free_at = max(now, self._free_at) + seconds
        self.busy_seconds += seconds
        wait = self._free_at - now
        self.longest = max(self.longest, wait)
        return wait


class Load:
    """Charges calls.

    Args:
        made: write transactions so far.

    Attributes:
        queue, driver: one server each; the queue waits for the database in every call.
        calls_seconds: the queue's own time; `database_seconds` is that of transactions.
    """

    def __init__(self, services: Services, made: Callable[[], int], clocks: Clocks) -> None:
        self._services = services
        self._made = made
        self._clocks = clocks
        self._seen = made()
        self._free = services.queue_seconds == services.transaction_seconds == 0.0
        self.queue = Station()
        self.driver = Station()
        self.calls_seconds = self.database_seconds = 0.0

    def answered(self) -> float:
        """Called after each call of the queue: seconds until its answer is there."""
        if self._free:
            return 0.0
        services = self._services
        before, self._seen = self._seen, self._made()
        database = (self._seen - before) * services.transaction_seconds
        self.calls_seconds += services.queue_seconds
        self.database_seconds += database
        return self.queue.serve(self._clocks.seconds(), services.queue_seconds + database)

    def trial(self) -> float:
        """Tune starts a trial: seconds until it has."""
        return self.driver.serve(self._clocks.seconds(), self._services.trial_seconds)

    def row(self) -> float:
        """Tune takes in a row: seconds until it has."""
        return self.driver.serve(self._clocks.seconds(), self._services.row_seconds)
