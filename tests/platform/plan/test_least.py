"""Budgets that can't pay for one trial and its evaluation are refused, with the least that would do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.cli.main import call
from duchenne.plan import Estimate, Rate, budget_faults, least
from duchenne.spec import Sweep, load_sweep_text

FIELDS: dict[str, object] = {
    "apiVersion": "duchenne/v1",
    "kind": "Sweep",
    "metadata": {"name": "a"},
    "data": {"uri": "builtin://yeast"},
    "prices": {"cpu_hour_usd": 3.6},
}


def sweep(**sections: object) -> Sweep:
    return load_sweep_text(yaml.safe_dump(FIELDS | sections))


def test_the_least_is_a_lease_in_the_search_share_or_all_jobs_of_one_trial() -> None:
    small = sweep(budget={"usd": 9}, folds={"count": 2, "inner": 2}, seeds=1)
    assert least(small).usd == pytest.approx(0.030)  # two leases of 15 s at 0.001 USD a second
    measured = least(small, Estimate(search_job_seconds=100, evaluation_job_seconds=200, parallel_jobs=1))
    assert measured.usd == pytest.approx(0.001 * (4 * 100 + 2 * 200))


def test_gpus_count_in_gpu_hours() -> None:
    gpus = sweep(budget={"gpu_hours": 1}, folds={"count": 2, "inner": 2, "resources": {"gpu": 0.5}}, seeds=1)
    assert least(gpus).gpu_hours == pytest.approx(30 * 0.5 / 3600)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            {"usd": 0.01},
            "budget.usd: one trial and its evaluation need at least 0.03 USD, got 0.01, set it to 0.03 or more",
        ),
        (
            {"wall_seconds": 5},
            "budget.wall_seconds: one trial and its evaluation need at least 32 seconds, got 5, set it",
        ),
        (
            {"gpu_hours": 0.001},
            "budget.gpu_hours: one trial and its evaluation need at least 0.008334 GPU-hours, got 0.001",
        ),
    ],
)
def test_a_smaller_budget_is_refused_by_name(budget: dict[str, float], message: str) -> None:
    resources = {"gpu": 1} if "gpu_hours" in budget else {}
    (fault,) = budget_faults(sweep(budget=budget, folds={"count": 2, "inner": 2, "resources": resources}, seeds=1))
    assert fault.located.startswith(message)


@given(
    folds=st.integers(2, 5),
    seeds=st.integers(1, 5),
    price=st.floats(0.01, 100),
    unit=st.sampled_from(["usd", "gpu_hours", "wall_seconds"]),
)
@settings(max_examples=40, deadline=None)
def test_the_least_that_is_named_does(folds: int, seeds: int, price: float, unit: str) -> None:
    sections = {
        "folds": {"count": folds, "inner": 2, "resources": {"gpu": 1}},
        "seeds": seeds,
        "prices": {"gpu_hour_usd": price},
    }
    (fault,) = budget_faults(sweep(budget={unit: 1e-9}, **sections))
    named = float(fault.hint.removeprefix("set it to ").removesuffix(" or more"))
    assert budget_faults(sweep(budget={unit: named}, **sections)) == []
    assert budget_faults(sweep(budget={unit: named * 0.99}, **sections)) != []


def test_plan_refuses_with_the_line_and_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "S.yaml"
    path.write_text(yaml.safe_dump(FIELDS, sort_keys=False) + "budget:\n  usd: 0.001\n")
    assert call(["plan", str(path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(f"{path}:10: budget.usd: one trial and its evaluation need at least 0.03 USD, got 0.001, ")
    path.write_text(path.read_text().replace("0.001", "1"))
    assert call(["plan", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["worst"]["usd"] == 1.0


def test_dollars_without_a_price_are_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "S.yaml"
    path.write_text(yaml.safe_dump(FIELDS | {"prices": {}, "budget": {"usd": 5}}, sort_keys=False))
    assert call(["plan", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "prices.cpu_hour_usd: budget.usd of 5 needs a price above 0 of what the fold jobs hold, got 0" in line


@given(seconds=st.floats(0, 1e6), quantum=st.sampled_from([0.0, 1.0, 60.0, 3600.0]), price=st.floats(1e-6, 1.0))
def test_a_part_of_a_quantum_is_billed_in_full(seconds: float, quantum: float, price: float) -> None:
    paid = Rate(price, quantum).usd(seconds)
    assert paid is not None
    assert paid >= price * (seconds - 1e-6 * max(quantum, 1)) * (1 - 1e-9)
    assert paid <= price * (seconds + quantum) * (1 + 1e-9)
    assert Rate(0.0, quantum).usd(seconds) is None
