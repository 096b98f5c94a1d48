"""One database, SQLite or PostgreSQL: connections, transactions, the clock, and errors in one line.

A write transaction holds the database's write lock from its first statement (SQLite: BEGIN IMMEDIATE), so whoever reads
inside it decides on what stays true until the commit. No network call belongs inside one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from duchenne.records.clean import to_json
from duchenne.records.errors import (
    LockLostError,
    NotFoundError,
    RecordsError,
    RecordsFaultError,
    RecordsUnavailableError,
)
from duchenne.records.models import SweepRow

_WRITE = "duchenne_write"
_MIGRATE = "duchenne_migrate"
_NO_SWEEP = "a sweep must be recorded before anything of it, but there is no {!r}; list them with `duchenne ls`"


def parse_url(url: str | Path) -> URL:
    """The engine's URL of a path, of `sqlite:///...` or of `postgresql://...` (psycopg 3).

    Raises:
        RecordsError: no database that the records can live in.
    """
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise RecordsError(
            "the records' address must be a path, sqlite:///PATH or postgresql://USER@HOST/NAME, but it can't be read; "
            "mind that special characters of a password are percent-encoded"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgres":
        backend, parsed = "postgresql", parsed.set(drivername="postgresql")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        shown = parsed.render_as_string(hide_password=True)
        raise RecordsError(
            f"the records live in a SQLite file or in PostgreSQL, but got {shown}; "
            "use a path, sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    return parsed


class Database:
    """An engine with the habits of this package.

    Args:
        url: see `parse_url`.
        busy_timeout: seconds that a statement waits for another writer before it gives up.
        clock: the time; None takes PostgreSQL's own clock, so that machines agree, and this machine's on SQLite.
    """

    def __init__(
        self, url: str | Path, *, busy_timeout: float = 10.0, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.url = parse_url(url)
        self.busy_timeout = busy_timeout
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._clock = clock
        if self.is_sqlite:
            self._make_folder()
        self.engine = self._make_engine()
        self._writers = self.engine.execution_options(**{_WRITE: True})
        self._singles = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def where(self) -> str:
        """The database as a person may see it: no password."""
        if self.is_sqlite:
            return str(self.url.database)
        shown = self.url.set(drivername="postgresql", query={})
        return shown.render_as_string(hide_password=True)

    def _make_folder(self) -> None:
        folder = Path(str(self.url.database)).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsUnavailableError(
                f"the folder of the records must be writable, but {folder} can't be made ({error.strerror}); "
                "choose another --home or mend its permissions"
            ) from error

    def _make_engine(self) -> Engine:
        if self.is_sqlite:
            engine = create_engine(self.url, json_serializer=to_json, connect_args={"timeout": self.busy_timeout})
            event.listen(engine, "connect", self._prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        engine = create_engine(
            self.url, json_serializer=to_json, pool_pre_ping=True, connect_args={"connect_timeout": 10}
        )
        event.listen(engine, "connect", self._prepare_postgresql)
        return engine

    def _prepare_sqlite(self, connection: Any, _record: Any) -> None:
        # The driver's own transaction control would delay BEGIN to the first write: too late for a reservation.
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute("PRAGMA synchronous = NORMAL")
            _switch_to_wal(cursor, deadline=time.monotonic() + self.busy_timeout)
        finally:
            cursor.close()

    def _prepare_postgresql(self, connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(self.busy_timeout * 1000)}")
            cursor.execute("SET timezone = 'UTC'")
        connection.commit()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading, on one consistent state."""
        with self._explained(), Session(self.engine) as session:
            yield session

    @contextmanager
    def read_one(self) -> Iterator[Session]:
        """A session for single rows that need not agree with each other: PostgreSQL is spared the transaction."""
        with self._explained(), Session(self._singles) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at its end, or changes nothing where an error leaves it.

        Raises:
            RecordsUnavailableError: locked for longer than the busy timeout, full, read-only, damaged or out of reach.
        """
        with self._explained(), Session(self._writers) as session, session.begin():
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A bare connection inside one write transaction, foreign keys unchecked on SQLite: migrations copy tables."""
        with self._explained(), self.engine.connect().execution_options(**{_WRITE: True, _MIGRATE: True}) as connection:
            try:
                with connection.begin():
                    yield connection
            finally:
                # Not back to the pool: the next user wants its foreign keys checked.
                connection.invalidate()

    def now(self, session: Session) -> datetime:
        """The time by which locks and leases fall due (UTC)."""
        if self._clock is not None:
            return self._clock().astimezone(UTC)
        if self.is_sqlite:
            return datetime.now(UTC)
        moment: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return moment.astimezone(UTC)

    def insert_once(self, session: Session, table: type[Any], values: dict[str, Any] | list[dict[str, Any]]) -> int:
        """INSERT ... ON CONFLICT DO NOTHING; how many rows were written."""
        dialect = sqlite if self.is_sqlite else postgresql
        rows = values if isinstance(values, list) else [values]
        if not rows:
            return 0
        written = 0
        # One statement a row: a multi-row INSERT would meet SQLite's bound on variables.
        for row in rows:
            statement = (
                dialect.insert(table).values(row).on_conflict_do_nothing().returning(*table.__table__.primary_key)
            )
            # The rows returned, not `rowcount`: psycopg's is not to be had for every statement.
            written += len(session.connection().execute(statement).all())
        return written

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._explain(error) from error
        except SQLAlchemyError as error:
            raise RecordsFaultError(
                f"the records at {self.where} refused a statement ({_first_line(error)}); this is a fault of Duchenne: "
                "run again with --debug and report it"
            ) from error

    def _explain(self, error: DBAPIError) -> RecordsError:
        said = _first_line(error.orig or error)
        code = str(getattr(error.orig, "sqlstate", None) or "")
        for signs, codes, line in _FAULTS:
            if code in codes or any(sign in said.lower() for sign in signs):
                return RecordsUnavailableError(line.format(where=self.where, said=said, wait=self.busy_timeout))
        # 08: the connection broke; 57P0x: the server shuts down, or just did.
        if error.connection_invalidated or code.startswith(("08", "57P0")) or (not self.is_sqlite and not code):
            return RecordsUnavailableError(
                f"the records at {self.where} must be in reach, but the database did not answer ({said}); "
                "check that it runs and that its address is right, then resume"
            )
        return RecordsFaultError(
            f"the records at {self.where} refused a statement ({said}); nothing was changed; "
            "run again with --debug and report it"
        )


