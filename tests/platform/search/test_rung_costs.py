"""Rungs in dollars: dear trials get fewer epochs, all have spent alike, and a resumed trial goes the same way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.search.rung_costs import CostGoals, EpochGoals, Goals, Meter, Rung, level
from duchenne.spec.search import Asha

COST = Asha(rungs="usd", grace=1.0, reduction_factor=3)


def climbed(goals: Goals, epoch_seconds: float | None) -> list[Rung]:
    """The rungs of a trial whose epochs all take so long."""
    rungs: list[Rung] = []
    while not rungs or rungs[-1].epoch < goals.end:
        until: int | None = goals.begin()
        while until is not None:
            until = goals.further(epoch_seconds)
        rungs.append(goals.rung)
    return rungs


@given(pace=st.floats(0.001, 50.0), epochs=st.integers(1, 200))
@settings(max_examples=80, deadline=None)
def test_a_rung_is_reached_to_within_half_an_epoch_or_is_left_out(pace: float, epochs: int) -> None:
    rungs = climbed(CostGoals(COST, 1.0, epochs), pace)
    assert rungs[-1].epoch == epochs
    assert [rung.number for rung in rungs] == sorted({rung.number for rung in rungs})
    for rung in rungs:
        assert rung.spent == pytest.approx(pace * rung.epoch)
        assert rung.epoch in (epochs, min(2, epochs)) or rung.spent == pytest.approx(
            level(COST, rung.number), abs=pace / 2 + 1e-9
        )


def test_a_dear_trial_is_compared_after_fewer_epochs_at_equal_spend() -> None:
    cheap, dear = climbed(CostGoals(COST, 1.0, 100), 0.1), climbed(CostGoals(COST, 1.0, 100), 0.4)
    assert [rung.epoch for rung in cheap[:3]] == [10, 30, 90]
    assert [rung.epoch for rung in dear[:3]] == [2, 8, 22]
    assert [rung.number for rung in dear[:3]] == [1, 2, 3]


def test_a_trial_whose_first_epochs_cost_more_than_rungs_is_first_compared_higher_up() -> None:
    first = climbed(CostGoals(COST, 1.0, 100), 6.0)[0]
    assert (first.number, first.epoch, first.spent) == (3, 2, 12.0)  # above 9, below 27


def test_what_is_on_record_is_gone_to_as_it_was_and_then_on() -> None:
    """The clock of the first driver is not needed again: only where the rungs lay."""
    whole = climbed(CostGoals(COST, 1.0, 60), 0.25)
    resumed = CostGoals(COST, 1.0, 60, reached=whole[:2])
    again = [whole[0], whole[1]]
    for expected in again:
        assert resumed.begin() == expected.epoch
        assert resumed.further(None) is None
        assert resumed.rung == expected
    assert climbed(resumed, 0.25) == whole[2:]


def test_a_pace_that_changes_is_followed() -> None:
    meter = Meter()
    meter.ran(2, 1.0)
    assert meter.target(10.0, first=1, last=100) == 10
    meter.ran(10, 0.5)
    assert meter.spent == 6.0
    assert meter.target(10.0, first=1, last=100) == 18
    assert meter.target(6.2, first=1, last=100) is None
    assert Meter.at(Rung(2, 4, 2.0)) == Meter(4, 2.0, 0.5)


def test_epochs_of_an_earlier_driver_count_once_a_pace_is_known() -> None:
    """A driver was killed on the way to the first rung: its epochs are on record, what they took is not."""
    goals = CostGoals(COST, 1.0, 100)
    assert goals.begin() == 2
    assert goals.further(None) == 4  # on record as well
    assert goals.further(None) == 6
    assert goals.further(0.1) == 10
    assert goals.further(0.1) is None
    assert goals.rung == Rung(1, 10, pytest.approx(1.0))


def test_rungs_in_epochs_are_as_written_and_a_generation_is_one_of_them() -> None:
    goals = EpochGoals((2, 4, 9))
    assert [rung.epoch for rung in climbed(goals, None)] == [2, 4, 9]
    second = EpochGoals((2, 4, 9), generation=1)
    assert second.end == 4
    assert second.begin() == 4
    assert second.rung == Rung(2, 4)
