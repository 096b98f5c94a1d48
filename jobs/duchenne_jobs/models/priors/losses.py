"""Losses that pull attention, or the channels of an encoder, towards a prior (Tallec 2023, 3.5.1).

Shapes: B rows, n heads, T queries (tasks), h x w patches, P priors, C channels.

Each has a form that returns one loss a row, and the contract's form, its mean over B. A row whose prior is all zeros (a
face without landmarks) contributes 0 to that mean and no gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from duchenne_jobs.config.guidance_fit import guided_count


def _guided(fraction: float, total: int) -> int:
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"0 <= fraction <= 1 must hold, but got {fraction}; it is a share of the heads or channels")
    return guided_count(fraction, total)


def log_attention(scores: Tensor) -> Tensor:
    """(..., h, w) scores -> log of their softmax over the h x w patches, in float32 at least."""
    flat = scores.flatten(start_dim=-2)
    precise = torch.promote_types(flat.dtype, torch.float32)
    return torch.log_softmax(flat, dim=-1, dtype=precise).view(scores.shape)


def pattel_losses(prior: Tensor, scores: Tensor, fraction: float) -> Tensor:
    """Privileged attention loss of each row (Tallec 2023, eq. 3.31 and 3.32).

    `-sum_{t,i,j} h^t_ij log(A^t_ij)`, with A the mean of the first `floor(f n)` heads' attention.

    Args:
        prior: (B, T, h, w), or (B, 1, h, w) for one that all T queries share.
        scores: (B, n, T, h, w), before softmax.
        fraction: f in [0, 1]; where `floor(f n)` is 0, no head is guided and the loss is 0.

    Returns:
        (B,) losses.

    Raises:
        ValueError: shapes that do not fit, or f outside [0, 1].
    """
    _require_scores(scores)
    batch, heads, queries, *grid = scores.shape
    if prior.shape not in ((batch, queries, *grid), (batch, 1, *grid)):
        raise ValueError(
            f"prior must be (B, T or 1, h, w) of scores {tuple(scores.shape)}, but got {tuple(prior.shape)}; "
            "make the prior for these tasks and this grid"
        )
    guided = _guided(fraction, heads)
    if guided == 0:
        return scores[:, :0].sum(dim=(1, 2, 3, 4))
    mean = torch.logsumexp(log_attention(scores[:, :guided]), dim=1) - math.log(guided)  # (B, T, h, w)
    return -(prior * mean).sum(dim=(1, 2, 3))


def pattel_loss(prior: Tensor, scores: Tensor, fraction: float) -> Tensor:
    """PAtteL, mean over B: see `pattel_losses`. Rows without a prior (all zeros) contribute 0."""
    return pattel_losses(prior, scores, fraction).mean()


def head_to_prior_losses(priors: Tensor, scores: Tensor, assignment: Tensor) -> Tensor:
    """Head-to-prior loss of each row (Tallec 2023, eq. 3.33 and 3.34).

    `sum_t 1/n sum_h sum_p M_hp / (sum_p M_hp) CE(h_p, A^t_h)`; a head without a prior adds 0, and still counts in n.

    Args:
        priors: (B, P, h, w), each shared by all T queries.
        scores: (B, n, T, h, w), before softmax.
        assignment: (n, P) M, bool or in {0, 1}: which head looks at which priors.

    Returns:
        (B,) losses.

    Raises:
        ValueError: shapes that do not fit, more heads assigned than there are among them.
    """
    _require_scores(scores)
    batch, heads, _, *grid = scores.shape
    if priors.dim() != 4 or (priors.shape[0], *priors.shape[2:]) != (batch, *grid):
        raise ValueError(
            f"priors must be (B, P, h, w) of scores {tuple(scores.shape)}, but got {tuple(priors.shape)}; "
            "make the priors for this batch and this grid"
        )
    if assignment.shape != (heads, priors.shape[1]):
        raise ValueError(
            f"assignment must be (heads, priors) = {(heads, priors.shape[1])}, but got {tuple(assignment.shape)}; "
            "assign the heads and priors that exist, and no more"
        )
    chosen = assignment.to(priors)
    weights = chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)
    targets = torch.einsum("np,bphw->bnhw", weights, priors)
    return -(targets[:, :, None] * log_attention(scores)).sum(dim=(1, 2, 3, 4)) / heads


def head_to_prior_loss(priors: Tensor, scores: Tensor, assignment: Tensor) -> Tensor:
    """Head-to-prior, mean over B: see `head_to_prior_losses`. Rows without a prior (all zeros) contribute 0."""
    return head_to_prior_losses(priors, scores, assignment).mean()


def privileged_attribution_losses(prior: Tensor, attributions: Tensor, fraction: float) -> Tensor:
    """Privileged attribution loss (PAL) of each row (Bonnard et al. 2022, as in Tallec 2023, 3.5.1).

    The negative cross-correlation `-sum_ij h_ij (a_ij - mean(a)) / std(a)` of the prior with a, the mean of the first
    `floor(f C)` channels' attributions; mean and standard deviation go over the patches.

    Args:
        prior: (B, h, w).
        attributions: (B, C, h, w), see `attribution_maps`.
        fraction: f in [0, 1]; where `floor(f C)` is 0, no channel is guided and the loss is 0.

    Returns:
        (B,) losses; 0 where a is constant.

    Raises:
        ValueError: shapes that do not fit, or f outside [0, 1].
    """
    if attributions.dim() != 4 or prior.shape != (attributions.shape[0], *attributions.shape[2:]):
        raise ValueError(
            f"prior must be (B, h, w) of attributions (B, C, h, w), but got {tuple(prior.shape)} and "
            f"{tuple(attributions.shape)}; make the prior for this batch and this grid"
        )
    guided = _guided(fraction, attributions.shape[1])
    if guided == 0:
        return attributions[:, :0].sum(dim=(1, 2, 3))
    mean_map = attributions[:, :guided].mean(dim=1)  # (B, h, w)
    centred = mean_map - mean_map.mean(dim=(1, 2), keepdim=True)
    variance = centred.square().mean(dim=(1, 2))
    # An encoder that died has constant maps, and the root of 0 the gradient NaN.
    deviation = torch.where(variance > 0, variance, 1.0).sqrt()
    return -(prior * centred).sum(dim=(1, 2)) / deviation


def attribution_maps(outputs: Tensor, maps: Tensor) -> Tensor:
    """Gradient of the outputs with respect to an encoder's channels, times the channels (Bonnard et al. 2022).

    The graph is kept, so that a loss on the attributions trains the whole network: a second backward pass.

    Args:
        outputs: (B, ...) logits that were computed from `maps`; they are summed.
        maps: (B, C, h, w).

    Returns:
        (B, C, h, w).
    """
    (gradient,) = torch.autograd.grad(outputs.sum(), maps, create_graph=True)
    return gradient * maps


def _require_scores(scores: Tensor) -> None:
    if scores.dim() != 5:
        raise ValueError(
            f"scores must be (B, heads, T, h, w), but got {tuple(scores.shape)}; unflatten the patches to their grid"
        )
