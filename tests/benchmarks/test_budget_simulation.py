"""The simulated sweeps of `benchmarks/budget.py`, a few of them: nothing over a limit, or within the bound."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("budget")


def test_workers_that_stop_within_the_margin_overrun_nothing(budget: ModuleType) -> None:
    report = budget.simulate(sweeps=12, seed=1, late=budget.MARGIN_SECONDS - 1)
    assert report.sweeps == 12
    assert report.overran == report.beyond == 0
    assert report.worst <= 1e-9
    assert report.ends["ended succeeded"] > 0
    assert 0 < report.spent / report.sweeps <= 1


def test_workers_that_stop_later_overrun_by_no_more_than_the_formula(budget: ModuleType) -> None:
    report = budget.simulate(sweeps=15, seed=2, late=60.0)
    assert report.overran > 0, "without a margin the simulation must notice"
    assert report.beyond == 0
    assert report.worst > 0
