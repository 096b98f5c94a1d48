"""What can go wrong with the records, each in one line: the rule, the value seen, the next step."""

from __future__ import annotations

from datetime import datetime


class RecordsError(Exception):
    """Base of every error of the records. Its text is one line that a user can act on."""


class NotFoundError(RecordsError, LookupError):
    """No row, or more than one, has the name that was asked for."""


class RecordsConflictError(RecordsError):
    """The row is not in the state that the change needs; nothing was changed."""


class RecordsUnavailableError(RecordsError):
    """The database is locked, full, read-only, damaged or out of reach; nothing was changed."""


class RecordsFaultError(RecordsError):
    """The database refused a statement that it should not have been given: a fault of Duchenne; nothing was changed."""


class LockHeldError(RecordsConflictError):
    """Another driver holds the sweep.

    Attributes:
        holder: who, as `holder_name()` gave it.
        since: when that driver took the lock (UTC).
        expires_at: when the lock falls free unless it is renewed (UTC).
    """

    def __init__(self, sweep: str, holder: str, since: datetime, expires_at: datetime) -> None:
        super().__init__(
            f"one driver at a time may hold a sweep, but {sweep} is held by {holder} "
            f"since {since:%Y-%m-%d %H:%M:%S} UTC; "
            f"stop that driver, or try again after {expires_at:%Y-%m-%d %H:%M:%S} UTC, when its lock falls free"
        )
        self.holder = holder
        self.since = since
        self.expires_at = expires_at


class LockLostError(RecordsConflictError):
    """The token is not, or no longer, the one that holds the sweep: the driver must stop writing."""

    def __init__(self, sweep: str) -> None:
        super().__init__(
            f"only the driver that holds the lock of {sweep} may change it, but this driver's token does not hold it; "
            "stop this driver: another one may have resumed the sweep"
        )
