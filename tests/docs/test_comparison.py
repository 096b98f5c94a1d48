"""docs/comparison.md invents nothing: each number of its tables is in the report that the section links to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "comparison.md").read_text()
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?(?![\w.])")
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMPARED = [name for name, text in SECTIONS.items() if "\n|" in text]


def rows(text: str) -> list[str]:
    """The rows of a section's tables, heads included, rules left out."""
    return [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|- ")]


def report(section: str) -> str:
    """The report that a section names first."""
    (first, *_) = re.findall(r"\]\((\.\./benchmarks/results/[^)]+)\)", SECTIONS[section])
    return (DOCS / first).read_text()


@pytest.mark.parametrize("section", COMPARED)
def test_every_number_of_a_table_is_in_its_report(section: str) -> None:
    known = set(NUMBER.findall(report(section)))
    shown = {number for row in rows(SECTIONS[section]) for number in NUMBER.findall(row)}
    assert len(shown) > 5
    assert shown <= known, f"not in the report: {sorted(shown - known)}; copy the table from it again"


@pytest.mark.parametrize("section", COMPARED)
def test_a_section_says_what_is_lost_and_how_to_measure_again(section: str) -> None:
    text = SECTIONS[section]
    assert "**Lost:**" in text
    commands = re.findall(r"`(python\s+benchmarks/\w+\.py|make \w+)", text)
    assert commands
    for command in commands:
        target = command.split()[1]
        assert (DOCS.parent / target).is_file() or f"\n{target}:" in (DOCS.parent / "Makefile").read_text()


def test_a_row_has_as_many_cells_as_its_head() -> None:
    for section in COMPARED:
        assert len({row.count("|") for row in rows(SECTIONS[section])}) == 1, section


def test_each_report_says_when_and_on_what() -> None:
    assert len(COMPARED) == 5
    for section in COMPARED:
        head = "\n".join(report(section).splitlines()[:4])
        assert re.search(r"20\d\d-\d\d-\d\d", head), section
        assert re.search(r"\d+ (cores|CPUs|threads)", head), section
