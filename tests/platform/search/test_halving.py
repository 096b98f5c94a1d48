"""Who goes on from a rung, worked by hand."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.search.halving import Halving, MedianRule, NoStopping, stopping_rule
from duchenne.search.judge import Judge, Report
from duchenne.search.racing import Scored
from duchenne.spec.search import Asha, Fifo, MedianStopping, Racing


def test_the_first_goes_on_and_then_one_in_so_many() -> None:
    rule = Halving(3)
    heard = [rule.goes_on(trial, 1, score) for trial, score in enumerate((0.5, 0.4, 0.6, 0.55, 0.5, 0.58, 0.51))]
    # Of 2 and of 3 one goes on; of 4 two do, and 0.55 is second; of 5 two, and 0.5 is third; of 7 three, and 0.51 is
    # fourth.
    assert heard == [True, False, True, True, False, True, False]


def test_rungs_are_apart_and_a_row_that_comes_twice_counts_once() -> None:
    rule = Halving(2)
    assert rule.goes_on(0, 1, 0.9)
    assert rule.goes_on(0, 1, 0.9)
    assert rule.goes_on(1, 2, 0.1)
    assert rule.passing(2, 1) == 1
    assert not rule.goes_on(2, 1, 0.8)
    assert rule.passing(3, 1) == 2  # of 3, rounded up
    assert rule.goes_on(3, 1, 0.85)  # second of 3
    assert rule.passing(4, 1) == 2
    assert not rule.goes_on(4, 1, 0.84)  # third of 4


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=60), factor=st.integers(2, 5))
@settings(max_examples=50, deadline=None)
def test_the_best_so_far_always_goes_on(scores: list[float], factor: int) -> None:
    rule = Halving(factor)
    for trial, score in enumerate(scores):
        goes_on = rule.goes_on(trial, 1, score)
        if score >= max(scores[: trial + 1]):
            assert goes_on


def test_the_median_rule_compares_a_best_with_others_running_means() -> None:
    rule = MedianRule()
    for trial, scores in enumerate(((0.4, 0.6), (0.5, 0.7), (0.3, 0.5))):
        for rung, score in enumerate(scores, start=1):
            assert rule.goes_on(trial, rung, score)
    # Means to rung 2: 0.5, 0.6, 0.4; the median is 0.5.
    assert rule.goes_on(3, 1, 0.45)
    assert not rule.goes_on(3, 2, 0.48)
    assert rule.goes_on(4, 2, 0.5)


def test_each_scheduler_has_its_rule() -> None:
    assert isinstance(stopping_rule(Asha(reduction_factor=4)), Halving)
    assert isinstance(stopping_rule(MedianStopping()), MedianRule)
    assert isinstance(stopping_rule(Fifo()), NoStopping)


def test_a_halved_trial_is_taken_to_have_gained_what_whole_ones_did() -> None:
    judge = Judge(Asha(reduction_factor=2), 2)

    def hear(trial: int, rung: int, score: float, last: bool = False) -> float | None:
        return judge.hear(Report(trial, rung, [Scored(score), Scored(score)], last)).estimate

    assert hear(0, 1, 0.5) is None
    assert hear(1, 1, 0.4) == 0.4  # nobody knows better yet
    assert hear(0, 2, 0.8, last=True) is None
    assert hear(2, 1, 0.3) == 0.3 + (0.8 - 0.5)


def test_a_judge_halves_whole_trials_and_races_parts_of_them() -> None:
    judge = Judge(Asha(reduction_factor=2), 3, Racing(min_folds=1))

    def hear(trial: int, values: tuple[float, ...], last: bool = False) -> tuple[bool, bool]:
        verdict = judge.hear(Report(trial, 1, [Scored(value) for value in values], last))
        return verdict.goes_on, verdict.reason is not None

    for trial, level in enumerate((0.8, 0.81, 0.79)):
        for count in (1, 2, 3):
            hear(trial, tuple(level + 0.01 * (at + trial) for at in range(count)))
    assert hear(3, (0.1,)) == (True, False)  # one fold and few pairs: not certain enough
    assert hear(3, (0.1, 0.12)) == (False, True)  # raced out
    assert hear(4, (0.8, 0.805, 0.81)) == (False, False)  # halved
    assert hear(4, (0.1, 0.1, 0.1), last=True) == (True, False)  # nothing comes after the last rung
