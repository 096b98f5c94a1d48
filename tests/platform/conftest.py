"""Databases of the contract tests: SQLite always, PostgreSQL where DUCHENNE_TEST_POSTGRES_URL names a database."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from duchenne.records.database import parse_url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'records.sqlite'}"
        return
    server = os.environ.get("DUCHENNE_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("DUCHENNE_TEST_POSTGRES_URL names no PostgreSQL database")
    schema = f"test_{secrets.token_hex(6)}"
    engine = create_engine(parse_url(server))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield (
        parse_url(server)
        .update_query_dict({"options": f"-csearch_path={schema}"})
        .render_as_string(hide_password=False)
    )
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()
