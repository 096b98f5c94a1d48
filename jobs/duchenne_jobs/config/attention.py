"""Self- and cross-attention over an encoder's tokens (Tallec 2023, 3.3 and 3.4)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.base import Config


class AttentionConfig(Config):
    """Attention layers of mttc, mtts and monet_mtts; the defaults are the thesis' (3.4.3)."""

    width: Annotated[int, Field(ge=4, le=65536)] = Field(
        768, description="d: channels of a token, a multiple of 4 and of `heads`."
    )
    heads: Annotated[int, Field(ge=1, le=1024)] = Field(12, description="n_h: attention heads of each layer.")
    self_layers: Annotated[int, Field(ge=0, le=64)] = Field(
        1, description="N_SA: self-attention layers over the image's tokens."
    )
    cross_layers: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="N_CA: layers in which the task tokens attend to the image's tokens."
    )
    mlp_ratio: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="Hidden units of a layer's perceptron, in multiples of `width`."
    )

    @model_validator(mode="after")
    def _width_divides(self) -> Self:
        if self.width % 4 or self.width % self.heads:
            raise ValueError(
                f"`width` must be a multiple of 4 (sine positions) and of `heads`, but got width={self.width} and "
                f"heads={self.heads}; change one of them"
            )
        return self
