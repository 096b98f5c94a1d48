"""Losses against a prior, worked by hand (Tallec 2023, eq. 3.31 to 3.34), and PAL (Bonnard et al. 2022)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from duchenne_jobs.models.priors import (
    attention_mass,
    attribution_maps,
    au_centres,
    head_to_prior_loss,
    head_to_prior_losses,
    pattel_loss,
    pattel_losses,
    prior_heatmap,
    privileged_attribution_losses,
)

LN2 = math.log(2)


def logs(*heads: list[list[float]]) -> Tensor:
    """Scores (1, n, T, 1, w) whose softmax is as given: n lists of T lists of w probabilities."""
    return torch.tensor([heads], dtype=torch.float64).log().unsqueeze(-2)


def maps(*rows: list[float]) -> Tensor:
    """(1, rows, 1, w) priors."""
    return torch.tensor([rows], dtype=torch.float64).unsqueeze(-2)


def test_pattel_of_two_heads_and_two_tasks() -> None:
    scores = logs([[0.5, 0.5], [0.25, 0.75]], [[0.75, 0.25], [0.25, 0.75]], [[0.1, 0.9], [0.9, 0.1]])
    prior = maps([1.0, 0.0], [0.5, 0.5])
    # floor(0.7 x 3) = 2 heads: means (0.625, 0.375) and (0.25, 0.75); the third is free.
    expected = -math.log(0.625) - 0.5 * math.log(0.25) - 0.5 * math.log(0.75)
    assert float(pattel_loss(prior, scores, 0.7)) == pytest.approx(expected)
    # The mean is taken of the attention, not of its logarithm.
    assert float(pattel_loss(prior, scores, 0.4)) == pytest.approx(LN2 - 0.5 * math.log(0.25 * 0.75))


def test_pattel_softmaxes_each_task_and_head_over_the_patches() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 4, 3, 5, 6, generator=generator)
    prior = torch.rand(2, 3, 5, 6, generator=generator)
    expected = torch.zeros(2)
    for row in range(2):
        for task in range(3):
            mean = sum(torch.softmax(scores[row, head, task].flatten(), 0) for head in range(3)) / 3
            expected[row] -= (prior[row, task].flatten() * mean.log()).sum()
    torch.testing.assert_close(pattel_losses(prior, scores, 0.75), expected)
    torch.testing.assert_close(pattel_loss(prior, scores, 0.75), expected.mean())


def test_one_prior_may_serve_every_task() -> None:
    scores = torch.randn(2, 2, 3, 4, 4)
    prior = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(pattel_loss(prior, scores, 1.0), pattel_loss(prior.expand(2, 3, 4, 4), scores, 1.0))


@pytest.mark.parametrize(("fraction", "heads", "guided"), [(0.29, 100, 29), (0.25, 12, 3), (0.5, 3, 1), (1.0, 7, 7)])
def test_the_number_of_guided_heads_is_a_floor_without_rounding_errors(
    fraction: float, heads: int, guided: int
) -> None:
    scores = torch.randn(1, heads, 1, 2, 2, requires_grad=True)
    pattel_loss(torch.full((1, 1, 2, 2), 0.25), scores, fraction).backward()
    assert scores.grad is not None
    touched = scores.grad.abs().sum(dim=(0, 2, 3, 4)) > 0
    assert touched.tolist() == [True] * guided + [False] * (heads - guided)


def test_without_guided_heads_the_loss_is_zero_and_so_is_its_gradient() -> None:
    scores = torch.randn(2, 3, 1, 2, 2, requires_grad=True)
    loss = pattel_loss(torch.rand(2, 1, 2, 2), scores, 0.2)
    loss.backward()
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_head_to_prior_of_three_heads_and_two_priors() -> None:
    scores = logs([[0.5, 0.5], [0.2, 0.8]], [[0.25, 0.75], [0.5, 0.5]], [[0.1, 0.9], [0.1, 0.9]])
    priors = maps([1.0, 0.0], [0.0, 1.0])
    assignment = torch.tensor([[1, 0], [1, 1], [0, 0]])
    first = -math.log(0.5) - math.log(0.2)  # both tasks, prior 0
    second = -0.5 * math.log(0.25 * 0.75) - 0.5 * math.log(0.5 * 0.5)  # both tasks, mean of both priors
    # Divided by all three heads, the free one too (3.33).
    assert float(head_to_prior_loss(priors, scores, assignment)) == pytest.approx((first + second) / 3)
    assert float(head_to_prior_loss(priors, scores, assignment.bool())) == pytest.approx((first + second) / 3)


def test_head_to_prior_is_a_mean_over_the_batch() -> None:
    scores, priors = torch.randn(3, 4, 2, 3, 3), torch.rand(3, 5, 3, 3)
    assignment = torch.eye(4, 5)
    losses = head_to_prior_losses(priors, scores, assignment)
    each = torch.stack(
        [head_to_prior_loss(priors[row : row + 1], scores[row : row + 1], assignment) for row in range(3)]
    )
    torch.testing.assert_close(losses, each)
    torch.testing.assert_close(head_to_prior_loss(priors, scores, assignment), each.mean())


@pytest.mark.parametrize("shape", [(5, 2), (2, 3), (3, 3), (3,)])
def test_an_assignment_of_heads_that_there_are_not_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"assignment must be \(heads, priors\) = \(3, 2\)"):
        head_to_prior_loss(torch.rand(1, 2, 4, 4), torch.randn(1, 3, 6, 4, 4), torch.ones(shape))


def test_shapes_and_fractions_that_do_not_fit_are_refused() -> None:
    scores, prior = torch.randn(2, 3, 4, 5, 6), torch.rand(2, 4, 5, 6)
    with pytest.raises(ValueError, match="scores must be"):
        pattel_loss(prior, scores[0], 0.5)
    with pytest.raises(ValueError, match="prior must be"):
        pattel_loss(prior.transpose(-1, -2), scores, 0.5)
    with pytest.raises(ValueError, match="prior must be"):
        pattel_loss(prior[:, :2], scores, 0.5)
    with pytest.raises(ValueError, match="priors must be"):
        head_to_prior_loss(prior[:1], scores, torch.ones(3, 4))
    with pytest.raises(ValueError, match="prior must be"):
        privileged_attribution_losses(prior, scores[:, 0], 0.5)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="0 <= fraction <= 1 must hold"):
            pattel_loss(prior, scores, fraction)


def test_a_row_without_landmarks_adds_nothing_and_poisons_nothing() -> None:
    landmarks = 100 * torch.rand(3, 49, 2)
    landmarks[1] = float("nan")
    prior = prior_heatmap(au_centres(landmarks, ["AU1", "AU12"]), (100, 100), (4, 4))
    for loss in (
        lambda scores: pattel_losses(prior, scores, 1.0),
        lambda scores: head_to_prior_losses(prior, scores, torch.eye(3, 2)),
        lambda scores: privileged_attribution_losses(prior[:, 0], scores[:, :, 0], 1.0),
    ):
        scores = torch.randn(3, 3, 2, 4, 4, requires_grad=True)
        losses = loss(scores)
        losses.mean().backward()
        assert losses[1].item() == 0.0
        assert scores.grad is not None
        assert torch.isfinite(scores.grad).all()
        assert scores.grad.flatten(1).any(dim=1).tolist() == [True, False, True]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(-50, 50), st.integers(1, 4))
def test_attention_equal_to_the_prior_is_the_least_loss(seed: int, shift: float, heads: int) -> None:
    """Gibbs: the cross-entropy is at least the prior's entropy, reached where all heads agree with it."""
    generator = torch.Generator().manual_seed(seed)
    prior = torch.softmax(torch.randn(1, 2, 12, generator=generator, dtype=torch.float64), -1).reshape(1, 2, 3, 4)
    scores = torch.randn(1, heads, 2, 3, 4, generator=generator, dtype=torch.float64)
    agreeing = prior.log()[:, None].expand(1, heads, 2, 3, 4)
    entropy = float(-(prior * prior.log()).sum())
    assert float(pattel_loss(prior, agreeing, 1.0)) == pytest.approx(entropy)
    assert float(pattel_loss(prior, scores, 1.0)) >= entropy - 1e-9
    shifted = float(pattel_loss(prior, scores + shift, 1.0))
    assert shifted == pytest.approx(float(pattel_loss(prior, scores, 1.0)), rel=1e-6)
    assert float(head_to_prior_loss(prior, scores, torch.eye(heads, 2))) >= 0


