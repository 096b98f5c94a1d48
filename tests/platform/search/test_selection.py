"""Selection reads inner validation results only; each case is worked by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from duchenne.records import ResultRow, Trial
from duchenne.records.rows import TrialState
from duchenne.search.selection import NothingToSelect, select
from duchenne.spec import Sweep

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def sweep_with(selection: str = "shared", metric: str = "f1_macro") -> Sweep:
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s"},
            "data": {"uri": "builtin://yeast"},
            "search": {
                "space": {"training.batch_size": {"grid": [16, 32, 64]}},
                "algorithm": "grid",
                "metric": metric,
            },
            "folds": {"count": 2, "inner": 2, "selection": selection},
            "budget": {"wall_seconds": 60},
        }
    )


def trial(number: int, value: float | None, state: TrialState = "succeeded", rung: int = 1) -> Trial:
    return Trial(
        sweep="s",
        number=number,
        config={"training.batch_size": (16, 32, 64)[number]},
        state=state,
        value=value,
        rung=rung,
        error=None,
        created_at=NOW,
        started_at=NOW,
        ended_at=NOW,
    )


def row(number: int, fold: int, inner: int, value: float, phase: str = "search", epoch: int = 4) -> ResultRow:
    return ResultRow(
        trial=number,
        phase=phase,  # type: ignore[arg-type]
        fold=fold,
        seed=0,
        epoch=epoch,
        attempt=1,
        metrics={"f1_macro": value, "log_loss": 1 - value},
        method="monet",
        inner=inner if phase == "search" else None,
    )


def test_shared_selection_takes_the_best_mean_for_every_fold() -> None:
    selection = select(sweep_with(), [trial(0, 0.4), trial(1, 0.6), trial(2, 0.5)], [])
    assert [number for number, _ in selection.by_fold] == [1, 1]
    assert selection.values == (0.6, 0.6)
    assert selection.by_fold[0][1].training.batch_size == 32


def test_a_loss_is_minimised() -> None:
    selection = select(sweep_with(metric="log_loss"), [trial(0, 0.4), trial(1, 0.6)], [])
    assert selection.trials == (0,)


def test_a_tie_goes_to_the_earlier_trial() -> None:
    assert select(sweep_with(), [trial(2, 0.5), trial(1, 0.5)], []).trials == (1,)


def test_a_trial_that_was_stopped_early_does_not_beat_one_that_ran_to_the_end() -> None:
    trials = [trial(0, 0.9, "stopped", rung=1), trial(1, 0.5, rung=3)]
    assert select(sweep_with(), trials, []).trials == (1,)


def test_where_no_trial_ran_to_the_end_the_furthest_rung_decides() -> None:
    trials = [trial(0, 0.9, "stopped", rung=1), trial(1, 0.5, "stopped", rung=2), trial(2, 0.4, "stopped", rung=2)]
    assert select(sweep_with(), trials, []).trials == (1,)


def test_failed_trials_are_out() -> None:
    assert select(sweep_with(), [trial(0, 0.9, "failed"), trial(1, 0.1)], []).trials == (1,)


def test_per_fold_selection_looks_at_each_folds_own_inner_folds() -> None:
    rows = [
        *(row(0, 0, inner, value) for inner, value in enumerate((0.9, 0.7))),  # trial 0 is best on fold 0: 0.8
        *(row(0, 1, inner, value) for inner, value in enumerate((0.1, 0.1))),
        *(row(1, 0, inner, value) for inner, value in enumerate((0.6, 0.6))),
        *(row(1, 1, inner, value) for inner, value in enumerate((0.5, 0.7))),  # trial 1 on fold 1: 0.6
        row(0, 0, 0, 0.0, epoch=1),  # an earlier epoch does not count
    ]
    selection = select(sweep_with("per_fold"), [trial(0, 0.45), trial(1, 0.6)], rows)
    assert [number for number, _ in selection.by_fold] == [0, 1]
    assert selection.values == pytest.approx((0.8, 0.6))


@pytest.mark.parametrize("selection", ["shared", "per_fold"])
def test_results_on_test_folds_are_never_read(selection: str) -> None:
    rows = [row(number, fold, inner, 0.5 + number / 10) for number in (0, 1) for fold in (0, 1) for inner in (0, 1)]
    sealed = [row(0, fold, 0, 1.0, phase="evaluation") for fold in (0, 1)]
    with_sealed = select(sweep_with(selection), [trial(0, 0.5), trial(1, 0.6)], rows + sealed)
    assert with_sealed == select(sweep_with(selection), [trial(0, 0.5), trial(1, 0.6)], rows)
    assert with_sealed.trials == (1,)


def test_nothing_to_select_says_so() -> None:
    with pytest.raises(NothingToSelect, match="no trial has one"):
        select(sweep_with(), [trial(0, None, "failed")], [])
