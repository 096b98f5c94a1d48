"""Tables: a narrow terminal loses columns, never letters; unknown figures show as a dash."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from duchenne.boards import BoardRow
from duchenne.cli.tables import leaderboard_table, number

SWEEP = "quickstart-59ce"


def row(label: str, **changes: Any) -> BoardRow:
    values: dict[str, Any] = {
        "entry": f"{SWEEP}.{label}",
        "method": label,
        "rank_low": 1,
        "rank_high": 2,
        "f1_mean": 0.42,
        "ci_low": 0.40,
        "ci_high": 0.44,
        "verified": "verified",
        "cost_usd": None,
        "trials": 12,
        "group": 1,
        "label": label,
        "team": "t",
        "sweep": SWEEP,
        "auc": 0.7,
        "f1_micro": 0.63,
        "subset_accuracy": 0.2,
        "log_loss": 0.46,
        "accuracy": None,
        "gpu_hours": None,
        "subjects": 10,
        "seeds": 3,
        "tasks": (),
        "note": None,
    }
    return BoardRow(**(values | changes))


def printed(rows: list[BoardRow], width: int) -> str:
    sink = io.StringIO()
    Console(file=sink, width=width).print(leaderboard_table("b", rows, width=width))
    return sink.getvalue()


@pytest.mark.parametrize("width", [80, 110, 160])
def test_every_width_shows_whole_names_and_numbers(width: int) -> None:
    text = printed([row("monet M=8 k=4 rhls 0.25"), row("classifier_chain")], width)
    assert "monet M=8 k=4 rhls 0.25" in text
    assert "0.4000 to 0.4400" in text
    assert "…" not in text


def test_a_wide_terminal_shows_every_column() -> None:
    text = printed([row("monet")], 160)
    for name in ("F1 micro", "subset", "log-loss", "AUC", "trials", "cost", "sweep"):
        assert name in text


def test_folds_in_which_a_task_has_no_positive_are_a_footnote() -> None:
    folds = ("fold 0: AU2", "fold 2: AU2, AU4")
    rows = [row("monet", without_positives=folds), row("vmnc", without_positives=folds), row("other")]
    assert "no positive label in fold 0: AU2; fold 2: AU2, AU4: monet, vmnc" in printed(rows, 160)
    assert "no positive label" not in printed([row("other")], 160)


def test_unknown_figures_are_dashes_never_zeros() -> None:
    unknown = row("monet", f1_mean=None, ci_low=None, ci_high=None, rank_low=None, rank_high=None, verified="rejected")
    line = next(line for line in printed([unknown], 160).splitlines() if "monet" in line)
    assert "0.0000" not in line
    assert line.split()[:4] == ["-", "monet", "-", "-"]
    assert number(None) == "-"
