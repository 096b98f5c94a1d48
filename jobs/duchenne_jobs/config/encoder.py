"""How inputs become the tokens or the vector that heads and recurrences start from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from duchenne_jobs.config.base import Config, PositiveFloat

EncoderName = Literal["features", "conv", "inception_v3", "resnet50", "vit_b16", "inception_resnet_v1"]
Channels = tuple[float, float, float]
PositiveChannels = tuple[PositiveFloat, PositiveFloat, PositiveFloat]

_FACES: tuple[EncoderName, ...] = ("conv", "inception_v3", "resnet50", "vit_b16", "inception_resnet_v1")
_PRETRAINED: tuple[EncoderName, ...] = ("inception_v3", "resnet50", "vit_b16", "inception_resnet_v1")
_OWNERS: dict[str, tuple[EncoderName, ...]] = {
    "layers": ("features", "conv"),
    "width": ("features", "conv"),
    "dropout": ("features", "conv"),
    "stride": ("conv",),
    "cut": ("resnet50",),
    "image_size": _FACES,
    "pixel_mean": _FACES,
    "pixel_std": _FACES,
    "weights": _PRETRAINED,
    "weights_sha256": _PRETRAINED,
}
# Side of the smallest image that leaves a token, and what each side must be a multiple of: the size of a patch.
_SIDES: dict[EncoderName, tuple[int, int]] = {
    "inception_v3": (75, 1),
    "resnet50": (32, 1),
    "vit_b16": (16, 16),
    "inception_resnet_v1": (75, 1),
}


class EncoderConfig(Config):
    """Encoder of tabular features (Tallec 2023, 2.5.1) or of faces (2.5.2, 3.4.1).

    An encoder of faces gives a map of tokens, which attention reads, and their mean, which any other head reads.
    """

    name: EncoderName = Field(
        "features",
        description="`features`: dense layers on the `features` column; `conv`: a small convolutional network for "
        "CPUs; `inception_v3`, `resnet50`, `vit_b16`, `inception_resnet_v1`: the networks of those names.",
    )
    layers: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="features: dense layers, each followed by a ReLU; conv: convolutions at each resolution."
    )
    width: Annotated[int, Field(ge=1, le=65536)] = Field(
        64, description="features: units of each dense layer; conv: channels of a token, halved at each finer stage."
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Probability with which a unit (features) or a channel (conv) is dropped in training."
    )
    stride: Literal[4, 8, 16, 32] = Field(8, description="conv: pixels between two tokens.")
    cut: Literal["28x28", "14x14", "7x7"] = Field(
        "14x14",
        description="resnet50: the stage that gives the tokens, by its grid on 224 pixels (3.4.3).",
    )
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = Field(
        None, description="Side in pixels to which images are resized for the encoder; null keeps their size."
    )
    weights: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Weights to start from: a path or `s3://` URL of a `.safetensors`, `.pt` or `.pth` file; null "
        "starts at random. Nothing is ever fetched from a hub.",
    )
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="SHA-256 that the file of `weights` must have; null takes any and logs it."
    )
    pixel_mean: Channels | None = Field(
        None, description="Mean of red, green and blue in [0, 1] taken off the pixels; null for the encoder's own."
    )
    pixel_std: PositiveChannels | None = Field(
        None, description="Deviation of red, green and blue the pixels are divided by; null for the encoder's own."
    )

    @property
    def has_tokens(self) -> bool:
        """Whether it gives a map of tokens that attention can read."""
        return self.name in _FACES

    @property
    def sides(self) -> tuple[int, int]:
        """(smallest side, what each side must be a multiple of) of an encoder of faces, in pixels."""
        return _SIDES.get(self.name, (self.stride, self.stride))

    @property
    def sides_rule(self) -> str:
        """`sides` in words."""
        least, multiple = self.sides
        return f"sides of {least} pixels or more" + (f", multiples of {multiple}" if multiple > 1 else "")

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether an encoder of faces takes images of (H, W) pixels."""
        least, multiple = self.sides
        return min(size) >= least and not any(side % multiple for side in size)

    @model_validator(mode="after")
    def _only_own_parameters(self) -> Self:
        for parameter, names in _OWNERS.items():
            value = getattr(self, parameter)
            if self.name not in names and value != type(self).model_fields[parameter].default:
                raise ValueError(
                    f"`{parameter}` belongs to encoder {' or '.join(names)}, but name is {self.name!r}; "
                    f"set name to {names[0]!r} or remove {parameter}"
                )
        if self.weights_sha256 is not None and self.weights is None:
            raise ValueError("`weights_sha256` needs `weights`, but there are none; add weights or remove it")
        return self

    @model_validator(mode="after")
    def _takes_its_images(self) -> Self:
        side = self.image_size
        if side is not None and self.has_tokens and not self.takes((side, side)):
            raise ValueError(f"`image_size`: {self.name} needs {self.sides_rule}, but got {side}; choose another")
        return self
