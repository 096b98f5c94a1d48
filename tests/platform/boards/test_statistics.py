"""The bootstrap: worked by hand, its invariants, and whether its intervals cover what they should.

Shapes: N subjects, T tasks, S seeds, E entries, R resamples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.boards import (
    Bootstrap,
    EntryCounts,
    FoldCounts,
    RankInterval,
    bootstrap_f1,
    paired_difference,
    tie_groups,
)
from duchenne.boards import statistics as module

MakeCounts = Callable[..., EntryCounts]


def random_counts(
    draw: int, subjects: int = 12, tasks: int = 3, seeds: int = 2, folds: int = 3, skill: float = 0.7
) -> EntryCounts:
    """Labels depend on the shape alone, so that entries of one shape can be paired; predictions on `draw`."""
    labels = np.random.default_rng(subjects * 1000 + tasks)
    predict = np.random.default_rng(draw)
    made = []
    for fold in range(folds):
        positive = labels.integers(1, 20, (subjects, tasks))
        negative = labels.integers(1, 20, (subjects, tasks))
        tp = predict.binomial(positive, skill, (seeds, subjects, tasks))
        tn = predict.binomial(negative, skill, (seeds, subjects, tasks))
        names = tuple(f"s{index:03d}" for index in range(subjects))
        made.append(FoldCounts(fold, names, tuple(range(seeds)), tp, negative - tn, positive - tp, tn))
    return EntryCounts(tuple(f"AU{task}" for task in range(tasks)), tuple(made))


def slow_f1(counts: EntryCounts, chosen: list[list[int]]) -> float:
    """The number, one subject, task, seed and fold at a time; `chosen` lists the drawn subjects of each fold."""
    per_fold = []
    for fold, drawn in zip(counts.folds, chosen, strict=True):
        per_seed = []
        for seed, _ in enumerate(fold.seeds):
            per_task = []
            for task, _ in enumerate(counts.tasks):
                tp = sum(int(fold.tp[seed, subject, task]) for subject in drawn)
                wrong = sum(int(fold.fp[seed, subject, task] + fold.fn[seed, subject, task]) for subject in drawn)
                per_task.append(2 * tp / (2 * tp + wrong) if tp + wrong else 0.0)
            per_seed.append(sum(per_task) / len(per_task))
        per_fold.append(sum(per_seed) / len(per_seed))
    return sum(per_fold) / len(per_fold)


def test_the_number_worked_by_hand(make_counts: MakeCounts) -> None:
    counts = make_counts(
        [
            (["a", "b"], [[3, 0], [1, 0]], [[1, 0], [0, 0]], [[0, 0], [1, 0]]),
            (["c", "d"], [[0, 2], [0, 2]], [[1, 0], [0, 0]], [[0, 0], [1, 4]]),
        ]
    )
    # Fold 0: AU0 2 * 4 / (8 + 1 + 1) = 0.8, AU1 undefined = 0. Fold 1: AU0 0 / 2 = 0, AU1 8 / (8 + 4) = 2 / 3.
    result = bootstrap_f1(counts)
    assert result.mean == pytest.approx((0.8 / 2 + 2 / 3 / 2) / 2)
    assert result.task_mean.tolist() == pytest.approx([0.4, 1 / 3])


def test_every_resample_of_three_subjects_is_what_it_should_be(make_counts: MakeCounts) -> None:
    # Two of three are drawn. aa, ac, ca: 1; bb, bc, cb, cc: 0 (cc: undefined); ab, ba: 2 / (2 + 1).
    counts = make_counts([(["a", "b", "c"], [[1], [0], [0]], [[0], [1], [0]], [[0], [0], [0]])])
    samples = bootstrap_f1(counts, resamples=4000).samples
    values, often = np.unique(samples.round(9), return_counts=True)
    assert values.tolist() == pytest.approx([0, 2 / 3, 1])
    assert np.abs(often / 4000 - [4 / 9, 2 / 9, 3 / 9]).max() < 0.03


@pytest.mark.parametrize("chunk", [7, 4_000_000])
def test_the_matmul_agrees_with_the_plain_loop(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    counts = random_counts(5, subjects=6, folds=2)
    result = bootstrap_f1(counts, resamples=20, seed=3, stream="board")
    everyone = [list(range(6))] * 2
    assert result.mean == pytest.approx(slow_f1(counts, everyone), abs=1e-12)
    weights = [np.concatenate(list(module.resample_weights(6, 20, fold, 3, "board"))) for fold in (0, 1)]
    for resample in range(20):
        drawn = [np.repeat(np.arange(6), fold[resample].astype(int)).tolist() for fold in weights]
        assert [len(fold) for fold in drawn] == [5, 5]
        assert result.samples[resample] == pytest.approx(slow_f1(counts, drawn), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 15), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_intervals_hold_their_estimate_and_stay_in_range(
    draw: int, subjects: int, tasks: int, seeds: int, folds: int
) -> None:
    result = bootstrap_f1(random_counts(draw, subjects, tasks, seeds, folds), resamples=100)
    assert result.ci_low is not None
    assert result.ci_high is not None
    assert 0 <= result.ci_low <= result.mean <= result.ci_high <= 1
    assert (result.task_low <= result.task_mean).all()
    assert (result.task_mean <= result.task_high).all()
    assert result.task_mean.mean() == pytest.approx(result.mean, abs=1e-12)
    assert ((result.samples >= 0) & (result.samples <= 1)).all()


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_folds_seeds_and_tasks_changes_nothing(draw: int, shuffle: object) -> None:
    counts = random_counts(draw)
    folds, tasks, seeds = list(counts.folds), list(range(3)), list(range(2))
    for order in (folds, tasks, seeds):
        shuffle.shuffle(order)  # type: ignore[attr-defined]

    def permuted(fold: FoldCounts) -> FoldCounts:
        parts = [part[seeds][:, :, tasks] for part in (fold.tp, fold.fp, fold.fn, fold.tn)]
        return FoldCounts(fold.fold, fold.subjects, fold.seeds, *parts)

    moved = EntryCounts(tuple(counts.tasks[task] for task in tasks), tuple(permuted(fold) for fold in folds))
    first, second = bootstrap_f1(counts, resamples=50), bootstrap_f1(moved, resamples=50)
    assert second.mean == pytest.approx(first.mean, abs=1e-12)
    np.testing.assert_allclose(second.samples, first.samples, atol=1e-12)
    np.testing.assert_allclose(second.task_low, first.task_low[tasks], atol=1e-12)


def test_draws_depend_on_the_stream_and_the_seed_only() -> None:
    counts = random_counts(1)
    again = bootstrap_f1(counts, stream="x").samples
    assert (bootstrap_f1(counts, stream="x").samples == again).all()
    assert (bootstrap_f1(counts, stream="y").samples != again).any()
    assert (bootstrap_f1(counts, stream="x", seed=1).samples != again).any()


def test_folds_are_drawn_independently() -> None:
    first, second = (np.concatenate(list(module.resample_weights(8, 2000, fold, 0, ""))) for fold in (0, 1))
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.1
    assert first.mean() == pytest.approx(7 / 8)


def test_pairing_cancels_what_entries_share() -> None:
    strong = random_counts(1, subjects=20, skill=0.8)
    # One frame a subject and task of one seed and fold: a difference smaller than either interval, and certain in sign.
    fold = strong.folds[0]
    tp, fn = fold.tp.copy(), fold.fn.copy()
    hit = tp > 0
    hit[1:] = False
    tp[hit] -= 1
    fn[hit] += 1
    weaker = EntryCounts(
        strong.tasks, (FoldCounts(0, fold.subjects, fold.seeds, tp, fold.fp, fn, fold.tn), *strong.folds[1:])
    )
    a, b = bootstrap_f1(strong), bootstrap_f1(weaker)
    difference = paired_difference(a, b)
    assert difference.mean == pytest.approx(a.mean - b.mean)
    assert difference.ci_low is not None
    assert difference.p_value is not None
    assert difference.ci_low > 0
    assert difference.p_value == pytest.approx(2 / 1001)
    assert a.ci_low is not None
    assert a.ci_low < b.mean, "unpaired, the intervals overlap"
    assert tie_groups({"a": a, "b": b}) == {"a": RankInterval(1, 1), "b": RankInterval(2, 2)}


@given(st.integers(0, 10_000), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_identical_entries_tie(draw: int, entries: int) -> None:
    same = bootstrap_f1(random_counts(draw), resamples=60)
    ranks = tie_groups({f"e{index}": same for index in range(entries)})
    assert set(ranks.values()) == {RankInterval(1, entries)}
    assert paired_difference(same, same).p_value == 1.0


@given(st.lists(st.integers(0, 200), min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_ranks_are_consistent_and_do_not_depend_on_the_order(draws: list[int], shuffle: object) -> None:
    entries = {str(draw): bootstrap_f1(random_counts(draw, skill=0.5 + draw / 500), resamples=80) for draw in draws}
    ranks = tie_groups(entries)
    names = list(entries)
    shuffle.shuffle(names)  # type: ignore[attr-defined]
    assert tie_groups({name: entries[name] for name in names}) == ranks
    for name, held in ranks.items():
        assert 1 <= held.rank_low <= held.rank_high <= len(entries)
        position = 1 + sum(other.mean > entries[name].mean for other in entries.values())
        assert held.rank_low <= position <= held.rank_high
    assert min(held.rank_low for held in ranks.values()) == 1


def test_ranks_worked_by_hand() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.01, 1000)

    def entry(mean: float, own: float) -> Bootstrap:
        samples = mean + noise + generator.normal(0, own, 1000)
        nothing = np.zeros(1)
        return Bootstrap(mean, mean - 0.1, mean + 0.1, samples, ("AU1",), nothing, nothing, nothing)

    ranks = tie_groups({"a": entry(0.60, 0.001), "b": entry(0.599, 0.001), "c": entry(0.50, 0.001)})
    assert ranks == {"a": RankInterval(1, 2), "b": RankInterval(1, 2), "c": RankInterval(3, 3)}
    assert tie_groups({}) == {}
    assert tie_groups({"a": entry(0.5, 0.1)}) == {"a": RankInterval(1, 1)}


def test_one_subject_in_a_fold_says_nothing(make_counts: MakeCounts) -> None:
    right = bootstrap_f1(make_counts([(["a"], [[5]], [[0]], [[0]])]))
    wrong = bootstrap_f1(make_counts([(["a"], [[0]], [[0]], [[5]])]))
    assert (right.mean, right.ci_low, right.ci_high) == (1.0, None, None)
    assert np.isnan(right.task_low).all()
    assert paired_difference(right, wrong).p_value is None
    assert set(tie_groups({"right": right, "wrong": wrong}).values()) == {RankInterval(1, 2)}


def test_what_cannot_be_paired_or_drawn_is_refused() -> None:
    counts = random_counts(0)
    with pytest.raises(ValueError, match="resamples"):
        tie_groups({"a": bootstrap_f1(counts, resamples=10), "b": bootstrap_f1(counts, resamples=20)})
    for options in ({"resamples": 0}, {"alpha": 0.0}, {"alpha": 1.0}):
        with pytest.raises(ValueError, match="must hold"):
            bootstrap_f1(counts, **options)  # type: ignore[arg-type]


def simulated(generator: np.random.Generator, subjects: int, skill: float) -> EntryCounts:
    """Subjects of one population: each has a skill of its own around `skill`, and labels of its own."""
    made = []
    for fold in range(3):
        shape = (1, subjects, 2)
        own = np.clip(generator.normal(skill, 0.08, (1, subjects, 1)), 0, 1)
        positive, negative = generator.poisson(20, shape) + 1, generator.poisson(30, shape)
        tp, tn = generator.binomial(positive, own), generator.binomial(negative, own)
        names = tuple(f"s{index:05d}" for index in range(subjects))
        made.append(FoldCounts(fold, names, (0,), tp, negative - tn, positive - tp, tn))
    return EntryCounts(("AU1", "AU2"), tuple(made))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    truth = bootstrap_f1(simulated(generator, 20_000, 0.75), resamples=1).mean
    hits = 0
    for draw in range(300):
        result = bootstrap_f1(simulated(generator, 30, 0.75), resamples=300, seed=draw)
        assert result.ci_low is not None
        assert result.ci_high is not None
        hits += result.ci_low <= truth <= result.ci_high
    # 95% asked, 300 draws: standard deviation 1.3%; a percentile interval of 30 subjects a fold runs a little low.
    assert 0.90 <= hits / 300 <= 0.985


def test_equal_entries_are_told_apart_about_as_rarely_as_asked() -> None:
    generator = np.random.default_rng(2)
    wrong = 0
    for draw in range(200):
        entries = {str(index): simulated(generator, 30, 0.75) for index in range(4)}
        ranks = tie_groups({name: bootstrap_f1(counts, resamples=300, seed=draw) for name, counts in entries.items()})
        wrong += any(held != RankInterval(1, 4) for held in ranks.values())
    # Six pairs at once: without a correction about one board in five would tell two of them apart.
    assert wrong / 200 <= 0.10


def test_a_clear_winner_is_seen() -> None:
    generator = np.random.default_rng(3)
    entries = {"good": simulated(generator, 30, 0.85), **{str(i): simulated(generator, 30, 0.7) for i in range(3)}}
    ranks = tie_groups({name: bootstrap_f1(counts) for name, counts in entries.items()})
    assert ranks["good"] == RankInterval(1, 1)
    assert all(ranks[str(index)].rank_low >= 2 for index in range(3))


def test_all_resamples_of_three_subjects_average_to_the_exact_mean(make_counts: MakeCounts) -> None:
    counts = make_counts([(["a", "b", "c"], [[4], [1], [0]], [[0], [2], [1]], [[1], [0], [3]])])
    exact = np.mean([slow_f1(counts, [list(drawn)]) for drawn in itertools.product(range(3), repeat=2)])
    assert bootstrap_f1(counts, resamples=20_000).samples.mean() == pytest.approx(exact, abs=0.01)
