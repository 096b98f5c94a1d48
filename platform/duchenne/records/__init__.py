"""Records: what was asked, what ran, what came out and what it cost. The database is the truth of a sweep.

Belongs here: tables, migrations, and the only code that reads or writes them. Does not belong here: deciding what to
run (search, pool), prices (plan, budget) or statistics (leaderboard). `docs/records.md` states the guarantees.

Importing this package loads SQLAlchemy, and neither torch, Ray nor pandas.
"""

from duchenne.records.errors import (
    LockHeldError,
    LockLostError,
    NotFoundError,
    RecordsConflictError,
    RecordsError,
    RecordsUnavailableError,
)
from duchenne.records.leases import Ledger
from duchenne.records.locks import holder_is_gone, holder_name
from duchenne.records.rows import (
    Amounts,
    Attempt,
    Entry,
    Event,
    FoldJob,
    FoldJobKey,
    Lease,
    Lock,
    NewEntry,
    NewSweep,
    PredictionFile,
    Refusal,
    ResultRow,
    Sweep,
    SweepSummary,
    Trial,
)
from duchenne.records.store import RecordStore, open_home, open_store

__all__ = [
    "Amounts",
    "Attempt",
    "Entry",
    "Event",
    "FoldJob",
    "FoldJobKey",
    "Lease",
    "Ledger",
    "Lock",
    "LockHeldError",
    "LockLostError",
    "NewEntry",
    "NewSweep",
    "NotFoundError",
    "PredictionFile",
    "RecordStore",
    "RecordsConflictError",
    "RecordsError",
    "RecordsUnavailableError",
    "Refusal",
    "ResultRow",
    "Sweep",
    "SweepSummary",
    "Trial",
    "holder_is_gone",
    "holder_name",
    "open_home",
    "open_store",
]