def test_extreme_scores_stay_finite() -> None:
    scores = torch.tensor([1e4, -1e4, 0.0, 0.0]).reshape(1, 1, 1, 2, 2).requires_grad_()
    loss = pattel_loss(torch.full((1, 1, 2, 2), 0.25), scores, 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_half_precision_scores_are_lifted() -> None:
    scores = torch.randn(1, 2, 1, 14, 14)
    prior = torch.full((1, 1, 14, 14), 1 / 196)
    half = pattel_loss(prior, scores.bfloat16(), 1.0)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(pattel_loss(prior, scores.bfloat16().float(), 1.0)))


def test_pal_is_the_negative_cross_correlation_of_the_first_channels_mean() -> None:
    attributions = torch.tensor([[[[1.0, 3.0]], [[3.0, 9.0]], [[100.0, -100.0]]]])  # mean of two channels: (2, 6)
    prior = torch.tensor([[[0.25, 0.75]]])
    # Standardised: (-1, 1); -(0.25 x -1 + 0.75 x 1).
    assert float(privileged_attribution_losses(prior, attributions, 0.7)) == pytest.approx(-0.5)
    scaled = privileged_attribution_losses(prior, 1e-9 * attributions + 0, 0.7)
    assert float(scaled) == pytest.approx(-0.5, rel=1e-4)
    assert float(privileged_attribution_losses(prior, attributions, 0.2)) == 0.0


