"""docs/models.md and docs/models_faces.md say only what the spec accepts, and leave no name out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from duchenne_jobs.config import (
    BASELINE_NAMES,
    MODEL_NAMES,
    EncoderConfig,
    QuantisationConfig,
    RunConfig,
    SmoothingConfig,
)

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "models.md").read_text()
BOTH = PAGE + (DOCS / "models_faces.md").read_text()
SNIPPETS: list[dict[str, Any]] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", BOTH, re.DOTALL)]


@pytest.mark.parametrize("snippet", [part for part in SNIPPETS if "comparators" not in part], ids=str)
def test_every_snippet_is_a_part_of_a_sweep(snippet: dict[str, Any]) -> None:
    RunConfig.model_validate(snippet)


def test_comparators_are_names_of_the_spec() -> None:
    (named,) = (part["comparators"] for part in SNIPPETS if "comparators" in part)
    assert set(BASELINE_NAMES) < set(named) < {*BASELINE_NAMES, *MODEL_NAMES}


def test_every_name_has_its_place() -> None:
    fields = (config.model_fields["name"] for config in (SmoothingConfig, EncoderConfig, QuantisationConfig))
    named = (name for field in fields for name in get_args(field.annotation))
    for name in (*MODEL_NAMES, *BASELINE_NAMES, *named):
        assert name == "none" or re.search(rf"\b{name}\b", BOTH), f"{name} is on neither page"


def test_the_page_ends_with_what_a_newcomer_asks() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE)[-2:] == ["To add a model", "To add a loss"]
