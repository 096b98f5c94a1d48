"""The optimisation of a fold job."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.augmentation import AugmentationConfig
from duchenne_jobs.config.base import Config, NonNegativeFloat, PositiveFloat, PositiveInt


class ScheduleChange(Config):
    """What changes while a network trains; what is null stays as it is."""

    after: PositiveInt = Field(description="Epochs before the change.")
    learning_rate: PositiveFloat | None = Field(
        None, description="Base learning rate from then on; every part of the network keeps its proportion to it."
    )
    decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="Factor on the learning rate after each epoch from then on."
    )
    weight_decay: NonNegativeFloat | None = Field(None, description="Weight decay from then on.")


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
    schedule: tuple[ScheduleChange, ...] = Field(
        (), description="Changes of learning rate, decay and weight decay on the way; what `algorithm: pbt` finds."
    )
    engine: Literal["ddp", "deepspeed"] = Field(
        "ddp",
        description="How the workers of a fold (`folds.workers_per_fold`) train one network; one worker needs neither. "
        "`ddp`: each holds all of it; `deepspeed`: optimiser, gradients and weights are shared out (ZeRO), where "
        "`pip install duchenne[deepspeed]` was run.",
    )
    zero_stage: Literal[1, 2, 3] = Field(
        1, description="deepspeed: what is shared out. 1: the optimiser's state; 2: gradients too; 3: weights too."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="`bfloat16`: matrix products in 16 bits; weights, sums and the optimiser stay in 32."
    )
    gradient_clip: PositiveFloat | None = Field(None, description="Bound on the gradient's global norm; null for none.")
    augmentation: AugmentationConfig = Field(
        default_factory=AugmentationConfig, description="Random changes of training faces; none by default."
    )

    @model_validator(mode="after")
    def _changes_in_order(self) -> Self:
        epochs = [change.after for change in self.schedule]
        if sorted(set(epochs)) != epochs:
            raise ValueError(f"`schedule` must be ascending in `after`, but got {epochs}; sort or join its changes")
        return self
