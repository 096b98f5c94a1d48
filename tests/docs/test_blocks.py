"""Every YAML block of the pages is what it looks like, to the reader of such a file; every Python block compiles."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from duchenne.clusters.file import load_clusters_text
from duchenne.notifications.webhooks import load_webhooks
from duchenne.plan.teams import team_budget
from duchenne.spec import Sweep, load_sweep_text
from duchenne.spec.prices import load_prices
from duchenne_jobs.data import load_protocol

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Where a block is a part of a sweep, the rest of it: faces, which every part can be about.
WHOLE: dict[str, Any] = {
    "apiVersion": "duchenne/v1",
    "kind": "Sweep",
    "metadata": {"name": "whole"},
    "data": {"uri": "s3://bucket/faces"},
    "budget": {"wall_seconds": 60},
}
# A part that says less than it needs, since the page is about something else.
BESIDE: dict[str, dict[str, Any]] = {
    "rungs: usd": {
        "prices": {"cpu_hour_usd": 0.04},
        "search": {"space": {"training.learning_rate": {"grid": [0.1]}}, "algorithm": "grid"},
    },
}


def blocks(language: str) -> list[Any]:
    """(text) of each block, named by its page and line."""
    found = []
    for path in PAGES:
        text = path.read_text()
        for block in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: block.start()].count("\n") + 1
            found.append(pytest.param(block[1], id=f"{path.relative_to(ROOT)}:{line}"))
    return found


def merged(whole: Any, part: Any) -> Any:
    if not (isinstance(whole, dict) and isinstance(part, dict)):
        return part
    return whole | {key: merged(whole.get(key), value) for key, value in part.items()}


def reader(content: dict[str, Any]) -> Callable[[str, Path], object]:
    """What reads a file that begins like this one; the first of the list whose key is there."""
    readers: dict[str, Callable[[str, Path], object]] = {
        "kind": lambda text, _path: load_sweep_text(text),
        "clusters": lambda text, _path: load_clusters_text(text),
        "nodes": lambda _text, path: load_prices(str(path)),
        "parts": lambda _text, path: load_protocol(path),
    }
    known = next((read for key, read in readers.items() if key in content), None)
    if known is not None:
        return known
    if set(content) <= set(Sweep.model_fields):
        return _part_of_a_sweep
    return _teams if any("usd_per_month" in section for section in content.values()) else _webhooks


def _part_of_a_sweep(text: str, path: Path) -> Sweep:
    part = yaml.safe_load(text)
    beside = next((rest for sign, rest in BESIDE.items() if sign in text), {})
    whole = merged(merged(WHOLE, beside), part)
    if "file" in part.get("prices", {}):
        (path.parent / part["prices"]["file"]).write_text(
            next(b.values[0] for b in BLOCKS if "\nnodes:" in b.values[0])
        )
    return load_sweep_text(yaml.safe_dump(whole))


def _teams(text: str, path: Path) -> object:
    return [team_budget(path, team) for team in yaml.safe_load(text)]


def _webhooks(text: str, _path: Path) -> object:
    return load_webhooks(yaml.safe_load(text))


BLOCKS = blocks("yaml")


@pytest.mark.parametrize("text", BLOCKS)
def test_a_yaml_block_is_what_it_looks_like(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(text.replace("secret: ...", "secret: 0123456789abcdef0123456789abcdef"))
    path.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUCHENNE_WEBHOOKS_FILE", str(path))
    assert reader(yaml.safe_load(text))(text, path)


@pytest.mark.parametrize("text", blocks("python"))
def test_a_python_block_compiles_and_what_it_imports_of_ours_is_there(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("duchenne"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")


def test_the_example_of_the_kernels_runs() -> None:
    (text,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "kernels/README.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(text, "kernels/README.md", "exec"), names)  # noqa: S102
    assert names["samples"].shape == (16, 20, 12)
    assert names["exact"].shape == (16, 12)
    names["loss"].backward()
    assert names["cells"].weight_hh.grad is not None
