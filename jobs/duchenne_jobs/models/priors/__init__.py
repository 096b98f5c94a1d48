"""What is known of a face before it is learned from: where AUs show, and which patch is which part of it.

Belongs here: priors (landmarks, face parsing), losses against them, measures of agreement. Does not belong here: which
layers and heads they guide (`duchenne_jobs.models.guidance`). `docs/guidance.md` says more, and how to add one.
"""

from duchenne_jobs.models.priors.landmarks import (
    au_centres,
    mono_centres,
    prior_heatmap,
    to_49_points,
)
from duchenne_jobs.models.priors.losses import (
    attribution_maps,
    head_to_prior_loss,
    head_to_prior_losses,
    pattel_loss,
    pattel_losses,
    privileged_attribution_losses,
)
from duchenne_jobs.models.priors.measures import attention_mass
from duchenne_jobs.models.priors.parsing import AttentionPrior, ClassShares, SoftParsingPrior

__all__ = [
    "AttentionPrior",
    "ClassShares",
    "SoftParsingPrior",
    "attention_mass",
    "attribution_maps",
    "au_centres",
    "head_to_prior_loss",
    "head_to_prior_losses",
    "mono_centres",
    "pattel_loss",
    "pattel_losses",
    "prior_heatmap",
    "privileged_attribution_losses",
    "to_49_points",
]
