"""What a fold job is told: the model, the loss and the training of one run, as frozen pydantic models.

`duchenne.spec` composes these into a sweep; the worker receives them as they are. One file a section. Nothing here
imports torch, so that `duchenne validate` stays quick.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from duchenne_jobs.config.attention import AttentionConfig
from duchenne_jobs.config.augmentation import AugmentationConfig
from duchenne_jobs.config.base import Config
from duchenne_jobs.config.encoder import EncoderConfig
from duchenne_jobs.config.guidance import GuidanceTerm
from duchenne_jobs.config.loss import LossConfig, SmoothingConfig
from duchenne_jobs.config.model import (
    ATTENTION_NAMES,
    BASELINE_NAMES,
    MODEL_NAMES,
    ORDER_NAMES,
    RECURRENT_NAMES,
    BaselineName,
    LabelKind,
    ModelConfig,
    ModelName,
)
from duchenne_jobs.config.orders import EvolutionConfig, OrdersConfig
from duchenne_jobs.config.quantisation import QuantisationConfig
from duchenne_jobs.config.training import TrainingConfig

__all__ = [
    "ATTENTION_NAMES",
    "BASELINE_NAMES",
    "MODEL_NAMES",
    "ORDER_NAMES",
    "RECURRENT_NAMES",
    "AttentionConfig",
    "AugmentationConfig",
    "BaselineName",
    "Config",
    "EncoderConfig",
    "EvolutionConfig",
    "GuidanceTerm",
    "LabelKind",
    "LossConfig",
    "ModelConfig",
    "ModelName",
    "OrdersConfig",
    "QuantisationConfig",
    "RunConfig",
    "SmoothingConfig",
    "TrainingConfig",
]


class RunConfig(Config):
    """Model, loss and training of one fold job: what a trial of the search chooses."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="The network.")
    loss: LossConfig = Field(default_factory=LossConfig, description="The training loss.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The optimisation.")

    @model_validator(mode="after")
    def _exclusive_labels_stay_exclusive(self) -> Self:
        if self.model.labels == "exclusive" and (self.loss.smoothing.name != "none" or self.loss.dice > 0):
            raise ValueError(
                "smoothing and Dice are of binary labels, but model.labels is 'exclusive' with "
                f"loss.smoothing.name={self.loss.smoothing.name!r} and loss.dice={self.loss.dice:g}; set them to none "
                "and 0"
            )
        return self
