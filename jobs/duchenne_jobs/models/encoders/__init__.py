"""Encoders: inputs to the vector or the map of tokens that heads, recurrences and attention start from."""

from duchenne_jobs.models.encoders.base import Encoder, TokenEncoder, weights_sha256_of
from duchenne_jobs.models.encoders.build import build_encoder, build_token_encoder, encoder_of
from duchenne_jobs.models.encoders.weights import WeightsError

__all__ = [
    "Encoder",
    "TokenEncoder",
    "WeightsError",
    "build_encoder",
    "build_token_encoder",
    "encoder_of",
    "weights_sha256_of",
]
