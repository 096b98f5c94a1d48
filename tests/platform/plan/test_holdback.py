"""What is held back for the evaluation: counted from the file, estimated from epochs, less as it is done."""

from __future__ import annotations

import pytest
import yaml

from duchenne.plan.holdback import MARGIN, EvaluationNeed, HoldBack, evaluation_need
from duchenne.spec import Sweep, load_sweep_text


def sweep(**sections: object) -> Sweep:
    fields: dict[str, object] = {
        "apiVersion": "duchenne/v1",
        "kind": "Sweep",
        "metadata": {"name": "a"},
        "data": {"uri": "builtin://yeast"},
        "budget": {"wall_seconds": 1e6},
        "training": {"epochs": 10},
    }
    return load_sweep_text(yaml.safe_dump(fields | sections))


def test_the_need_is_every_fold_and_seed_with_the_most_epochs() -> None:
    need = evaluation_need(
        sweep(
            folds={"count": 3, "inner": 4},
            seeds=2,
            comparators=["vmnc", "logistic_regression", {"name": "longer", "change": {"training.epochs": 30}}],
            search={"space": {"training.epochs": {"randint": [5, 21]}}, "trials": 2},
        ),
        workers=2,
    )
    assert (need.jobs, need.epochs, need.workers) == (6, 20, 2)
    assert sorted(need.comparators) == [20] * 6 + [30] * 6  # scikit-learn's have no epochs
    assert need.growth == pytest.approx(4 / 3)


def test_a_holdout_trains_on_the_validation_rows_too() -> None:
    folds = {"method": "holdout", "test": 0.2, "validation": 0.3}
    assert evaluation_need(sweep(folds=folds), workers=1).growth == pytest.approx(0.8 / 0.5)


NEED = EvaluationNeed(jobs=4, epochs=10, comparators=(10, 10), growth=1.5, workers=2)


def test_the_dearest_trial_counts_until_one_is_selected_and_then_its_own_pace() -> None:
    hold = HoldBack(NEED)
    assert not hold.measured
    for trial, seconds in ((0, 1.0), (1, 4.0)):
        hold.measure("search", trial, "monet", seconds + 2.0, first=True)  # two seconds to load the rows
        hold.measure("search", trial, "monet", seconds, first=False)
    assert hold.measured
    assert hold.share("evaluation").worker_seconds == pytest.approx(4 * 1.5 * (2 + 10 * 4))
    assert hold.share("comparator").worker_seconds == pytest.approx(2 * 1.5 * (2 + 10 * 4))
    for fold in range(4):
        hold.expect("evaluation", fold, 0, "monet", 10)
    assert hold.share("evaluation").worker_seconds == pytest.approx(4 * 1.5 * (2 + 10 * 1))


def test_what_is_done_is_held_no_longer() -> None:
    hold = HoldBack(NEED)
    for _ in range(3):
        hold.measure("search", 0, "monet", 1.0, first=False)
    for fold in range(4):
        hold.expect("evaluation", fold, 0, "monet", 10)
    before = hold.share("evaluation")
    hold.advance("evaluation", 0)
    assert hold.share("evaluation").worker_seconds == pytest.approx(before.worker_seconds - 1.5)
    for fold in range(4):
        hold.expect("evaluation", fold, 0, "monet", 0)
    assert hold.held("evaluation").worker_seconds == 0.0


def test_the_margin_and_the_last_lease_are_held_on_top() -> None:
    hold = HoldBack(NEED)
    for _ in range(3):
        hold.measure("search", 0, "monet", 1.0, first=False)
    share, held = hold.share("evaluation"), hold.held("evaluation")
    assert held.worker_seconds == pytest.approx(share.worker_seconds * MARGIN + 15)
    assert hold.held("comparator").worker_seconds == pytest.approx(MARGIN * 2 * 1.5 * 10)
    assert held.wall_seconds >= share.worker_seconds / 2


def test_nothing_is_estimated_from_nothing() -> None:
    with pytest.raises(ValueError, match="got none"):
        HoldBack(NEED).share("evaluation")


def test_a_trial_that_has_only_loaded_yet_is_not_taken_for_a_dear_one() -> None:
    hold = HoldBack(EvaluationNeed(jobs=10, epochs=500, comparators=(), growth=1.0, workers=1))
    hold.measure("search", 0, "monet", 2.0, first=True)
    hold.measure("search", 1, "monet", 2.0, first=True)
    hold.measure("search", 1, "monet", 0.1, first=False)
    assert hold.share("evaluation").worker_seconds == pytest.approx(10 * (1.9 + 50.0))


def test_one_slow_epoch_does_not_make_all_of_them_slow() -> None:
    hold = HoldBack(EvaluationNeed(jobs=1, epochs=100, comparators=(), growth=1.0, workers=1))
    for seconds in (5.0, *[0.1] * 20):
        hold.measure("search", 0, "monet", seconds, first=False)
    assert hold.share("evaluation").worker_seconds == pytest.approx(10.0)
