"""The API answers as its own description says, whatever it is asked: schemathesis over every operation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from duchenne.records import open_home
from duchenne.server.app import create_app
from duchenne.server.settings import Settings
from duchenne.server.tokens import make_token

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 6
for media in ("application/vnd.apache.arrow.file", "application/vnd.apache.arrow.stream"):
    schemathesis.serializer.alias(media, "application/octet-stream")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """(the API's schema, an operator's token) of a server with a team and a sweep."""
    home = tmp_path_factory.mktemp("served")
    fixed = Settings(home=home, secret=SecretStr("s"), rate_per_second=1e6, rate_burst=10**6)
    with open_home(home) as store:
        made = make_token()
        store.ensure_team("faces")
        store.ensure_public_board("disfa")
        store.add_token(made.id, made.secret_hash, name="t", team=None, role="admin", created_by="t")
        yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", create_app(store, fixed)), made.text


def test_every_answer_is_described(served: tuple[Any, str]) -> None:
    schema, token = served
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        count += 1
        explore(operation, token)
    assert count >= 35


def explore(operation: Any, token: str) -> None:
    """A few requests drawn from the description of one operation, half of them with a token."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @schemathesis_given(operation)
    def one(case: Any, known: bool) -> None:
        headers = {"Authorization": f"Bearer {token}"} if known else {}
        case.call_and_validate(checks=CHECKS, headers=headers)

    one()


def schemathesis_given(operation: Any) -> Any:
    from hypothesis import given

    return given(case=operation.as_strategy(), known=st.booleans())


def test_the_description_names_every_error(served: tuple[Any, str]) -> None:
    schema, _ = served
    for path, methods in schema.raw_schema["paths"].items():
        for method, operation in methods.items():
            refused = operation["responses"]["404"]["content"]
            assert list(refused) == ["application/problem+json"], (path, method)
    assert Path("/api/v1/sweeps/{sweep}").as_posix() in schema.raw_schema["paths"]
