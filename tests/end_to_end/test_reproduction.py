"""A thesis sweep, cut short, ends in rows of the reproduction page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CUTS = {r"epochs: 500": "epochs: 2", r"warmup_epochs: 10": "warmup_epochs: 1", r"seeds: (10|\[.*\])": "seeds: 2"}


def test_table_2_1_has_a_row_for_each_variant(duchenne: Any, tmp_path: Path) -> None:
    text = (ROOT / "jobs/sweeps/thesis/table_2_1.yaml").read_text()
    for pattern, short in CUTS.items():
        text, count = re.subn(pattern, short, text)
        assert count >= 1, pattern
    file = tmp_path / "table.yaml"
    file.write_text(text)
    ran = duchenne.run("run", str(file))
    assert ran.returncode == 0, ran.stderr
    page = tmp_path / "page.md"
    shown = duchenne.run("reproduction", "--out", str(page))
    assert shown.stdout.strip() == str(page)
    rows = [line for line in page.read_text().splitlines() if "/10 identity)" in line]
    assert [line.split(" | ")[0] for line in rows] == [
        *("| hard selection", "| no warm-up no dropout", "| warm-up", "| dropout", "| warm-up and dropout")
    ]
    for row in rows:
        assert re.search(r"\| \d\d\.\d( \(below\))? \| -?\d+\.\d to \d+\.\d \| 2 \| [012]/2 \|", row), row
    assert "Table 2.2, toy: no entry on board table-2-2" in shown.stderr


def test_figure_2_15_asks_the_networks_of_each_couple(duchenne: Any, tmp_path: Path) -> None:
    text = (ROOT / "jobs/sweeps/thesis/figure_2_15.yaml").read_text()
    for pattern, short in (CUTS | {"count=1000": "count=200"}).items():
        text = re.sub(pattern, short, text)
    file = tmp_path / "couple.yaml"
    file.write_text(text)
    ran = duchenne.run("run", str(file))
    assert ran.returncode == 0, ran.stderr
    page = tmp_path / "page.md"
    shown = duchenne.run("reproduction", "--out", str(page))
    assert "1 of the couples, 2 runs each, T = 3" in page.read_text()
    assert (tmp_path / "pictures/reproduction/figure-2-15.png").stat().st_size > 10_000
    assert "Figure 2.15" not in shown.stderr
