"""The network of a fold job."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from duchenne_jobs.config.base import Config
from duchenne_jobs.config.encoder import EncoderConfig
from duchenne_jobs.config.orders import OrdersConfig

ModelName = Literal["vmnc", "vmns", "mrnn", "monet"]
BaselineName = Literal["logistic_regression", "classifier_chain", "chain_ensemble"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
BASELINE_NAMES: tuple[BaselineName, ...] = get_args(BaselineName)


class ModelConfig(Config):
    """A multi-task network (Tallec 2023, 2.3 and 2.4)."""

    name: ModelName = Field("monet", description="`vmnc`, `vmns`, `mrnn` or `monet` (Tallec 2023, 2.3.2 and 2.4).")
    encoder: EncoderConfig = Field(default_factory=EncoderConfig, description="Encoder of the inputs.")
    hidden_size: Annotated[int, Field(ge=1, le=65536)] = Field(
        64, description="Units of a recurrent cell (mrnn, monet) or of a dense head layer (vmnc, vmns)."
    )
    head_layers: Annotated[int, Field(ge=1, le=16)] = Field(
        2, description="Dense layers of a prediction head (vmnc, vmns), the output layer included."
    )
    orders: OrdersConfig = Field(
        default_factory=OrdersConfig, description="Order set of monet; other models ignore it."
    )
    trajectories: Annotated[int, Field(ge=1, le=100_000)] = Field(
        20, description="Sampled trajectories a row at inference (mrnn: L of algorithm 1; monet: R x L of algorithm 2)."
    )
    bias_initialisation: bool = Field(
        True, description="Start each output bias at the logit of the task's training frequency (eq. 2.38)."
    )
