"""The generated files are current, the examples valid, and the import light."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from duchenne.plan import count
from duchenne.spec import load_sweep, notes
from duchenne.spec.paths import section_class, unwrapped
from duchenne.spec.reference import reference_text
from duchenne.spec.schema import SCHEMA_FILE, schema_text
from duchenne.spec.sweep import Sweep

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(path for path in (ROOT / "jobs" / "sweeps").rglob("*.yaml") if path.name != "prices.yaml")
HEAVY = ("torch", "ray", "pyarrow", "pandas", "sklearn", "matplotlib", "scipy", "numpy", "sqlalchemy")


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_committed_schema_is_current() -> None:
    command = f"{sys.executable} -m duchenne.spec.schema > {SCHEMA_FILE.relative_to(ROOT)}"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), f"run: {command}"


def test_the_reference_page_is_current() -> None:
    page = ROOT / "docs" / "spec.md"
    assert page.read_text(encoding="utf-8") == reference_text(), "run: python -m duchenne.spec.reference > docs/spec.md"


def test_there_are_examples() -> None:
    assert {"quickstart.yaml", "toy.yaml"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_and_names_its_schema(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (path.parent / first.removeprefix(prefix)).resolve() == SCHEMA_FILE.resolve()
    sweep = load_sweep(path)
    assert count(sweep).trials >= 1
    validator.validate(sweep.model_dump(mode="json"))
    # PyYAML reads a plain 5e-4 as a text, which editors and our loader do not: read the file as JSON would.
    validator.validate(_yaml_1_2(path))
    if sweep.data.uri.startswith("builtin://"):
        assert notes(sweep) == []


def _yaml_1_2(path: Path) -> Any:
    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: numbers(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [numbers(inner) for inner in value]
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return numbers(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("traning", {}),
        ("training", {"epocs": 3}),
        ("training", {"epochs": 0}),
        ("search", {"space": {"model.order.count": {"choice": [1]}}}),
        ("search", {"space": {"training.epochs": {"uniform": [1, 2]}}}),
        ("search", {"space": {"training.epochs": {"grid": []}}}),
        ("search", {"scheduler": "ahsa"}),
        ("seeds", 0),
        ("budget", {"usd": 0}),
        ("comparators", ["svm"]),
    ],
)
def test_the_schema_refuses_what_an_editor_should_mark(
    place: str, value: object, validator: jsonschema.Draft202012Validator
) -> None:
    data = load_sweep(ROOT / "jobs" / "sweeps" / "toy.yaml").model_dump(mode="json")
    assert validator.is_valid(data)
    assert not validator.is_valid(data | {place: value})


def test_the_schema_accepts_short_forms(validator: jsonschema.Draft202012Validator) -> None:
    data = load_sweep(ROOT / "jobs" / "sweeps" / "toy.yaml").model_dump(mode="json")
    assert validator.is_valid(data | {"seeds": 3, "search": {"scheduler": "asha"}})


def test_every_field_is_described() -> None:
    seen: set[type[BaseModel]] = set()
    queue: list[type[BaseModel]] = [Sweep]
    while queue:
        section = queue.pop()
        seen.add(section)
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} has no description"
            inner = section_class(field.annotation)
            parts = (inner,) if inner else unwrapped(field.annotation)
            queue += [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    assert len(seen) > 10


def test_the_import_is_light_and_quick() -> None:
    """Under 0.35 s of processor time, the interpreter's own start included, without a heavy library."""
    program = (
        "import sys, time, duchenne.spec, duchenne.plan; "
        f"print(time.process_time(), [name for name in {HEAVY} if name in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        taken, heavy = run.stdout.split(" ", 1)
        assert heavy.strip() == "[]"
        seconds.append(float(taken))
    assert statistics.median(seconds) < 0.35
