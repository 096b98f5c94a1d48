"""Inception-ResNet-v1 (Szegedy et al. 2017), the face network whose VGGFace2 weights are in public use.

Shapes: B batch, H and W height and width in pixels, C channels.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from duchenne_jobs.models.encoders.base import PixelRules

# Pixels of 0..255 enter as (x - 127.5) / 128.
RULES = PixelRules(mean=(0.5, 0.5, 0.5), std=(128 / 255, 128 / 255, 128 / 255))
CHANNELS = 1792
Kernel = int | tuple[int, int]

_FACENET_NAMES = [
    *((rf"^conv2d_{name}\.", f"stem.{position}.") for position, name in enumerate(["1a", "2a", "2b"])),
    *((rf"^conv2d_{name}\.", f"stem.{position}.") for position, name in enumerate(["3b", "4a", "4b"], start=4)),
    (r"^repeat_1\.", "blocks_35."),
    (r"^mixed_6a\.", "reduction_a."),
    (r"^repeat_2\.", "blocks_17."),
    (r"^mixed_7a\.", "reduction_b."),
    (r"^repeat_3\.(\d)\.", r"blocks_8.\1."),
    (r"^block8\.", "blocks_8.5."),
    (r"\.branch(\d)\.(\d)\.", r".branches.\1.\2."),
    (r"\.branch(\d)\.(conv|bn)\.", r".branches.\1.0.\2."),
    (r"\.conv2d\.", ".projection."),
]


class _Unit(nn.Sequential):
    """Convolution, batch normalisation, ReLU. A stride above 1 comes without padding, as in the first network."""

    def __init__(self, channels: int, wider: int, kernel: Kernel, stride: int = 1, padded: bool = True) -> None:
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (high // 2, wide // 2) if padded and stride == 1 else (0, 0)
        convolution = nn.Conv2d(channels, wider, (high, wide), stride, padding, bias=False)
        super().__init__(OrderedDict(conv=convolution, bn=nn.BatchNorm2d(wider, eps=1e-3), relu=nn.ReLU()))


def _branch(channels: int, units: list[tuple[int, Kernel, int]]) -> nn.Sequential:
    """Units of (channels, kernel, stride) in a row."""
    modules = []
    for wider, kernel, stride in units:
        modules.append(_Unit(channels, wider, kernel, stride))
        channels = wider
    return nn.Sequential(*modules)


class _Residual(nn.Module):
    """`x + scale * projection(branches side by side)`, with a ReLU unless it is the last block of the network."""

    def __init__(self, channels: int, branches: list[list[tuple[int, Kernel, int]]], scale: float, relu: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, units) for units in branches)
        self.projection = nn.Conv2d(sum(units[-1][0] for units in branches), channels, kernel_size=1)
        self._scale = scale
        self._relu = relu

    def forward(self, x: Tensor) -> Tensor:
        update = self.projection(torch.cat([branch(x) for branch in self.branches], dim=1))
        x = x + self._scale * update
        return torch.relu(x) if self._relu else x


class _Reduction(nn.Module):
    """Branches that halve the resolution, beside a max pooling."""

    def __init__(self, channels: int, branches: list[list[tuple[int, Kernel, int]]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, units) for units in branches)
        self.pool = nn.MaxPool2d(3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(branch(x) for branch in self.branches), self.pool(x)], dim=1)


class InceptionResnetV1(nn.Module):
    """(B, 3, H, W) -> (B, 1792, h, w): all but the pooling and the embedding; 3 x 3 tokens on 160 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _Unit(3, 32, 3, stride=2),
            _Unit(32, 32, 3, padded=False),
            _Unit(32, 64, 3),
            nn.MaxPool2d(3, stride=2),
            _Unit(64, 80, 1),
            _Unit(80, 192, 3, padded=False),
            _Unit(192, 256, 3, stride=2),
        )
        block_35: list[list[tuple[int, Kernel, int]]] = [
            [(32, 1, 1)],
            [(32, 1, 1), (32, 3, 1)],
            [(32, 1, 1), (32, 3, 1), (32, 3, 1)],
        ]
        block_17: list[list[tuple[int, Kernel, int]]] = [
            [(128, 1, 1)],
            [(128, 1, 1), (128, (1, 7), 1), (128, (7, 1), 1)],
        ]
        block_8: list[list[tuple[int, Kernel, int]]] = [
            [(192, 1, 1)],
            [(192, 1, 1), (192, (1, 3), 1), (192, (3, 1), 1)],
        ]
        self.blocks_35 = nn.Sequential(*(_Residual(256, block_35, 0.17, relu=True) for _ in range(5)))
        self.reduction_a = _Reduction(256, [[(384, 3, 2)], [(192, 1, 1), (192, 3, 1), (256, 3, 2)]])
        self.blocks_17 = nn.Sequential(*(_Residual(896, block_17, 0.10, relu=True) for _ in range(10)))
        self.reduction_b = _Reduction(
            896, [[(256, 1, 1), (384, 3, 2)], [(256, 1, 1), (256, 3, 2)], [(256, 1, 1), (256, 3, 1), (256, 3, 2)]]
        )
        # The block after the five repeated ones stands alone in the paper: scale 1, and no ReLU.
        repeated = (_Residual(CHANNELS, block_8, 0.20, relu=True) for _ in range(5))
        self.blocks_8 = nn.Sequential(*repeated, _Residual(CHANNELS, block_8, 1.0, relu=False))

    def forward(self, images: Tensor) -> Tensor:
        x = self.blocks_35(self.stem(images))
        x = self.blocks_17(self.reduction_a(x))
        tokens: Tensor = self.blocks_8(self.reduction_b(x))
        return tokens


def from_facenet(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Names of facenet-pytorch's state dict (`conv2d_1a.conv.weight`, ...) to ours; other state dicts as they are."""
    if not any(name.startswith("conv2d_1a.") for name in state):
        return state
    return {_renamed(name): tensor for name, tensor in state.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in _FACENET_NAMES:
        name = re.sub(pattern, replacement, name)
    return name
