"""A small convolutional encoder, for CPUs and quick sweeps.

Shapes: B batch, H and W height and width in pixels, C channels of a token.
"""

from __future__ import annotations

from torch import nn

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.models.encoders.base import Backbone, PixelRules

MIN_CHANNELS = 8


def convolutional_backbone(config: EncoderConfig) -> Backbone:
    """(B, 3, H, W) -> (B, C, H / stride, W / stride); pixels enter in [-1, 1].

    One stage for each halving of the resolution: `layers` 3 x 3 convolutions, the first with stride 2, each followed
    by batch normalisation and a ReLU; channels double from stage to stage up to C = `width`.
    """
    stages = config.stride.bit_length() - 1
    modules: list[nn.Module] = []
    channels = 3
    for stage in range(1, stages + 1):
        wider = config.width if stage == stages else max(config.width >> (stages - stage), MIN_CHANNELS)
        for layer in range(config.layers):
            step = 2 if layer == 0 else 1
            convolution = nn.Conv2d(channels, wider, kernel_size=3, stride=step, padding=1, bias=False)
            modules += [convolution, nn.BatchNorm2d(wider), nn.ReLU()]
            channels = wider
        if config.dropout > 0:
            modules.append(nn.Dropout2d(config.dropout))
    return Backbone(nn.Sequential(*modules), PixelRules(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
