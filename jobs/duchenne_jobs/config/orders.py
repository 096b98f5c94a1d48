"""Which orders MONET holds and how it chooses among them (Tallec 2023, 2.4 and 2.6)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.base import Config, PositiveFloat, PositiveInt


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
