"""The network of a fold job."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from duchenne_jobs.config.attention import AttentionConfig
from duchenne_jobs.config.base import Config
from duchenne_jobs.config.encoder import EncoderConfig
from duchenne_jobs.config.guidance import GuidanceTerm
from duchenne_jobs.config.orders import OrdersConfig
from duchenne_jobs.config.quantisation import QuantisationConfig

ModelName = Literal["vmnc", "vmns", "mrnn", "monet", "mttc", "mtts", "monet_mtts"]
LabelKind = Literal["binary", "exclusive"]
BaselineName = Literal["logistic_regression", "classifier_chain", "chain_ensemble"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
BASELINE_NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
ATTENTION_NAMES: tuple[ModelName, ...] = ("mttc", "mtts", "monet_mtts")
"""Networks with attention over an encoder's tokens."""
RECURRENT_NAMES: tuple[ModelName, ...] = ("mrnn", "monet", "monet_mtts")
"""Networks that predict labels one after another."""
ORDER_NAMES: tuple[ModelName, ...] = ("monet", "monet_mtts")
"""Those of them that hold an order set."""
EXACT_TASKS = 16
"""The most tasks of which exact marginals are computed: 2^T label prefixes an order."""


class ModelConfig(Config):
    """A multi-task network (Tallec 2023, 2.3 and 2.4)."""

    name: ModelName = Field(
        "monet",
        description="`vmnc`, `vmns`, `mrnn` or `monet` (Tallec 2023, 2.3.2 and 2.4); `mttc` or `mtts` (3.4.2); "
        "`monet_mtts`: monet on the task tokens of mtts.",
    )
    encoder: EncoderConfig = Field(default_factory=EncoderConfig, description="Encoder of the inputs.")
    attention: AttentionConfig = Field(
        default_factory=AttentionConfig,
        description="Attention layers of mttc, mtts and monet_mtts; no other model has them.",
    )
    labels: LabelKind = Field(
        "binary",
        description="`binary`: each task is a label of its own; `exclusive`: the tasks are the classes of one label, "
        "and their probabilities sum to 1 (RAF-DB; not mrnn, monet, monet_mtts).",
    )
    quantisation: QuantisationConfig = Field(
        default_factory=QuantisationConfig, description="Quantisation of the encoder against over-fitting (5.2.3)."
    )
    hidden_size: Annotated[int, Field(ge=1, le=65536)] = Field(
        64, description="Units of a recurrent cell (mrnn, monet) or of a dense head layer (vmnc, vmns)."
    )
    head_layers: Annotated[int, Field(ge=1, le=16)] = Field(
        2, description="Dense layers of a prediction head (vmnc, vmns), the output layer included."
    )
    orders: OrdersConfig = Field(
        default_factory=OrdersConfig, description="Order set of monet and monet_mtts; no other model has one."
    )
    trajectories: Annotated[int, Field(ge=1, le=100_000)] = Field(
        20, description="Sampled trajectories a row at inference (mrnn: L of algorithm 1; monet: R x L of algorithm 2)."
    )
    trajectories_per_order: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1, description="L of algorithm 2: trajectories in each of the R = trajectories / L orders that monet draws."
    )
    inference: Literal["sampled", "exact"] = Field(
        "sampled",
        description="`sampled`: mean over trajectories (eq. 2.13, 2.36); `exact`: the marginals of eq. 2.23 without "
        "sampling noise, at a cost of 2^T steps an order (mrnn and monet, T <= 16).",
    )
    bias_initialisation: bool = Field(
        True, description="Start each output bias at the logit of the task's training frequency (eq. 2.38)."
    )
    guidance: tuple[GuidanceTerm, ...] = Field(
        (), description="Where attention is told to look, term by term (Tallec 2023, 3.5)."
    )

    @model_validator(mode="after")
    def _name_fits(self) -> Self:
        if self.name in ATTENTION_NAMES and not self.encoder.has_tokens:
            raise ValueError(
                f"{self.name} attends to the tokens of an image, but encoder.name is {self.encoder.name!r}; "
                "set encoder.name to conv or another encoder of faces"
            )
        if self.name in RECURRENT_NAMES and self.labels == "exclusive":
            raise ValueError(
                f"{self.name} predicts one label after another, but labels is 'exclusive'; set labels to binary or "
                "name to vmnc, vmns, mttc or mtts"
            )
        return self
