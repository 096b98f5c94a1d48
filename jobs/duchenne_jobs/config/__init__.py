"""What a fold job is told: the model, the loss and the training of one run, as frozen pydantic models.

`duchenne.spec` composes these into a sweep; the worker receives them as they are. One file a section. Nothing here
imports torch, so that `duchenne validate` stays quick.
"""

from __future__ import annotations

from pydantic import Field

from duchenne_jobs.config.base import Config
from duchenne_jobs.config.encoder import EncoderConfig
from duchenne_jobs.config.loss import LossConfig, SmoothingConfig
from duchenne_jobs.config.model import BASELINE_NAMES, MODEL_NAMES, BaselineName, ModelConfig, ModelName
from duchenne_jobs.config.orders import OrdersConfig
from duchenne_jobs.config.training import TrainingConfig

__all__ = [
    "BASELINE_NAMES",
    "MODEL_NAMES",
    "BaselineName",
    "Config",
    "EncoderConfig",
    "LossConfig",
    "ModelConfig",
    "ModelName",
    "OrdersConfig",
    "RunConfig",
    "SmoothingConfig",
    "TrainingConfig",
]


class RunConfig(Config):
    """Model, loss and training of one fold job: what a trial of the search chooses."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="The network.")
    loss: LossConfig = Field(default_factory=LossConfig, description="The training loss.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The optimisation.")
