"""A thesis sweep, cut short, ends in rows of the reproduction page."""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

ROOT = Path(__file__).parents[2]
CUTS = {"epochs: 500": "epochs: 2", "seeds: 10": "seeds: 2"}


def reproduced(duchenne: Any, name: str, cuts: dict[str, str], folder: Path) -> tuple[CompletedProcess[str], Path]:
    """A thesis sweep, run with these cuts: what `reproduction` printed, and its page."""
    text = (ROOT / f"jobs/sweeps/thesis/{name}.yaml").read_text()
    for whole, short in cuts.items():
        assert whole in text, whole
        text = text.replace(whole, short)
    file, page = folder / "sweep.yaml", folder / "page.md"
    file.write_text(text)
    ran = duchenne.run("run", str(file))
    assert ran.returncode == 0, ran.stderr
    return duchenne.run("reproduction", "--out", str(page)), page


def test_table_2_1_has_a_row_for_each_variant(duchenne: Any, tmp_path: Path) -> None:
    shown, page = reproduced(duchenne, "table_2_1", CUTS | {"warmup_epochs: 10": "warmup_epochs: 1"}, tmp_path)
    assert shown.stdout.strip() == str(page)
    rows = [line for line in page.read_text().splitlines() if "/10 identity)" in line]
    assert [line.split(" | ")[0] for line in rows] == [
        *("| hard selection", "| no warm-up no dropout", "| warm-up", "| dropout", "| warm-up and dropout")
    ]
    for row in rows:
        assert re.search(r"\| \d\d\.\d( \(below\))? \| -?\d+\.\d to \d+\.\d \| 2 \| [012]/2 \|", row), row
    assert "Table 2.2, toy: no entry on board table-2-2" in shown.stderr


def test_figure_2_15_asks_the_networks_of_each_couple(duchenne: Any, tmp_path: Path) -> None:
    shown, page = reproduced(duchenne, "figure_2_15", CUTS | {"count=1000": "count=200"}, tmp_path)
    assert "1 of the couples, 2 runs each, T = 3" in page.read_text()
    assert (tmp_path / "pictures/reproduction/figure-2-15.png").stat().st_size > 10_000
    assert "Figure 2.15" not in shown.stderr
