"""The migrations make the tables that the models describe, and keep the rows of older records."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select, text

from duchenne.records import RecordsError, open_store
from duchenne.records.board_rows import Sight
from duchenne.records.database import Database
from duchenne.records.migrate import HEAD, alembic_config, current_revision, migrate
from duchenne.records.models import Base, EventRow, FoldJobRow, LeaseRow, ResultRecord, SweepRow, TrialRow

REVISIONS = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]


def test_the_newest_revision_is_known() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD]
    assert REVISIONS[0] == "0001"


def test_migrations_and_models_agree(url: str) -> None:
    with open_store(url) as store, store.database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
        for table in Base.metadata.tables.values():
            found = inspect(connection).get_foreign_keys(table.name)
            assert {key["name"] for key in found} == {key.name for key in table.foreign_key_constraints}


def _rows_of_the_first_revision(database: Database) -> None:
    with database.write() as session:
        now = database.now(session)
        sweep = {column.name: "text" for column in SweepRow.__table__.columns if not column.nullable}
        sweep |= {"id": "old-0000", "spec": {"a": 1}, "created_at": now, "stop_requested": False}
        session.execute(insert(SweepRow).values(sweep))
        session.execute(
            insert(TrialRow).values(sweep="old-0000", number=0, config={"b": 2}, state="queued", rung=0, created_at=now)
        )
        job = {"id": 1, "sweep": "old-0000", "trial": 0, "phase": "search", "method": "monet", "fold": 0, "inner": 0}
        session.execute(insert(FoldJobRow).values(**job, seed=2**40, state="queued", attempts=0, created_at=now))
        session.execute(insert(ResultRecord).values(fold_job=1, epoch=3, attempt=1, metrics={"f1": 0.5}, at=now))
        session.execute(insert(EventRow).values(at=now, sweep="old-0000", actor="a", what="w", detail={}))


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_keeps_the_rows(url: str, revision: str) -> None:
    database = Database(url)
    migrate(database, "0001")
    _rows_of_the_first_revision(database)
    migrate(database, revision)
    with database.read() as session:
        assert current_revision(session.connection()) == revision
    with open_store(url) as store:
        (found,) = store.list_sweeps()
        assert (found.id, found.spec, store.trials(found.id)[0].config) == ("old-0000", {"a": 1}, {"b": 2})
        (row,) = store.results(found.id)
        assert (row.metrics, row.epoch, row.seed) == ({"f1": 0.5}, 3, 2**40)
        assert [event.what for event in store.events()] == ["w"]
        assert store.entries() == []
        assert [team.name for team in store.teams()] == ["text"], "the teams of the sweeps that there are"
        assert store.event_page(Sight(frozenset({"text"}))).items[0].team == "text"
        assert store.team_budget("text") is None
    database.engine.dispose()


def _old_leases(database: Database) -> None:
    """Two months, an open lease, one that was wasted, and a unit that only some count."""
    last, this = datetime(2026, 1, 31, 23, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    fixed = {"sweep": "old-0000", "holder": "w", "kind": "fold_job", "resource": {}, "opened_at": last}
    with database.write() as session:
        for nano_usd, gpu_ms, settled, wasted in (
            (5, None, last, False),
            (7, 40, last, True),
            (11, None, this, False),
            (13, 2**40, None, False),
        ):
            spent = {} if settled is None else {"spent_nano_usd": nano_usd - 1, "spent_gpu_ms": gpu_ms}
            row = {"reserved_nano_usd": nano_usd, "reserved_gpu_ms": gpu_ms, "settled_at": settled, "wasted": wasted}
            session.execute(insert(LeaseRow).values(**fixed, **row, **spent, expires_at=this))


@pytest.mark.parametrize("revision", [revision for revision in REVISIONS if "0002" <= revision < "0004"])
def test_an_upgrade_adds_up_the_leases_that_there_are(url: str, revision: str) -> None:
    database = Database(url)
    migrate(database, "0001")
    _rows_of_the_first_revision(database)
    migrate(database, revision)
    _old_leases(database)
    february = datetime(2026, 2, 3, tzinfo=UTC)
    with open_store(url, clock=lambda: february) as store:
        totals = store.ledger.totals("old-0000")
        assert {side: (amounts.usd, amounts.gpu_seconds) for side, amounts in totals.items()} == {
            "budget": (None, None),
            "spent": (20e-9, 0.04),
            "reserved": (13e-9, 2**40 / 1000),
            "wasted": (6e-9, 0.04),
        }
        assert {amounts.wall_seconds for amounts in totals.values()} == {None}
        assert store.ledger.month("text")["spent"].usd == 10e-9
        assert store.ledger.month("text", february - timedelta(days=10))["spent"].usd == 20e-9, "and what came since"
        assert len(store.ledger.expire()) == 1
        assert store.ledger.totals("old-0000")["spent"].usd == 33e-9
        assert store.summaries()[0].spent_usd == 33e-9
    database.engine.dispose()


def test_records_of_a_newer_version_are_refused(url: str) -> None:
    with open_store(url) as store, store.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RecordsError, match=r"revision 9999.*install the newer version"):
        open_store(url)


def test_stores_that_open_at_once_make_the_tables_once(url: str) -> None:
    failed: list[Exception] = []

    def start() -> None:
        try:
            open_store(url).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with open_store(url) as store, store.database.read() as session:
        assert session.execute(select(SweepRow)).all() == []


def test_a_folder_with_a_percent_sign_is_no_obstacle(tmp_path: Path) -> None:
    with open_store(tmp_path / "50% of it" / "records.sqlite") as store:
        assert store.list_sweeps() == []
