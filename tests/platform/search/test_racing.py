"""Fold racing: the level holds, most folds are saved, and the decision rests on paired differences alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from duchenne.search.judge import Judge, Report, waves
from duchenne.search.racing import Moderation, Race, Scored
from duchenne.search.spending import SPENDING, look_level
from duchenne.spec.search import Fifo, Racing, Spending

NOISE = 0.008  # standard deviation of a trial on a fold, beside what the fold does to all trials


def scored(values: Sequence[float]) -> list[Scored]:
    return [Scored(float(value)) for value in values]


def raced(scores: NDArray[np.float64], racing: Racing, at_once: int = 1) -> tuple[set[int], int]:
    """(trials that were stopped, fold jobs that ran) of a table of scores, trials x folds."""
    judge = Judge(Fifo(), scores.shape[1], racing)
    waiting, running = list(range(len(scores))), {}
    stopped: set[int] = set()
    jobs = 0
    while waiting or running:
        while waiting and len(running) < at_once:
            running[waiting.pop(0)] = 0
        for trial in list(running):
            running[trial] += 1
            jobs += 1
            verdict = judge.hear(Report(trial, 1, scored(scores[trial, : running[trial]]), last=True))
            if not verdict.goes_on:
                stopped.add(trial)
            if not verdict.goes_on or running[trial] == scores.shape[1]:
                del running[trial]
    return stopped, jobs


def draw(generator: np.random.Generator, means: NDArray[np.float64], folds: int, uneven: bool) -> NDArray[np.float64]:
    spread = NOISE * np.exp(generator.normal(0, 0.5, len(means))) if uneven else np.full(len(means), NOISE)
    return (
        means[:, None] + generator.normal(0, 0.02, folds) + spread[:, None] * generator.normal(size=(len(means), folds))
    )


@pytest.mark.parametrize("spending", list(SPENDING))
@pytest.mark.parametrize(("uneven", "at_once"), [(False, 1), (True, 1), (True, 12)])
def test_the_best_is_dropped_less_often_than_the_level(spending: Spending, uneven: bool, at_once: int) -> None:
    """The hardest case: all trials are alike, so that each seems worse than the luckiest."""
    generator = np.random.default_rng(0)
    racing = Racing(alpha=0.2, spending=spending, min_folds=1)
    dropped = [0 in raced(draw(generator, np.zeros(12), 6, uneven), racing, at_once)[0] for _ in range(150)]
    assert statistics.fmean(dropped) <= racing.alpha


def test_four_folds_in_ten_are_saved_and_the_best_is_selected_as_often() -> None:
    generator = np.random.default_rng(1)
    shares, hits, hits_of_all = [], [], []
    for _ in range(120):
        means = generator.normal(0, 0.02, 24)
        scores = draw(generator, means, 9, uneven=True)
        stopped, jobs = raced(scores, Racing())
        left = [trial for trial in range(24) if trial not in stopped]
        hits.append(max(left, key=lambda trial: scores[trial].mean()) == means.argmax())
        hits_of_all.append(scores.mean(axis=1).argmax() == means.argmax())
        shares.append(jobs / scores.size)
    assert statistics.fmean(shares) <= 0.6
    assert statistics.fmean(hits) >= statistics.fmean(hits_of_all) - 0.02


@given(alpha=st.floats(0.001, 0.49), looks=st.integers(1, 60), spending=st.sampled_from(list(SPENDING)))
@settings(max_examples=60, deadline=None)
def test_the_looks_together_spend_alpha(alpha: float, looks: int, spending: Spending) -> None:
    levels = [look_level(spending, alpha, look, looks) for look in range(1, looks + 1)]
    assert min(levels) >= 0
    assert sum(levels) == pytest.approx(alpha)


def test_a_look_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="count looks from 1"):
        look_level("pocock", 0.05, 3, 2)


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.1, 100.0))
@settings(max_examples=30, deadline=None)
def test_what_a_fold_does_to_all_trials_and_the_unit_do_not_matter(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 0.02, (8, 1)) + generator.normal(0, NOISE, (8, 5))
    folds = generator.integers(-3, 4, 5)
    assert raced(scores, Racing()) == raced(scale * (scores + folds), Racing())


def test_what_is_told_again_changes_nothing() -> None:
    """A resumed search shows the judge the same rows once more."""
    scores = draw(np.random.default_rng(3), np.linspace(0, 0.08, 6), 6, uneven=False)
    race = Race(Racing(), 6)
    for trial in range(1, 6):
        race.report(trial, scored(scores[trial]))
    race.report(0, scored(scores[0, :3]))
    before = race.look(0)
    for trial in range(1, 6):
        race.report(trial, scored(scores[trial]))
    race.report(0, scored(scores[0, :3]))
    assert before is not None
    assert race.look(0) == before
    assert before.stops
    assert before.rival == max(range(1, 6), key=lambda trial: scores[trial, :3].mean())


def test_nothing_is_tested_before_there_is_something_to_test() -> None:
    race = Race(Racing(min_folds=2), 4)
    race.report(0, scored([0.1, 0.1, 0.1]))
    assert race.look(0) is None  # no rival
    race.report(1, scored([0.9]))
    assert race.look(0) is None  # no rival with as many folds
    race.report(1, scored([0.9, 0.9]))
    race.report(2, scored([0.5]))
    assert race.look(2) is None  # fewer folds than min_folds
    race.report(2, scored([0.5, 0.5, 0.5, 0.5]))
    assert race.look(2) is None  # all folds ran: nothing is left to save
    with pytest.raises(ValueError, match="at most 4 folds"):
        race.report(3, scored([0.5] * 5))


def test_where_several_go_on_the_rival_is_the_last_of_them() -> None:
    race = Race(Racing(min_folds=1), 3)
    for trial, value in enumerate((0.9, 0.8, 0.7, 0.1)):
        race.report(trial, scored([value, value + 0.01 * trial]))
    test = race.look(3, passing=2)
    assert test is not None
    assert test.rival == 1
    assert race.look(0, passing=4) is None  # with fewer rivals than places it goes on


def test_subjects_that_differ_keep_a_trial_that_few_folds_would_stop() -> None:
    """Folds that happen to agree show no variance; the subjects behind them do."""
    generator = np.random.default_rng(5)

    def fold(mean: float, spread: float) -> Scored:
        parts = mean + spread * generator.normal(size=12)
        parts += mean - parts.mean()
        return Scored(mean, {f"s{position}": float(part) for position, part in enumerate(parts)})

    def look(spread: float) -> bool:
        race = Race(Racing(min_folds=2), 6)
        for trial in range(5):
            race.report(trial, [fold(0.6 - 0.0001 * trial * at, spread) for at in range(6)])
        race.report(9, [fold(0.55, spread), fold(0.55, spread)])
        test = race.look(9)
        assert test is not None
        return test.stops

    assert look(spread=0.01)
    assert not look(spread=0.5)


def test_the_reason_says_by_how_much() -> None:
    race = Race(Racing(), 4)
    for trial in range(1, 4):
        race.report(trial, scored([0.8, 0.81, 0.79, 0.8 + 0.001 * trial]))
    race.report(0, scored([0.1, 0.11]))
    test = race.look(0)
    assert test is not None
    assert test.reason.startswith("raced out after 2 folds: 0.7 below trial")
    assert race.estimate(0, test.rival) == pytest.approx(statistics.fmean([0.8, 0.81, 0.79, 0.803]) - 0.7, abs=1e-3)


@given(degrees=st.integers(1, 20), pairs=st.integers(3, 30), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_moderated_variance_lies_between_the_pairs_own_and_the_others(degrees: int, pairs: int, seed: int) -> None:
    others = np.random.default_rng(seed).chisquare(degrees, pairs) / degrees
    moderation = Moderation.of(list(others), [degrees] * pairs)
    own = 4.0
    variance, total = moderation.moderated(own, degrees)
    assert min(own, moderation.variance) <= variance <= max(own, moderation.variance)
    assert degrees <= total <= degrees * (pairs + 1)


def test_pairs_that_vary_alike_are_pooled_and_unlike_ones_count_for_little() -> None:
    alike = Moderation.of([1.0, 1.1, 0.9, 1.0], [8] * 4)
    assert (alike.variance, alike.degrees) == (pytest.approx(1.0), 32.0)
    unlike = Moderation.of([0.001, 10.0, 0.01, 100.0], [8] * 4)
    assert unlike.degrees < 2.0
    assert Moderation.of([], []) == Moderation()


def test_waves_hold_every_fold_once() -> None:
    assert waves(5, None) == (range(5),)
    assert waves(5, Racing(wave=2)) == (range(2), range(2, 4), range(4, 5))
