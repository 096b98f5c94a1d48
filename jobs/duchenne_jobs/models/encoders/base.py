"""What every encoder offers: a vector a row; encoders of faces also a map of tokens.

Shapes: B batch, C channels of a token, h and w rows and columns of tokens, W width of the vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.models.inputs import DataDescription, Inputs


class Encoder(nn.Module, ABC):
    """Inputs to one vector a row.

    Attributes:
        width: W.
    """

    width: int

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, W)."""


@dataclass(frozen=True)
class PixelRules:
    """What an encoder asks of its pixels.

    Attributes:
        mean, std: of red, green and blue in [0, 1]: pixels enter as (x - mean) / std.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A network from normalised images to tokens.

    Attributes:
        network: (B, 3, H, W) -> (B, C, h, w).
        rules: what it asks of pixels.
        weights_sha256: checksum of the file of weights that it starts from; None where it starts at random.
    """

    network: nn.Module
    rules: PixelRules
    weights_sha256: str | None = None


class TokenEncoder(Encoder):
    """Images to a map of tokens; the vector is their mean.

    Args:
        backbone: what makes the tokens.
        config: resizing, and a normalisation other than the backbone's own.
        data: the size of the images.

    Attributes:
        width: C.
        grid: (h, w).
        weights_sha256: checksum of the file of weights that it started from, or None.

    Raises:
        ValueError: the data has no images, or none of a size that the backbone takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, config: EncoderConfig, data: DataDescription) -> None:
        super().__init__()
        rules = backbone.rules
        self.weights_sha256 = backbone.weights_sha256
        self.size = _encoded_size(config, data)
        self.register_buffer("mean", torch.tensor(config.pixel_mean or rules.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config.pixel_std or rules.std)[:, None, None], persistent=False)
        self.backbone = backbone.network
        self.backbone.eval()  # a batch of one must neither be normalised by itself nor move the running statistics
        with torch.no_grad():
            _, self.width, height, width = self.backbone(torch.zeros(1, 3, *self.size)).shape
        self.backbone.train()
        self.grid = (height, width)

    def tokens(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, C, h, w).

        Raises:
            ValueError: the rows have no images, or images of bytes.
        """
        images = inputs.require("images")
        if not images.is_floating_point():
            raise ValueError(f"an encoder takes pixels in [0, 1], but got {images.dtype}; divide them by 255")
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=True)
        tokens: Tensor = self.backbone((images - self.mean) / self.std)
        return tokens

    def forward(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, W), the mean of the tokens."""
        return self.pool(self.tokens(inputs))

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, W)."""
        return tokens.mean(dim=(2, 3))


def _encoded_size(config: EncoderConfig, data: DataDescription) -> tuple[int, int]:
    if data.image_size is None:
        raise ValueError(
            f"model.encoder {config.name} needs images, but the dataset has none; use encoder features or other data"
        )
    size = data.image_size if config.image_size is None else (config.image_size, config.image_size)
    if not config.takes(size):
        raise ValueError(
            f"model.encoder {config.name} needs {config.sides_rule}, but got {size[0]} x {size[1]}; set "
            "model.encoder.image_size"
        )
    return size


def weights_sha256_of(network: nn.Module) -> str | None:
    """Checksum of the file of weights that the network's encoder started from; None where it started at random."""
    encoders = (module for module in network.modules() if isinstance(module, TokenEncoder))
    return next((encoder.weights_sha256 for encoder in encoders), None)
