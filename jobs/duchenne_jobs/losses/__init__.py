"""Training losses: smoothing of the targets (chapter 4) and the per-task terms that a network sums (chapter 2)."""

from duchenne_jobs.losses.dependence import LabelDependence
from duchenne_jobs.losses.smoothing import (
    Smoother,
    asymmetric_smoothing,
    dependent_smoothing,
    label_smoothing,
    robin_hood_coefficients,
)
from duchenne_jobs.losses.terms import TaskLoss, inverse_frequency_weights

__all__ = [
    "LabelDependence",
    "Smoother",
    "TaskLoss",
    "asymmetric_smoothing",
    "dependent_smoothing",
    "inverse_frequency_weights",
    "label_smoothing",
    "robin_hood_coefficients",
]
