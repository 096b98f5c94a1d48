"""Label smoothing: LS, VLS, VALS and RHLS (Tallec 2023, chapter 4).

Shapes: B batch, T tasks. Every function takes hard or soft labels in [0, 1] of any shape that broadcasts against (T,);
unknown labels are masked by the caller, never smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from duchenne_jobs.config import SmoothingConfig

Mixing = Literal["uniform", "published"]
DEFAULT_ALPHA = 0.1  # of table 4.1
DEFAULT_BETA = 0.25  # chosen in 4.4.2
DEFAULT_ALPHA_NEGATIVE = 0.25  # lowest value of the grid of 4.4.1


def label_smoothing(labels: Tensor, alpha: float | Tensor) -> Tensor:
    """`y~ = (1 - alpha) y + alpha / 2` (Tallec 2023, eq. 4.4 for one task, 4.6 for several).

    Args:
        labels: (..., T), in [0, 1].
        alpha: probability that a label is replaced by a uniform one, scalar or (T,), in [0, 1].

    Returns:
        (..., T) soft labels, floating point.

    Raises:
        ValueError: a label or alpha outside [0, 1].
    """
    return asymmetric_smoothing(labels, alpha, alpha, mixing="uniform")


def asymmetric_smoothing(
    labels: Tensor,
    alpha_positive: float | Tensor,
    alpha_negative: float | Tensor,
    mixing: Mixing = "uniform",
) -> Tensor:
    """Smooth positive and negative labels by their own probabilities (Tallec 2023, eq. 4.7 and 4.10).

    Args:
        labels: (..., T), in [0, 1].
        alpha_positive: probability for a positive label, scalar or (T,), in [0, 1].
        alpha_negative: probability for a negative label, scalar or (T,), in [0, 1].
        mixing: `uniform`: with that probability a label becomes *uniform*, `y~ = y (1 - a+/2) + (1 - y) a-/2`, which is
            what 4.1 and 4.7 say; `published`: eq. 4.10 as printed, `y~ = y (1 - a+) + (1 - y) a-`.

    Returns:
        (..., T) soft labels, floating point.

    Raises:
        ValueError: a label or alpha outside [0, 1], or an unknown mixing.
    """
    if mixing not in ("uniform", "published"):
        raise ValueError(f"mixing must be 'uniform' or 'published', but got {mixing!r}")
    values = labels if labels.is_floating_point() else labels.to(torch.get_default_dtype())
    _require_probability("labels", values, "mask unknown labels before smoothing")
    share = 0.5 if mixing == "uniform" else 1.0
    flipped = []
    for name, alpha in (("alpha_positive", alpha_positive), ("alpha_negative", alpha_negative)):
        tensor = torch.as_tensor(alpha, dtype=values.dtype, device=values.device)
        _require_probability(name, tensor, "it is a probability")
        flipped.append(share * tensor)
    positive, negative = flipped
    return values * (1 - positive) + (1 - values) * negative


def robin_hood_coefficients(frequency: float | Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Smoothing probabilities that take from the majority class only (Tallec 2023, eq. 4.11).

    Args:
        frequency: empirical frequency f^t of positive labels, scalar or (T,), in [0, 1].
        beta: 0 smooths nothing; 1 balances the smoothed classes.

    Returns:
        `(alpha_positive, alpha_negative)`, each of the shape of `frequency`.

    Raises:
        ValueError: a frequency or beta outside [0, 1].
    """
    f = torch.as_tensor(frequency)
    if not f.is_floating_point():
        f = f.to(torch.get_default_dtype())
    _require_probability("frequency", f, "it is the share of positive labels")
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f"0 <= beta <= 1 must hold, but got {beta}")
    # A class that never occurs makes the other's quotient -inf, which the maximum turns into 0.
    alpha_negative = beta * ((1 - 2 * f) / (1 - f)).clamp(min=0.0)
    alpha_positive = beta * ((2 * f - 1) / f).clamp(min=0.0)
    return alpha_positive, alpha_negative


@dataclass(frozen=True)
class Smoother:
    """The smoothing that a config names, with coefficients fitted on training frequencies.

    Attributes:
        alpha_positive, alpha_negative: (T,) probabilities.
        mixing: see `asymmetric_smoothing`.
    """

    alpha_positive: Tensor
    alpha_negative: Tensor
    mixing: Mixing

    @classmethod
    def from_config(cls, config: SmoothingConfig, frequency: Tensor) -> Smoother:
        """Fit to the (T,) frequencies of positive labels in the training rows."""
        zeros = torch.zeros_like(frequency)
        if config.name in ("ls", "vls"):
            alpha = torch.full_like(frequency, DEFAULT_ALPHA if config.alpha is None else config.alpha)
            return cls(alpha, alpha, "uniform")
        if config.name == "vals":
            negative = DEFAULT_ALPHA_NEGATIVE if config.alpha_negative is None else config.alpha_negative
            return cls(zeros + (config.alpha_positive or 0.0), zeros + negative, config.mixing)
        if config.name == "rhls":
            positive, negative_rate = robin_hood_coefficients(
                frequency, DEFAULT_BETA if config.beta is None else config.beta
            )
            return cls(positive, negative_rate, config.mixing)
        return cls(zeros, zeros, config.mixing)

    def __call__(self, labels: Tensor) -> Tensor:
        """(B, T) hard labels in {0, 1} -> (B, T) soft targets."""
        return asymmetric_smoothing(labels, self.alpha_positive, self.alpha_negative, self.mixing)


def _require_probability(name: str, values: Tensor, advice: str) -> None:
    if bool(((values >= 0) & (values <= 1)).all()):
        return
    outside = values[~((values >= 0) & (values <= 1))].flatten()[0].item()
    raise ValueError(f"{name} must lie in [0, 1], but got {outside:g}; {advice}")
