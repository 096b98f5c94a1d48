"""The record store: the one door to the database.

What holds for every store, whichever database is behind it:

- A write is a transaction: it happens as a whole or not at all, and it is on record when the call returns.
- Finished trials, fold jobs and attempts, a sweep that succeeded, settled leases and saved entries are not modified.
- Results are written once. Whoever comes second changes nothing and is told so.
- Of two that want the same thing (a lock, a queued fold job, the rest of a budget), one gets it.
- Writes of a driver carry the token of its lock. A driver that lost the lock is refused, and must stop.
- No network call, training step or file is waited for inside a transaction.
- What can't be done ends in a `RecordsError` of one line, within the busy timeout.
- What is handed out is a frozen copy; later changes don't show in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from duchenne.records.database import Database
from duchenne.records.entries import EntryRecords
from duchenne.records.idempotency import OnceRecords
from duchenne.records.jobs import JobRecords
from duchenne.records.leases import Ledger
from duchenne.records.locks import LockRecords
from duchenne.records.migrate import migrate
from duchenne.records.standing_pages import StandingPages
from duchenne.records.standings import StandingRecords
from duchenne.records.sweep_pages import SweepPages
from duchenne.records.sweeps import SweepRecords
from duchenne.records.teams import TeamRecords
from duchenne.records.tokens import TokenRecords
from duchenne.records.trials import TrialRecords
from duchenne.records.withdrawals import WithdrawalRecords

SQLITE_NAME = "records.sqlite"
URL_VARIABLE = "DUCHENNE_RECORDS_URL"


class RecordStore(
    SweepRecords,
    SweepPages,
    LockRecords,
    TrialRecords,
    JobRecords,
    EntryRecords,
    WithdrawalRecords,
    TeamRecords,
    TokenRecords,
    OnceRecords,
    StandingRecords,
    StandingPages,
):
    """Sweeps, trials, fold jobs, results, entries, events, teams, boards; `ledger` holds the leases.

    Threads may share one store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger = Ledger(database)

    @property
    def home(self) -> Path | None:
        """The folder of a SQLite store, to which recorded paths are relative; None with PostgreSQL."""
        return Path(str(self.database.url.database)).parent if self.database.is_sqlite else None

    @property
    def address(self) -> str:
        """What another process gives `open_store`. It may hold a password: never print or record it."""
        return self.database.url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Close the connections. The store opens new ones if it is used again."""
        self.database.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_store(
    url: str | Path, *, busy_timeout: float = 10.0, clock: Callable[[], datetime] | None = None
) -> RecordStore:
    """Open the records, and bring their tables to this version first.

    Args:
        url: a path, `sqlite:///PATH` or `postgresql://USER@HOST/NAME` (the password: PGPASSWORD or ~/.pgpass).
        busy_timeout: seconds that a call waits for another writer before it gives up.
        clock: the time, for tests and simulations; None takes the database's.

    Raises:
        RecordsError: not an address of records, or written by a newer version.
        RecordsUnavailableError: locked, full, read-only, damaged or out of reach.
    """
    database = Database(url, busy_timeout=busy_timeout, clock=clock)
    try:
        migrate(database)
    except BaseException:
        database.engine.dispose()
        raise
    return RecordStore(database)


def open_home(home: str | Path, *, busy_timeout: float = 10.0) -> RecordStore:
    """Open the records of a home: `DUCHENNE_RECORDS_URL` where it is set, else `HOME/records.sqlite`."""
    return open_store(os.environ.get(URL_VARIABLE) or Path(home) / SQLITE_NAME, busy_timeout=busy_timeout)
