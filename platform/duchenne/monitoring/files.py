"""Dashboards and rules as files: what the chart ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import yaml

from duchenne.monitoring.dashboards import dashboards
from duchenne.monitoring.rules import rules

RULES_NAME: Final = "rules/duchenne.yaml"
_HEAD: Final = "# Written by `duchenne grafana export`, from platform/duchenne/monitoring/rules.py: change it there.\n"


def files() -> dict[str, str]:
    """Path below the chart -> what the file says."""
    texts = {
        f"dashboards/{name}.json": json.dumps(document, indent=2, sort_keys=True) + "\n"
        for name, document in dashboards().items()
    }
    return texts | {RULES_NAME: _HEAD + yaml.safe_dump(rules(), sort_keys=False, width=1000)}


def write_files(folder: Path) -> list[Path]:
    """Write them below `folder`; their paths."""
    written = []
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
