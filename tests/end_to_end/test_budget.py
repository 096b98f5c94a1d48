"""A budget that ends in the middle of a search, and a month that is used up, as a user meets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duchenne.records import open_home
from duchenne.records.rows import SEARCH_CUT

GRID = """\
    model.orders.active: {grid: [2, 6]}
    training.learning_rate: {grid: [0.003, 0.01]}
  algorithm: grid
"""
DRAWS = """\
    training.learning_rate: {loguniform: [0.003, 0.01]}
  trials: 2000
"""
PRICED = "budget: {usd: 0.045}\nprices: {cpu_hour_usd: 3.6}"


@pytest.fixture
def endless(toy: Path) -> Path:
    """More trials than the budget has room for."""
    text = toy.read_text()
    assert GRID in text
    toy.write_text(text.replace(GRID, DRAWS).replace("budget: {wall_seconds: 1200}", PRICED))
    return toy


def test_a_search_that_the_budget_cuts_short_still_gives_its_entry(
    duchenne: Any, endless: Path, tmp_path: Path
) -> None:
    done = duchenne.run("run", str(endless), timeout=420)
    assert done.returncode == 0, done.stdout + done.stderr
    sweep_id = done.stdout.splitlines()[0].removeprefix("sweep: ")
    with open_home(duchenne.home) as store:
        assert store.get_sweep(sweep_id).state == "succeeded"
        (event,) = [event for event in store.events(sweep_id) if event.what == SEARCH_CUT]
        trials = store.trials(sweep_id)
        assert [lease for lease in store.ledger.leases(sweep_id) if (lease.overshoot.usd or 0) > 0] == []
    assert "held back for the evaluation" in event.detail["reason"]
    assert 0 < len(trials) < 2000
    own = next(row for row in duchenne.json("leaderboard") if row["method"] == "monet")
    assert (own["verified"], own["trials"]) == ("verified", len(trials))
    cost = duchenne.json("cost", sweep_id)
    assert list(cost)[:4] == ["budget", "spent", "reserved", "wasted"]
    assert 0 < cost["spent"]["usd"] <= 0.045
    assert cost["spent"]["usd"] == pytest.approx(sum(part["usd"] for part in cost["per_trial"]))
    assert cost["left"]["usd"] == pytest.approx(0.045 - cost["spent"]["usd"])
    drawn = duchenne.run("cost", sweep_id, "--out", str(tmp_path / "out"))
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "out" / "burn_down.png").stat().st_size > 5_000


def test_a_month_that_is_used_up_refuses_in_one_line(duchenne: Any, endless: Path) -> None:
    duchenne.home.mkdir(parents=True)
    (duchenne.home / "teams.yaml").write_text("tests: {usd_per_month: 0.04}\n")
    done = duchenne.run("run", str(endless))
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: budget.usd: a sweep must fit what its team has left of the month, but it may spend 0.045"
    )
    assert duchenne.json("ls") == []
