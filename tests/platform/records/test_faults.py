"""A database that is locked, full, damaged or out of reach ends in one clear line, soon, and loses nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert, text

from duchenne.records import (
    FoldJobKey,
    NewSweep,
    RecordsError,
    RecordStore,
    RecordsUnavailableError,
    open_home,
    open_store,
)
from duchenne.records.database import parse_url
from duchenne.records.models import TrialRow


def small_sweep() -> NewSweep:
    return NewSweep(name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="u")


def one_line(error: BaseException) -> str:
    said = str(error)
    assert "\n" not in said
    assert len(said) < 500
    return said


@contextmanager
def held(url: str, sweep: str) -> Iterator[None]:
    """Someone else who writes and does not end."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(str(parse_url(url).database), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        other.close()
        return
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.execute(text("SELECT * FROM sweep WHERE id = :id FOR UPDATE"), {"id": sweep})
        yield
    engine.dispose()


def test_a_locked_database_is_waited_for_and_then_named(url: str) -> None:
    with open_store(url, busy_timeout=0.3) as store:
        sweep = store.create_sweep(small_sweep())
        started = time.monotonic()
        with held(url, sweep.id), pytest.raises(RecordsUnavailableError, match=r"within 0\.3 s") as failure:
            store.record_trial(sweep.id, 0, {})
        assert 0.2 < time.monotonic() - started < 10
        assert "another process held them" in one_line(failure.value)
        assert store.record_trial(sweep.id, 0, {}).number == 0


def test_reading_goes_on_while_another_writes(url: str) -> None:
    with open_store(url, busy_timeout=0.3) as store:
        sweep = store.create_sweep(small_sweep())
        with held(url, sweep.id):
            assert [found.id for found in store.list_sweeps()] == [sweep.id]
            assert not store.stop_requested(sweep.id)
            assert store.ledger.balance(sweep.id)["budget"]["usd"] is None


def test_opening_a_locked_database_waits_too(tmp_path: Path) -> None:
    open_home(tmp_path).close()
    url = f"sqlite:///{tmp_path / 'records.sqlite'}"
    with held(url, ""), open_store(url, busy_timeout=0.3) as store:
        assert store.list_sweeps() == [], "it is up to date, so nothing needs to be written"
    with sqlite3.connect(tmp_path / "records.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    with held(url, ""), pytest.raises(RecordsUnavailableError, match="another process held them"):
        open_store(url, busy_timeout=0.3)


def test_a_full_disk_loses_no_recorded_result(tmp_path: Path) -> None:
    with open_home(tmp_path) as store:
        sweep = store.create_sweep(small_sweep())
        key = FoldJobKey(sweep=sweep.id, trial=0, phase="search", method="monet", fold=0, inner=0, seed=0)
        store.ensure_fold_job(key)
    store = open_home(tmp_path)

    # SQLite's own bound on its file makes the error of a full disk, without one.
    def bound(connection: Any, _record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(pages, 100)}")

    store.database.engine.dispose()
    event.listen(store.database.engine, "connect", bound)
    metrics = {f"metric_{index}": 0.5 for index in range(40)}
    failure, written = None, 0
    while failure is None and written < 2000:
        try:
            written += store.record_result(key, written, 1, metrics)
        except RecordsUnavailableError as error:
            failure = error
    assert failure is not None
    assert "disk, but it is full; free some space" in one_line(failure)
    assert written > 10
    assert len(store.results(sweep.id)) == written
    store.close()
    with open_home(tmp_path) as after:
        assert len(after.results(sweep.id)) == written
        assert after.record_result(key, written, 1, {"x": 1.0}), "with room again, the sweep goes on"


@pytest.mark.parametrize("content", [b"not a database at all, only text\n" * 100, os.urandom(4096)])
def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(content)
    with pytest.raises(RecordsUnavailableError, match="damaged or something else") as failure:
        open_home(tmp_path)
    assert str(path) in one_line(failure.value)
    assert path.read_bytes() == content


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordsUnavailableError, match="folder of the records must be writable") as failure:
        open_home(tmp_path / "file" / "home")
    one_line(failure.value)
    with pytest.raises(RecordsUnavailableError, match="unable to open database file") as failure:
        open_store(tmp_path)
    one_line(failure.value)


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(RecordsUnavailableError, match="in reach") as failure:
        open_store("postgresql://ann:secret-word@127.0.0.1:1/records")
    said = one_line(failure.value)
    assert "127.0.0.1:1/records" in said
    assert "secret-word" not in said


@pytest.mark.parametrize(
    "url",
    ["mysql://root@host/db", "sqlite://", "sqlite:///:memory:", "http://example.com", "postgresql://ann@host:port/db"],
)
def test_addresses_that_hold_no_records_are_refused(url: str) -> None:
    with pytest.raises(RecordsError) as failure:
        open_store(url)
    assert "postgresql://USER@HOST/NAME" in one_line(failure.value)


def test_a_refused_address_keeps_its_password(tmp_path: Path) -> None:
    with pytest.raises(RecordsError) as failure:
        open_store("mysql://root:secret-word@host/db")
    assert "secret-word" not in str(failure.value)


KILLED = """
import os, signal, sys
from duchenne.records import FoldJobKey, open_home
store = open_home(sys.argv[1])
key = FoldJobKey(sweep=sys.argv[2], trial=0, phase="search", method="m", fold=0, inner=0, seed=0)
for epoch in range(20):
    store.record_result(key, epoch, 1, {"x": epoch})
with store.database.write() as session:
    from sqlalchemy import text
    session.execute(text("DELETE FROM result"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_driver_killed_inside_a_transaction_leaves_what_it_had_recorded(tmp_path: Path) -> None:
    with open_home(tmp_path) as store:
        sweep = store.create_sweep(small_sweep())
        key = FoldJobKey(sweep=sweep.id, trial=0, phase="search", method="m", fold=0, inner=0, seed=0)
        store.ensure_fold_job(key)
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), sweep.id],
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert ended.returncode == -9
        assert [row.epoch for row in store.results(sweep.id)] == list(range(20))


def test_a_row_that_refers_to_nothing_is_refused(store: RecordStore) -> None:
    row = {"sweep": "nowhere", "number": 0, "config": {}, "state": "queued", "rung": 0}
    with pytest.raises(RecordsError, match="nothing was changed") as failure, store.database.write() as session:
        session.execute(insert(TrialRow).values(**row, created_at=store.database.now(session)))
    one_line(failure.value)


def test_another_process_opens_the_records_by_their_address(url: str) -> None:
    with open_store(url) as store, open_store(store.address) as other:
        sweep = store.create_sweep(small_sweep())
        assert other.get_sweep(sweep.id) == sweep
    secret = parse_url("postgresql://ann:secret-word@host/db")
    assert "secret-word" not in str(secret), "which is why `address` is there"


def test_a_store_works_after_it_was_closed(store: RecordStore) -> None:
    store.close()
    assert store.list_sweeps() == []


def test_importing_the_records_is_light() -> None:
    heavy = ("torch", "ray", "pandas", "numpy", "pyarrow", "matplotlib", "sklearn", "alembic")
    code = f"import sys, duchenne.records as r; print([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    # The driver's own modules load numpy nowhere; alembic waits for a database that is behind.
    assert done.stdout.strip() == "[]"
