"""Racing by rank, worked by hand."""

from __future__ import annotations

import pytest

from duchenne.search.judge import Judge, Report, waves
from duchenne.search.racing import Scored
from duchenne.search.rank_race import RankRace, rank_levels
from duchenne.spec.search import Asha, Fifo, Racing


def scored(*values: float) -> list[Scored]:
    return [Scored(value) for value in values]


def test_trials_are_compared_after_powers_of_the_factor() -> None:
    assert rank_levels(6, 1, 3) == (1, 3, 6)
    assert rank_levels(9, 1, 3) == (1, 3, 9)
    assert rank_levels(15, 2, 2) == (2, 4, 8, 15)
    assert rank_levels(3, 4, 2) == (3,)


def test_the_folds_that_lead_to_a_comparison_run_side_by_side() -> None:
    assert waves(6, Racing(rule="rank")) == (range(1), range(1, 3), range(3, 6))
    assert waves(6, Racing(rule="rank", wave=2)) == (range(2), range(2, 6))
    assert waves(5, Racing(wave=2)) == (range(2), range(2, 4), range(4, 5))
    assert waves(5, None) == (range(5),)


def test_one_in_so_many_goes_on_at_each_level() -> None:
    race = RankRace(2, 4)

    def drops(trial: int, *values: float) -> bool:
        race.report(trial, scored(*values))
        return race.dropped(trial) is not None

    assert not drops(0, 0.5)
    assert drops(1, 0.4)  # of 2 one goes on
    assert not drops(2, 0.45)  # of 3 two
    assert drops(3, 0.44)  # of 4 two, and it is third
    assert not drops(0, 0.5, 0.3)
    assert drops(2, 0.45, 0.33)  # a mean of 0.39 after 0.4, the only other that has two folds
    assert not drops(4, 0.1, 0.1, 0.1, 0.1)  # nothing is left to save


def test_the_reason_says_the_level_and_the_estimate_adds_what_later_folds_gave_whole_trials() -> None:
    race = RankRace(3, 3)
    race.report(0, scored(0.6, 0.5, 0.4))
    race.report(1, scored(0.8, 0.6, 0.4))
    for trial, first in ((0, 0.6), (1, 0.8)):
        race.report(trial, scored(first))
        assert race.dropped(trial) is None
    race.report(0, scored(0.6, 0.5, 0.4))  # 0.1 less than its first fold
    race.report(1, scored(0.8, 0.6, 0.4))  # 0.2 less
    race.report(2, scored(0.3))
    dropped = race.dropped(2)
    assert dropped is not None
    assert dropped.reason == "raced out after 1 of 3 folds: not among the best 1 that had as many"
    assert dropped.estimate == pytest.approx(0.3 - 0.15)


def test_a_judge_ranks_parts_of_trials_at_each_rung_apart() -> None:
    judge = Judge(Asha(reduction_factor=2), 3, Racing(rule="rank", reduction_factor=2))

    def goes_on(trial: int, rung: int, *values: float) -> bool:
        return judge.hear(Report(trial, rung, scored(*values), last=rung == 2)).goes_on

    assert goes_on(0, 1, 0.5)
    assert goes_on(0, 1, 0.5, 0.5)
    assert goes_on(0, 1, 0.5, 0.5, 0.5)
    assert goes_on(0, 2, 0.9)
    assert not goes_on(1, 1, 0.4)
    assert goes_on(2, 1, 0.6)
    assert not goes_on(2, 1, 0.6, 0.3)  # 0.45 after 0.5
    assert goes_on(3, 1, 0.7)


def test_what_a_ranked_trial_cost_the_search_is_known_to_who_learns() -> None:
    judge = Judge(Fifo(), 3, Racing(rule="rank"))
    for values in ((0.5,), (0.5, 0.7, 0.6)):
        assert judge.hear(Report(0, 1, scored(*values), last=True)).goes_on
    verdict = judge.hear(Report(1, 1, scored(0.2), last=True))
    assert (verdict.goes_on, verdict.estimate) == (False, pytest.approx(0.3))  # later folds gave trial 0 0.1 more
