"""What a fold job is told: the model, the loss and the training of one run, as frozen pydantic models.

`duchenne.spec` composes these into a sweep; the worker receives them as they are. Nothing here imports torch, so that
`duchenne validate` stays quick.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of every section: unknown fields are refused, values never change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class EncoderConfig(Config):
    """Encoder from inputs to the hidden state h^0 (Tallec 2023, 2.5.1: four dense layers of 64 ReLU units)."""

    name: Literal["features"] = Field("features", description="`features`: dense layers on the `features` column.")
    layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="Dense layers, each followed by a ReLU.")
    width: Annotated[int, Field(ge=1, le=65536)] = Field(64, description="Units of each dense layer.")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Probability with which a unit of a dense layer is dropped in training."
    )


class OrdersConfig(Config):
    """MONET's order set and how its soft order is learned (Tallec 2023, 2.4)."""

    count: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        32,
        description="M: orders in the set. `source: random` draws distinct ones, and takes all T! where M is larger.",
    )
    active: PositiveInt | None = Field(
        None, description="k: orders kept a training step by order dropout (eq. 2.34); null keeps all M."
    )
    dropout_per: Literal["batch", "example"] = Field(
        "batch", description="Draw one subset of k orders a batch, or one for each example."
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        0, description="Epochs in which the order logits stay frozen (2.4.3)."
    )
    learning_rate: PositiveFloat = Field(5e-3, description="Adam's learning rate of the order logits, constant.")
    source: Literal["random", "identity"] = Field(
        "random", description="`random`: M distinct orders drawn by `seed`; `identity`: the order of the tasks alone."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of the random order set.")

    @model_validator(mode="after")
    def _active_within_count(self) -> Self:
        if self.active is not None and self.active > self.count:
            raise ValueError(
                f"`active` <= `count` must hold, but got active={self.active} and count={self.count}; "
                "lower active or raise count"
            )
        return self


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


class SmoothingConfig(Config):
    """Label smoothing (Tallec 2023, chapter 4). The conditioning labels of a recurrence stay hard."""

    name: Literal["none", "ls", "vls", "vals", "rhls"] = Field(
        "none",
        description="`ls`/`vls`: eq. 4.4/4.6 with `alpha`; `vals`: eq. 4.10 with `alpha_positive`, `alpha_negative`; "
        "`rhls`: eq. 4.11 and 4.12 with `beta`.",
    )
    alpha: Probability | None = Field(
        None, description="Probability that a label becomes uniform (ls, vls; default 0.1)."
    )
    alpha_positive: Probability | None = Field(None, description="The same for positive labels (vals; default 0).")
    alpha_negative: Probability | None = Field(None, description="The same for negative labels (vals; default 0.25).")
    beta: Probability | None = Field(
        None, description="Share of the majority's surplus that is smoothed (rhls; default 0.25)."
    )
    mixing: Literal["uniform", "published"] = Field(
        "uniform", description="`uniform`: a smoothed label becomes uniform; `published`: eq. 4.10 and 4.12 as printed."
    )

    @model_validator(mode="after")
    def _only_own_parameters(self) -> Self:
        owners = {"alpha": ("ls", "vls"), "alpha_positive": ("vals",), "alpha_negative": ("vals",), "beta": ("rhls",)}
        for parameter, names in owners.items():
            if getattr(self, parameter) is not None and self.name not in names:
                raise ValueError(
                    f"`{parameter}` belongs to smoothing {' or '.join(names)}, but name is {self.name!r}; "
                    f"set name to {names[0]!r} or remove {parameter}"
                )
        return self


class LossConfig(Config):
    """Binary cross-entropy, and what is added to it."""

    smoothing: SmoothingConfig = Field(default_factory=SmoothingConfig, description="Label smoothing of the targets.")
    task_weights: Literal["none", "inverse_frequency"] = Field(
        "none", description="`inverse_frequency`: w^t proportional to 1 / f^t, mean 1 (eq. 2.39)."
    )
    dice: NonNegativeFloat = Field(0.0, description="Coefficient of the Dice term (eq. 2.40); 0 leaves it out.")


class TrainingConfig(Config):
    """Optimisation of one fold job."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(30, description="Passes over the training rows.")
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(64, description="Rows a step.")
    optimizer: Literal["adam", "adamw"] = Field("adamw", description="Optimiser of everything but the order logits.")
    learning_rate: PositiveFloat = Field(1e-3, description="Base learning rate.")
    weight_decay: NonNegativeFloat = Field(0.0, description="Weight decay of the optimiser.")
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="Factor on the learning rate after each epoch (0.99 in 2.5.1)."
    )
    gradient_clip: PositiveFloat | None = Field(None, description="Bound on the gradient's global norm; null for none.")


class RunConfig(Config):
    """Model, loss and training of one fold job: what a trial of the search chooses."""

    model: ModelConfig = Field(default_factory=ModelConfig, description="The network.")
    loss: LossConfig = Field(default_factory=LossConfig, description="The training loss.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The optimisation.")
