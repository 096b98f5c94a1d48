"""Label smoothing against hand-worked examples (Tallec 2023, chapter 4)."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from duchenne_jobs.config import SmoothingConfig
from duchenne_jobs.losses import (
    LabelDependence,
    Smoother,
    asymmetric_smoothing,
    dependent_smoothing,
    label_smoothing,
    robin_hood_coefficients,
)

LABELS = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
UNIT = st.floats(0.0, 1.0, allow_nan=False)


def close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype))


def test_ls_moves_each_label_half_alpha_towards_the_other() -> None:
    close(label_smoothing(LABELS, 0.1), [[0.05, 0.95], [0.95, 0.05]])


def test_ls_takes_one_alpha_a_task() -> None:
    close(label_smoothing(LABELS, torch.tensor([0.0, 1.0])), [[0.0, 0.5], [1.0, 0.5]])


@settings(max_examples=40, deadline=None)
@given(alpha=UNIT, logit=st.floats(-5, 5), label=st.sampled_from([0.0, 1.0]))
def test_cross_entropy_of_ls_is_the_mixture_of_4_3(alpha: float, logit: float, label: float) -> None:
    def cross_entropy(target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(torch.tensor(logit, dtype=torch.float64), target)

    y = torch.tensor(label, dtype=torch.float64)
    uniform = (cross_entropy(torch.zeros_like(y)) + cross_entropy(torch.ones_like(y))) / 2
    close(cross_entropy(label_smoothing(y, alpha)), (1 - alpha) * cross_entropy(y) + alpha * uniform)


def test_vals_uniform_has_the_halves_and_published_has_not() -> None:
    close(asymmetric_smoothing(LABELS, 0.2, 0.5), [[0.25, 0.9], [0.9, 0.25]])
    close(asymmetric_smoothing(LABELS, 0.2, 0.5, mixing="published"), [[0.5, 0.8], [0.8, 0.5]])


def test_integer_labels_give_floating_targets() -> None:
    assert label_smoothing(torch.tensor([0, 1]), 0.5).tolist() == [0.25, 0.75]


def test_rhls_of_the_worked_example_balances_the_classes() -> None:
    frequency = torch.tensor([0.1, 0.9, 0.5], dtype=torch.float64)
    positive, negative = robin_hood_coefficients(frequency, beta=1.0)
    close(negative, [8 / 9, 0.0, 0.0])
    close(positive, [0.0, 8 / 9, 0.0])
    labels = (torch.arange(10)[:, None] < 10 * frequency).double()  # 1, 9 and 5 positives of 10
    close(asymmetric_smoothing(labels, positive, negative).mean(dim=0), [0.5, 0.5, 0.5])


def test_rhls_as_printed_does_not_balance() -> None:
    positive, negative = robin_hood_coefficients(torch.tensor([0.1], dtype=torch.float64), beta=1.0)
    labels = (torch.arange(10)[:, None] < 1).double()
    close(asymmetric_smoothing(labels, positive, negative, mixing="published").mean(dim=0), [0.9])


def test_rhls_of_a_class_that_never_occurs_is_finite() -> None:
    positive, negative = robin_hood_coefficients(torch.tensor([0.0, 1.0]), beta=0.5)
    assert negative.tolist() == [0.5, 0.0]
    assert positive.tolist() == [0.0, 0.5]


@settings(max_examples=40, deadline=None)
@given(frequency=UNIT, beta=UNIT)
def test_rhls_moves_the_mean_label_a_share_beta_towards_one_half(frequency: float, beta: float) -> None:
    f = torch.tensor(frequency, dtype=torch.float64)
    positive, negative = robin_hood_coefficients(f, beta)
    assert min(float(positive), float(negative)) == 0.0  # only the majority gives
    one, zero = asymmetric_smoothing(torch.tensor([1.0, 0.0], dtype=torch.float64), positive, negative)
    close(f * one + (1 - f) * zero, f + beta * (0.5 - f))


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(UNIT, min_size=1, max_size=5), positive=UNIT, negative=UNIT)
def test_targets_stay_probabilities(labels: list[float], positive: float, negative: float) -> None:
    for mixing in ("uniform", "published"):
        targets = asymmetric_smoothing(torch.tensor(labels, dtype=torch.float64), positive, negative, mixing)  # type: ignore[arg-type]
        assert bool(((targets >= 0) & (targets <= 1)).all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: label_smoothing(torch.tensor([-1.0]), 0.1),
            "labels must lie in [0, 1], but got -1; mask unknown labels before smoothing",
        ),
        (
            lambda: label_smoothing(LABELS, 1.5),
            "alpha_positive must lie in [0, 1], but got 1.5; it is a probability",
        ),
        (
            lambda: asymmetric_smoothing(LABELS, 0.0, float("nan")),
            "alpha_negative must lie in [0, 1], but got nan; it is a probability",
        ),
        (
            lambda: asymmetric_smoothing(LABELS, 0.0, 0.0, mixing="half"),  # type: ignore[arg-type]
            "mixing must be 'uniform' or 'published', but got 'half'",
        ),
        (lambda: robin_hood_coefficients(0.1, 1.5), "0 <= beta <= 1 must hold, but got 1.5"),
        (
            lambda: robin_hood_coefficients(torch.tensor([0.1, 2.0]), 0.5),
            "frequency must lie in [0, 1], but got 2; it is the share of positive labels",
        ),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("config", "targets"),
    [
        ({"name": "none"}, [[0.0, 1.0], [1.0, 0.0]]),
        ({"name": "ls"}, [[0.05, 0.95], [0.95, 0.05]]),
        ({"name": "vls", "alpha": 0.4}, [[0.2, 0.8], [0.8, 0.2]]),
        ({"name": "vals"}, [[0.25, 1.0], [1.0, 0.25]]),
        (
            {"name": "vals", "alpha_positive": 0.2, "alpha_negative": 0.5, "mixing": "published"},
            [[0.5, 0.8], [0.8, 0.5]],
        ),
        # f = (0.1, 0.9): a- of task 0 and a+ of task 1 are beta * 8/9, and half of it moves.
        ({"name": "rhls"}, [[1 / 9, 1 - 1 / 9], [1.0, 0.0]]),
        ({"name": "rhls", "beta": 1.0}, [[4 / 9, 1 - 4 / 9], [1.0, 0.0]]),
        ({"name": "rhls", "mixing": "ignore"}, [[0.0, 1.0], [1.0, 0.0]]),
    ],
)
def test_smoother_of_each_name_of_the_spec(config: dict[str, Any], targets: list[list[float]]) -> None:
    frequency = torch.tensor([0.1, 0.9], dtype=torch.float64)
    close(Smoother.from_config(SmoothingConfig(**config), frequency, LABELS.long())(LABELS), targets)


def test_dependent_smoothing_of_a_worked_example() -> None:
    # q = 0 in the first column: that negative stays, and a positive loses all of its alpha. q = 1/2 is eq. 4.7.
    noise = torch.tensor([[0.0, 0.5], [0.0, 0.5]], dtype=torch.float64)
    close(dependent_smoothing(LABELS, 0.2, 0.5, noise), [[0.0, 0.9], [0.8, 0.25]])
    half = torch.full_like(LABELS, 0.5)
    close(dependent_smoothing(LABELS, 0.2, 0.5, half), asymmetric_smoothing(LABELS, 0.2, 0.5))


def test_dependence_is_the_posterior_with_balanced_classes() -> None:
    # Counts of (y1, y2): 00 600, 01 200, 10 50, 11 150. p(y2 = 1 | y1 = 1) = 3/4 and p(y2 = 1 | y1 = 0) = 1/4, so that
    # q1(y2 = 1) = (3/4) / (3/4 + 1/4) = 3/4; p(y1 = 1 | y2 = 1) = 3/7, p(y1 = 1 | y2 = 0) = 1/13: q2(y1 = 1) = 39/46.
    rows = [[0, 0]] * 600 + [[0, 1]] * 200 + [[1, 0]] * 50 + [[1, 1]] * 150
    dependence = LabelDependence.fit(torch.tensor(rows * 20, dtype=torch.int8))
    torch.testing.assert_close(
        dependence.noise(torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)),
        torch.tensor([[3 / 4, (4 / 7) / (4 / 7 + 12 / 13)], [1 / 4, 39 / 46]], dtype=torch.float64),
        atol=2e-3,
        rtol=0,
    )


def test_independent_tasks_are_smoothed_as_ever_and_exclusive_ones_never_activated_together() -> None:
    independent = torch.tensor([[a, b] for a in (0, 0, 0, 1) for b in (0, 1)], dtype=torch.int8)
    q = LabelDependence.fit(independent).noise(LABELS)
    torch.testing.assert_close(q, torch.full_like(q, 0.5), atol=1e-6, rtol=0)
    exclusive = torch.tensor([[1, 0], [0, 1], [0, 0]] * 2000, dtype=torch.int8)
    smoother = Smoother.from_config(
        SmoothingConfig(name="vals", alpha_negative=1.0, mixing="dependent"), torch.tensor([1 / 3, 1 / 3]), exclusive
    )
    targets = smoother(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert float(targets[0, 1]) < 0.01 < 0.6 < float(targets[1, 1])  # whose uniform target is 0.5


@pytest.mark.parametrize("labels", [[[0], [1], [-1]], [[1, 1], [1, -1]]], ids=["one task", "one class"])
def test_dependence_without_anything_to_learn_is_uniform(labels: list[list[int]]) -> None:
    dependence = LabelDependence.fit(torch.tensor(labels, dtype=torch.int8))
    assert dependence.noise(torch.ones(1, len(labels[0]))).tolist() == [[0.5] * len(labels[0])]


def test_ignoring_leaves_out_labels_with_the_probability_with_which_smoothing_replaces_them() -> None:
    config = SmoothingConfig(name="vals", alpha_positive=0.0, alpha_negative=0.75, mixing="ignore")
    labels = (torch.arange(20000) < 4000)[:, None].double()
    smoother = Smoother.from_config(config, torch.tensor([0.2], dtype=torch.float64), labels.long())
    kept = smoother.kept(labels, torch.Generator().manual_seed(0))
    assert kept is not None
    assert bool(kept[:4000].all())
    assert abs(float(kept[4000:].double().mean()) - 0.25) < 0.02  # six standard deviations of 16000 draws
    again = smoother.kept(labels, torch.Generator().manual_seed(0))
    other = smoother.kept(labels, torch.Generator().manual_seed(1))
    assert torch.equal(kept, again)
    assert not torch.equal(kept, other)


def test_rhls_that_ignores_balances_the_classes_it_keeps() -> None:
    config = SmoothingConfig(name="rhls", beta=1.0, mixing="ignore")
    labels = (torch.arange(20000) < 2000)[:, None].double()  # f = 0.1, a- = 8/9: 2000 of the 18000 negatives stay
    smoother = Smoother.from_config(config, torch.tensor([0.1], dtype=torch.float64), labels.long())
    kept = smoother.kept(labels, torch.Generator().manual_seed(0))
    assert kept is not None
    assert abs(int(kept[2000:].sum()) - 2000) < 6 * (18000 * 8 / 81) ** 0.5


def test_other_mixings_keep_every_term() -> None:
    smoother = Smoother.from_config(SmoothingConfig(name="rhls"), torch.tensor([0.1, 0.9]), LABELS.long())
    assert smoother.kept(LABELS, torch.Generator()) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mixing": "ignore"}, "mixing 'ignore' needs a smoothing whose labels it mixes, but name is 'none'"),
        (
            {"name": "ls", "mixing": "published"},
            "'published' belongs to smoothing vals or rhls, but name is 'ls'",
        ),
        ({"name": "vals", "beta": 0.5}, "`beta` belongs to smoothing rhls, but name is 'vals'"),
    ],
)
def test_refused_configs(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SmoothingConfig(**config)
