"""Alembic's migrations of the records; `duchenne.records.migrate` runs them."""
