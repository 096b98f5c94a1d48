"""docs/models.md says only what the spec accepts, and leaves no name out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from duchenne_jobs.config import BASELINE_NAMES, MODEL_NAMES, RunConfig, SmoothingConfig

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text()
SNIPPETS: list[dict[str, Any]] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("snippet", [part for part in SNIPPETS if "comparators" not in part], ids=str)
def test_every_snippet_is_a_part_of_a_sweep(snippet: dict[str, Any]) -> None:
    RunConfig.model_validate(snippet)


def test_comparators_are_names_of_the_spec() -> None:
    (named,) = (part["comparators"] for part in SNIPPETS if "comparators" in part)
    assert set(BASELINE_NAMES) < set(named) < {*BASELINE_NAMES, *MODEL_NAMES}


def test_every_name_has_its_place() -> None:
    smoothings = get_args(SmoothingConfig.model_fields["name"].annotation)
    for name in (*MODEL_NAMES, *BASELINE_NAMES, *smoothings):
        assert name == "none" or re.search(rf"\b{name}\b", PAGE), f"{name} is not on the page"


def test_the_page_ends_with_what_a_newcomer_asks() -> None:
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE)[-2:] == ["To add a model", "To add a loss"]
