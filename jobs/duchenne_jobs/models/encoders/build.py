"""Names of the spec -> encoders."""

from __future__ import annotations

from torch import nn

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.models.encoders.base import Encoder, TokenEncoder
from duchenne_jobs.models.encoders.convolutional import convolutional_backbone
from duchenne_jobs.models.encoders.features import FeatureEncoder
from duchenne_jobs.models.encoders.pretrained import pretrained_backbone
from duchenne_jobs.models.inputs import DataDescription
from duchenne_jobs.models.network import TrainingStatistics


def build_token_encoder(config: EncoderConfig, data: DataDescription) -> TokenEncoder:
    """The encoder of faces that a config names.

    Raises:
        ValueError: it has no tokens, the data has no images or images of the wrong size, or its weights don't fit.
    """
    if not config.has_tokens:
        raise ValueError(f"attention reads a map of tokens, but model.encoder {config.name} gives none; name another")
    backbone = convolutional_backbone(config) if config.name == "conv" else pretrained_backbone(config)
    return TokenEncoder(backbone, config, data)


def build_encoder(
    config: EncoderConfig, data: DataDescription, statistics: TrainingStatistics, out_width: int | None = None
) -> nn.Module:
    """The encoder that a config names, inputs -> (B, W), projected to `out_width` where W differs from it.

    Raises:
        ValueError: as `build_token_encoder`.
    """
    encoder = encoder_of(config, data, statistics)
    if out_width is None or out_width == encoder.width:
        return encoder
    return nn.Sequential(encoder, nn.Linear(encoder.width, out_width))


def encoder_of(config: EncoderConfig, data: DataDescription, statistics: TrainingStatistics) -> Encoder:
    """The encoder that a config names, at its own width; raises as `build_encoder`."""
    return FeatureEncoder(config, statistics) if config.name == "features" else build_token_encoder(config, data)
