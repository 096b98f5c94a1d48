"""The JSON Schema of a sweep, for editors.

`python -m duchenne.spec.schema > platform/duchenne/spec/sweep.schema.json` renews the committed file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from duchenne.spec.paths import Target, TargetKind, targets
from duchenne.spec.sweep import Sweep

SCHEMA_FILE = Path(__file__).with_name("sweep.schema.json")


_RANGES: dict[TargetKind, tuple[str, ...]] = {
    "whole number": ("RandInt",),
    "number": ("Uniform", "LogUniform"),
    "section": (),
    "other": (),
}
_GRIDS = {"model.orders": ("Orders",), "loss.smoothing": ("Smoothing",)}


def sweep_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what a YAML file may hold; every dotted path of a space is listed by name.

    Rules that span fields are not in it: `duchenne validate` has the last word.
    """
    schema = Sweep.model_json_schema()
    space = schema["$defs"]["SearchSection"]["properties"]["space"]
    space["additionalProperties"] = False
    space["properties"] = {
        path: {
            "description": target.description,
            "oneOf": [{"$ref": f"#/$defs/{name}"} for name in _kinds(target)],
        }
        for path, target in targets().items()
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _kinds(target: Target) -> tuple[str, ...]:
    """Which kinds of dimension the path takes."""
    return ("Choice", "Grid", *_RANGES[target.kind], *_GRIDS.get(target.path, ()))


def schema_text() -> str:
    """The text of `sweep.schema.json`: a function of the models alone."""
    return json.dumps(sweep_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