# Signs are looked for in the driver's words (SQLite), codes in its SQLSTATE (PostgreSQL). Order matters.
_FAULTS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (
        ("database is locked", "database table is locked"),
        ("55P03", "40P01"),
        "the records at {where} must be free to write within {wait:g} s, but another process held them all that time; "
        "end that process, or wait, then resume",
    ),
    (
        ("disk is full",),
        ("53100",),
        "the records at {where} need room on the disk, but it is full; "
        "free some space, then resume: what is recorded is kept",
    ),
    (
        ("readonly database", "unable to open database file"),
        ("25006", "42501"),
        "the records at {where} must be writable, but the database says {said!r}; "
        "mend the permissions or choose another --home",
    ),
    (
        ("disk i/o error",),
        ("58030",),
        "the records at {where} must be readable and writable, but the disk reports an error ({said}); "
        "check the disk and its quota, then resume",
    ),
    (
        ("file is not a database", "malformed"),
        (),
        "the records must be a SQLite file, but {where} is damaged or something else ({said}); "
        "move it away or restore a copy, then resume",
    ),
)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(_MIGRATE):
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")  # has no effect inside a transaction
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITE) else "BEGIN")


def _switch_to_wal(cursor: Any, deadline: float) -> None:
    """Turn on write-ahead logging. Only this pragma ignores SQLite's own busy timeout, hence the loop."""
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def find_sweep(session: Session, sweep: str) -> SweepRow:
    """The sweep's row, for reading: it waits for nobody.

    Raises:
        NotFoundError: no such sweep.
    """
    row = session.get(SweepRow, sweep)
    if row is None:
        raise NotFoundError(_NO_SWEEP.format(sweep))
    return row


def lock_sweep(session: Session, sweep: str, token: str | None = None) -> SweepRow:
    """The sweep's row, locked until the commit. Whoever changes a sweep starts here, so nobody waits in a ring.

    Raises:
        NotFoundError: no such sweep.
        LockLostError: a token is given and does not hold the sweep.
    """
    row = session.execute(select(SweepRow).where(SweepRow.id == sweep).with_for_update()).scalar_one_or_none()
    if row is None:
        raise NotFoundError(_NO_SWEEP.format(sweep))
    if token is not None and row.lock_token != token:
        raise LockLostError(sweep)
    return row
