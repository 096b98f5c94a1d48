"""Quantisation of the encoder against over-fitting (Tallec 2023, 5.2.3)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.base import Config


class QuantisationConfig(Config):
    """int8 of the encoder's convolutions and dense layers, with straight-through gradients in training."""

    name: Literal["none", "int8_weight_only", "int8_dynamic", "int8_qat"] = Field(
        "none",
        description="`int8_weight_only`: the weights; `int8_dynamic`: weights and inputs, over each row's own range; "
        "`int8_qat`: weights and inputs, over a range learned in training and then fixed.",
    )
    post_training: bool = Field(
        False, description="Train in floating point and quantise predictions only (not int8_qat)."
    )

    @model_validator(mode="after")
    def _qat_is_trained(self) -> Self:
        if self.post_training and self.name == "int8_qat":
            raise ValueError(
                "`int8_qat` learns its ranges in training, but post_training is true; set it to false or name "
                "int8_dynamic"
            )
        return self
