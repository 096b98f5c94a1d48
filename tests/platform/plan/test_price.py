"""What a sweep may cost, and that what nobody knows is null."""

from __future__ import annotations

import json

import pytest
import yaml

from duchenne.plan import Amounts, Estimate, plan
from duchenne.plan.price import share_of_epochs
from duchenne.spec import Sweep, load_sweep_text

UNKNOWN = {"usd": None, "gpu_hours": None, "wall_seconds": None}


def sweep(**sections: object) -> Sweep:
    fields: dict[str, object] = {
        "apiVersion": "duchenne/v1",
        "kind": "Sweep",
        "metadata": {"name": "a"},
        "data": {"uri": "builtin://yeast"},
        "budget": {"wall_seconds": 1e9},
    }
    return load_sweep_text(yaml.safe_dump(fields | sections))


def test_the_document_of_plan() -> None:
    document = plan(sweep(budget={"usd": 5, "wall_seconds": 60})).as_json()
    assert json.loads(json.dumps(document)) == {
        "trials": 1,
        "fold_jobs": 18,
        "worst": {"usd": 5.0, "gpu_hours": None, "wall_seconds": 60.0},
        "expected": UNKNOWN,
    }


def test_expected_amounts_follow_the_measured_seconds() -> None:
    """9 search jobs of 100 s and 9 evaluation jobs of 300 s, two at a time, on half a GPU and 2 cores each."""
    priced = sweep(folds={"resources": {"cpu": 2, "gpu": 0.5}}, prices={"cpu_hour_usd": 0.1, "gpu_hour_usd": 2})
    estimate = Estimate(search_job_seconds=100, evaluation_job_seconds=300, parallel_jobs=2, startup_seconds=36)
    expected = plan(priced, estimate).expected
    assert expected.wall_seconds == pytest.approx(36 + 3600 / 2)
    assert expected.gpu_hours == pytest.approx((3600 + 2 * 36) / 3600 * 0.5)
    assert expected.usd == pytest.approx(1.02 * (2 * 0.1 + 0.5 * 2))


def test_workers_of_a_fold_are_paid_each() -> None:
    estimate = Estimate(100, 300, parallel_jobs=1)
    one = plan(sweep(folds={"resources": {"gpu": 1}}), estimate).expected
    four = plan(sweep(folds={"resources": {"gpu": 1}, "workers_per_fold": 4}), estimate).expected
    assert one.gpu_hours is not None
    assert four.gpu_hours == pytest.approx(4 * one.gpu_hours)
    assert four.wall_seconds == one.wall_seconds


def test_expected_is_capped_by_the_budget() -> None:
    expected = plan(sweep(budget={"wall_seconds": 10}), Estimate(100, 300, parallel_jobs=2)).expected
    assert expected == Amounts(usd=None, gpu_hours=0.0, wall_seconds=10.0)


def test_without_prices_the_dollars_are_unknown() -> None:
    assert plan(sweep(), Estimate(1, 1, parallel_jobs=1)).expected.usd is None


def test_successive_halving_runs_a_share_of_the_epochs() -> None:
    space = {"loss.dice": {"uniform": [0, 1]}}
    halved = sweep(
        training={"epochs": 9},
        search={"space": space, "trials": 3, "scheduler": {"name": "asha", "reduction_factor": 3}},
    )
    # Rungs 1, 3, 9: all run 1 epoch, a third 2 more, a ninth 6 more.
    assert share_of_epochs(halved) == pytest.approx((1 + 2 / 3 + 6 / 9) / 9)
    assert share_of_epochs(sweep(training={"epochs": 9})) == 1.0


@pytest.mark.parametrize("wrong", [(-1.0, 1.0, 1), (1.0, -1.0, 1), (1.0, 1.0, 0)])
def test_an_estimate_must_make_sense(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="must hold, but got"):
        Estimate(*wrong)
