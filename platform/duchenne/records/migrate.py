"""Bring a database to this version's tables, by Alembic, without its command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from duchenne.records.database import Database
from duchenne.records.errors import RecordsError

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0004"
"""Newest revision under migrations/versions; a test holds it to the folder. Knowing it spares Alembic's import."""

MIGRATIONS = Path(__file__).parent / "migrations"
# Any number: it names this package's migrations among PostgreSQL's advisory locks.
_ADVISORY_LOCK = 7_306_118


def current_revision(connection: Connection) -> str | None:
    """The revision of the database; None where it has no table of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return revision


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration of the migrations in this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(database: Database, target: str = "head") -> None:
    """Upgrade to `target` in one transaction; two processes that start at once wait for each other.

    Raises:
        RecordsError: the database was written by a newer version, or its rows don't fit together after the upgrade.
    """
    with database.read() as session:
        if target == "head" and current_revision(session.connection()) == HEAD:
            return
    with database.connection() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        revision = current_revision(connection)
        if target == "head" and revision == HEAD:
            return
        _upgrade(database, connection, revision, target)


def _upgrade(database: Database, connection: Connection, revision: str | None, target: str) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise RecordsError(
            f"the records must not be newer than Duchenne, but {database.where} is at revision {revision} "
            f"and this version knows {', '.join(sorted(known))}; install the newer version"
        )
    command.upgrade(config, target)
    if database.is_sqlite:
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise RecordsError(
                f"every row must refer to rows that exist, but {database.where} has {len(broken)} that don't "
                f"(first in table {broken[0][0]!r}); nothing was changed; restore a copy"
            )
