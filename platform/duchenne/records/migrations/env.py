"""Alembic runs this file; the connection, already inside a transaction, comes from `duchenne.records.migrate`."""

from alembic import context

from duchenne.records.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can't alter most things in place: Alembic copies the table instead.
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
