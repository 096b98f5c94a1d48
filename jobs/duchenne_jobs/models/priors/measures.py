"""How much of the attention lies where it should.

Shapes: B rows, n heads, T queries (tasks), h x w patches.
"""

from __future__ import annotations

from torch import Tensor

from duchenne_jobs.models.priors.losses import log_attention


def attention_mass(scores: Tensor, region: Tensor) -> Tensor:
    """Share of the attention that falls inside a region, mean over heads.

    For a single head, pass `scores[:, h : h + 1]`.

    Args:
        scores: (B, n, T, h, w), before softmax.
        region: (B, T, h, w) in {0, 1}, or (B, 1, h, w) for one that all T queries share.

    Returns:
        (B, T) in [0, 1]: 1 where all attention lies inside; the region's share of the patches where attention is even.

    Raises:
        ValueError: shapes that do not fit.
    """
    if scores.dim() != 5 or region.shape not in (
        (scores.shape[0], scores.shape[2], *scores.shape[3:]),
        (scores.shape[0], 1, *scores.shape[3:]),
    ):
        raise ValueError(
            f"region must be (B, T or 1, h, w) of scores (B, heads, T, h, w), but got {tuple(region.shape)} and "
            f"{tuple(scores.shape)}; make the region for these tasks and this grid"
        )
    attention = log_attention(scores).exp().mean(dim=1)
    return (attention * region).sum(dim=(-2, -1))
