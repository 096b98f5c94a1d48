"""Label smoothing: LS, VLS, VALS and RHLS (Tallec 2023, chapter 4), and the two variants that 4.5.2 proposes.

Shapes: B batch, N rows, T tasks. Every function takes hard or soft labels in [0, 1] of any shape that broadcasts
against (T,); unknown labels are masked by the caller, never smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from duchenne_jobs.config import SmoothingConfig
from duchenne_jobs.losses.dependence import LabelDependence

Mixing = Literal["uniform", "published"]
DEFAULT_ALPHA = 0.1  # of table 4.1
DEFAULT_BETA = 0.25  # selected in 4.4.2
DEFAULT_ALPHA_NEGATIVE = 0.5  # selected in 4.4.2


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
    share = torch.tensor(0.5 if mixing == "uniform" else 1.0)
    return _smoothed(labels, alpha_positive, alpha_negative, to_negative=share, to_positive=share)


def dependent_smoothing(
    labels: Tensor, alpha_positive: float | Tensor, alpha_negative: float | Tensor, noise: Tensor
) -> Tensor:
    """Smooth towards what the row's other labels allow (Tallec 2023, 4.5.2, which proposes it without an equation).

    With its probability a label is replaced by a draw from its own `noise` q^t instead of a uniform one:
    `y~ = y (1 - a+ (1 - q)) + (1 - y) a- q`. With q = 1/2 it is `asymmetric_smoothing`; where q is near 0, as for AU1
    in a row with AU4, a negative label stays negative, so that no activation that never occurs is made up.

    Args:
        labels: (..., T), in [0, 1].
        alpha_positive, alpha_negative: as in `asymmetric_smoothing`.
        noise: (..., T), in [0, 1]: probability that a replaced label is positive; see `LabelDependence`.

    Returns:
        (..., T) soft labels, floating point.

    Raises:
        ValueError: a label, alpha or noise outside [0, 1].
    """
    _require_probability("noise", noise, "it is a probability")
    return _smoothed(labels, alpha_positive, alpha_negative, to_negative=1 - noise, to_positive=noise)


def _smoothed(
    labels: Tensor,
    alpha_positive: float | Tensor,
    alpha_negative: float | Tensor,
    to_negative: Tensor,
    to_positive: Tensor,
) -> Tensor:
    """`y (1 - a+ to_negative) + (1 - y) a- to_positive`: where a replaced label goes is the caller's."""
    values = labels if labels.is_floating_point() else labels.to(torch.get_default_dtype())
    _require_probability("labels", values, "mask unknown labels before smoothing")
    flipped = []
    for name, alpha, share in (
        ("alpha_positive", alpha_positive, to_negative),
        ("alpha_negative", alpha_negative, to_positive),
    ):
        tensor = torch.as_tensor(alpha, dtype=values.dtype, device=values.device)
        _require_probability(name, tensor, "it is a probability")
        flipped.append(tensor * share.to(values))
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
    """The smoothing that a config names, with coefficients fitted on the training rows.

    Attributes:
        alpha_positive, alpha_negative: (T,) probabilities that a positive or a negative label is replaced.
        mixing: by what; see `SmoothingConfig`.
        dependence: what the labels say of each other, for `mixing="dependent"`.
    """

    alpha_positive: Tensor
    alpha_negative: Tensor
    mixing: Literal["uniform", "published", "dependent", "ignore"]
    dependence: LabelDependence | None = None

    @classmethod
    def from_config(cls, config: SmoothingConfig, frequency: Tensor, labels: Tensor) -> Smoother:
        """Fit to the training rows: (T,) frequencies of positive labels, and (N, T) labels in {-1, 0, 1}."""
        positive, negative = _coefficients(config, frequency)
        dependence = LabelDependence.fit(labels) if config.mixing == "dependent" else None
        return cls(positive, negative, config.mixing, dependence)

    def __call__(self, labels: Tensor) -> Tensor:
        """(B, T) hard labels in {0, 1}, 0 where unknown -> (B, T) soft targets."""
        if self.mixing == "ignore":
            return labels
        if self.mixing == "dependent":
            assert self.dependence is not None  # noqa: S101 - from_config fits one
            return dependent_smoothing(labels, self.alpha_positive, self.alpha_negative, self.dependence.noise(labels))
        return asymmetric_smoothing(labels, self.alpha_positive, self.alpha_negative, self.mixing)

    def kept(self, labels: Tensor, generator: torch.Generator) -> Tensor | None:
        """Which terms of the loss an epoch keeps (Tallec 2023, 4.5.2): None where it keeps all.

        The ablation that tells rebalancing from noise mitigation: with the probability with which smoothing would
        replace a label, its term is left out. It still conditions the later tasks of a recurrence.

        Args:
            labels: (N, T) in {-1, 0, 1}, on the CPU; what is drawn for an unknown one does not matter.
            generator: the epoch's, on the CPU: the same draws wherever the job runs.

        Returns:
            (N, T) bool, or None.
        """
        if self.mixing != "ignore":
            return None
        ignored = torch.where(labels > 0, self.alpha_positive, self.alpha_negative)
        return torch.rand(labels.shape, generator=generator, dtype=ignored.dtype) >= ignored


def _coefficients(config: SmoothingConfig, frequency: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha_positive, alpha_negative), (T,) each, of the smoothing that is named."""

    def each_task(value: float | None, default: float) -> Tensor:
        return torch.full_like(frequency, default if value is None else value)

    if config.name in ("ls", "vls"):
        alpha = each_task(config.alpha, DEFAULT_ALPHA)
        return alpha, alpha
    if config.name == "vals":
        return each_task(config.alpha_positive, 0.0), each_task(config.alpha_negative, DEFAULT_ALPHA_NEGATIVE)
    if config.name == "rhls":
        return robin_hood_coefficients(frequency, DEFAULT_BETA if config.beta is None else config.beta)
    return each_task(None, 0.0), each_task(None, 0.0)


def _require_probability(name: str, values: Tensor, advice: str) -> None:
    if bool(((values >= 0) & (values <= 1)).all()):
        return
    outside = values[~((values >= 0) & (values <= 1))].flatten()[0].item()
    raise ValueError(f"{name} must lie in [0, 1], but got {outside:g}; {advice}")
