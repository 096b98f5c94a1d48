"""The optimisation of a fold job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from duchenne_jobs.config.augmentation import AugmentationConfig
from duchenne_jobs.config.base import Config, NonNegativeFloat, PositiveFloat


class TrainingConfig(Config):
    """Optimisation of one fold job."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(30, description="Passes over the training rows.")
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(64, description="Rows a step.")
    optimizer: Literal["adam", "adamw"] = Field("adamw", description="Optimiser of everything but the order logits.")
    learning_rate: PositiveFloat = Field(1e-3, description="Base learning rate.")
    encoder_learning_rate: PositiveFloat | None = Field(
        None, description="Learning rate of the encoder (lambda_c, 5e-5 in 3.4.3); null for `learning_rate`."
    )
    learning_rate_rule: Literal["constant", "attention"] = Field(
        "constant",
        description="`constant`: `learning_rate` as it is; `attention`: times B q / (2.5e5 sqrt(d)) in all but the "
        "encoder, q queries, d `attention.width` (Tallec 2023, 3.4.3; `learning_rate` is 1e-2 there).",
    )
    weight_decay: NonNegativeFloat = Field(0.0, description="Weight decay of the optimiser.")
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="Factor on the learning rate after each epoch (0.99 in 2.5.1)."
    )
    gradient_clip: PositiveFloat | None = Field(None, description="Bound on the gradient's global norm; null for none.")
    augmentation: AugmentationConfig = Field(
        default_factory=AugmentationConfig, description="Random changes of training faces; none by default."
    )