def test_pal_of_dead_channels_is_zero_with_a_finite_gradient() -> None:
    attributions = torch.zeros(1, 2, 3, 3, requires_grad=True)
    loss = privileged_attribution_losses(torch.rand(1, 3, 3), attributions, 1.0).sum()
    loss.backward()
    assert loss.item() == 0.0
    assert attributions.grad is not None
    assert torch.isfinite(attributions.grad).all()


def test_attributions_are_gradient_times_channels_and_can_be_trained_on() -> None:
    channels = torch.tensor([[[[1.0, 2.0]]]], requires_grad=True)
    outputs = (channels**2).sum(dim=(1, 2, 3))[:, None] * torch.tensor([1.0, 3.0])
    maps = attribution_maps(outputs, channels)
    torch.testing.assert_close(maps, 8 * channels**2)  # (1 + 3) x 2 c x c
    (gradient,) = torch.autograd.grad(maps.sum(), channels)
    torch.testing.assert_close(gradient, 16 * channels)


def test_mass_inside_a_region_is_the_mean_over_heads() -> None:
    scores = logs([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], [[0.25, 0.5, 0.25], [0.4, 0.0, 0.6]])
    region = maps([1.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    torch.testing.assert_close(attention_mass(scores, region), torch.tensor([[0.75, 0.6]], dtype=torch.float64))
    torch.testing.assert_close(attention_mass(scores, region[:, :1])[0, 1], torch.tensor(0.4, dtype=torch.float64))
    even = torch.zeros(2, 3, 1, 4, 4)
    assert attention_mass(even, torch.ones(2, 1, 4, 4)).tolist() == [[1.0], [1.0]]
    with pytest.raises(ValueError, match="region must be"):
        attention_mass(even, torch.ones(2, 1, 4, 5))
