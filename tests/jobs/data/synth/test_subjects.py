"""Who is drawn, what they do, and how coders err."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne_jobs.data.synth.actions import POSITIVE, perform
from duchenne_jobs.data.synth.anatomy import BIASES, LIKES, make_subject, subject_names
from duchenne_jobs.data.synth.annotation import noisy_intensities, noisy_occurrences, uncoded
from duchenne_jobs.data.synth.face import landmarks
from duchenne_jobs.data.synth.units import BP4D_AUS, CODED, NUMBERS


def labels(like: str, numbers: tuple[int, ...], frames: int = 200, seed: int = 0) -> np.ndarray:
    """(subjects * frames, T) of everyone's flawless labels."""
    people = [make_subject(like, index, seed) for index in range(len(subject_names(like)))]
    return np.concatenate([perform(like, frames, one.seed).intensities(numbers) >= POSITIVE for one in people])


def phi(first: np.ndarray, second: np.ndarray) -> float:
    """Phi coefficient of two binary series: their correlation."""
    return float(np.corrcoef(first, second)[0, 1])


def test_the_subjects_are_those_of_the_published_folds() -> None:
    assert len(subject_names("disfa")) == 27
    assert subject_names("bp4d") == (*(f"F{i:03d}" for i in range(1, 24)), *(f"M{i:03d}" for i in range(1, 19)))


def test_a_subject_is_a_function_of_dataset_index_and_seed() -> None:
    first, again = make_subject("disfa", 3, 7), make_subject("disfa", 3, 7)
    assert np.array_equal(first.points, again.points)
    assert first.skin == again.skin
    others = [make_subject("disfa", 4, 7), make_subject("disfa", 3, 8), make_subject("bp4d", 3, 7)]
    assert all(not np.array_equal(first.points, other.points) for other in others)


def test_faces_at_rest_mislead() -> None:
    """Some resting brows look raised: as high above the eyes as others' when they do raise them."""
    people = [make_subject("disfa", index, 0) for index in range(27)]
    assert {one.bias for one in people} == set(BIASES)
    still = np.zeros(len(NUMBERS))
    raised = still.copy()
    raised[[NUMBERS.index(1), NUMBERS.index(2)]] = POSITIVE

    def height(one: object, activity: np.ndarray) -> float:
        points = landmarks(one, activity)  # type: ignore[arg-type]
        return float(points[36:48, 1].mean() - points[17:27, 1].mean())

    biased = [height(one, still) for one in people if one.bias == "raised brows"]
    plain = [one for one in people if one.bias == "none"]
    assert np.mean(biased) > np.mean([height(one, raised) for one in plain])
    assert min(biased) > np.mean([height(one, still) for one in plain])


@pytest.mark.parametrize("seed", range(5))
def test_ten_subjects_already_show_raised_brows(seed: int) -> None:
    biases = [make_subject("disfa", index, seed).bias for index in range(10)]
    assert biases.count("raised brows") == 2
    assert set(biases) == set(BIASES)


@pytest.mark.parametrize("like", LIKES)
def test_units_depend_on_each_other_as_in_the_literature(like: str) -> None:
    seen = dict(zip(NUMBERS, labels(like, NUMBERS).T, strict=True))
    assert phi(seen[6], seen[12]) > 0.3
    assert phi(seen[1], seen[2]) > 0.5
    assert phi(seen[25], seen[26]) > 0.4
    assert phi(seen[1], seen[4]) < -0.05
    assert phi(seen[24], seen[25]) < 0


@pytest.mark.parametrize("like", LIKES)
def test_every_coded_unit_occurs_and_none_is_the_rule(like: str) -> None:
    shares = labels(like, CODED[like], frames=100).mean(axis=0)
    assert (shares > 0.02).all(), dict(zip(CODED[like], shares.round(3), strict=True))
    assert (shares < 0.6).all()


def test_a_dropped_jaw_parts_the_lips() -> None:
    activity = np.concatenate([perform("disfa", 400, seed).activity for seed in range(20)])
    jaw, lips = activity[:, NUMBERS.index(26)], activity[:, NUMBERS.index(25)]
    assert jaw.max() > 2
    assert (lips >= 0.79 * jaw).all()


def test_events_come_and_go_smoothly() -> None:
    """The fastest onset takes three frames; what gives way to a stronger opponent may fall faster."""
    steps = np.concatenate([np.abs(np.diff(perform("disfa", 300, seed).activity, axis=0)) for seed in range(60)])
    moving = steps[steps > 0.01]
    assert np.median(moving) < 0.6
    assert (steps > 2.6).mean() < 1e-3


@given(seed=st.integers(0, 2**63 - 1), frames=st.integers(1, 300), like=st.sampled_from(LIKES))
@settings(max_examples=25, deadline=None)
def test_a_performance_is_within_bounds_and_repeatable(seed: int, frames: int, like: str) -> None:
    shot = perform(like, frames, seed)
    assert shot.activity.shape == (frames, len(NUMBERS))
    assert shot.activity.min() >= 0
    assert shot.activity.max() <= 5
    assert np.abs(shot.turn).max() < 1.0
    assert np.array_equal(shot.activity, perform(like, frames, seed).activity)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3])
def test_coders_err_at_the_stated_rate(rate: float) -> None:
    random = np.random.default_rng(1)
    clean = random.integers(0, 6, (4000, 12)).astype(np.int8)
    noisy = noisy_intensities(clean, rate, random)
    wrong = ((noisy >= POSITIVE) != (clean >= POSITIVE)).mean()
    margin = 4 * np.sqrt(rate * (1 - rate) / clean.size)
    assert abs(wrong - rate) <= margin
    assert noisy.min() >= 0
    assert noisy.max() <= 5
    assert (noisy == clean).mean() == pytest.approx(1 - wrong)
    present = (clean >= POSITIVE).astype(np.int8)
    assert abs((noisy_occurrences(present, rate, random) != present).mean() - rate) <= margin


def test_some_codes_are_missing_and_most_are_not() -> None:
    random = np.random.default_rng(2)
    missing = np.concatenate([uncoded(12, BP4D_AUS, random) for _ in range(200)])
    assert 0.03 < missing.mean() < 0.15
