"""How inputs become the tokens or the vector that heads and recurrences start from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from duchenne_jobs.config.base import Config


class EncoderConfig(Config):
    """Encoder from inputs to the hidden state h^0 (Tallec 2023, 2.5.1: four dense layers of 64 ReLU units)."""

    name: Literal["features"] = Field("features", description="`features`: dense layers on the `features` column.")
    layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="Dense layers, each followed by a ReLU.")
    width: Annotated[int, Field(ge=1, le=65536)] = Field(64, description="Units of each dense layer.")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Probability with which a unit of a dense layer is dropped in training."
    )
