"""Dense layers on tabular features.

Shapes: B batch, F features, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.models.encoders.base import Encoder
from duchenne_jobs.models.inputs import Inputs
from duchenne_jobs.models.network import TrainingStatistics


class FeatureEncoder(Encoder):
    """Standardisation and dense ReLU layers on tabular features (Tallec 2023, 2.5.1)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: EncoderConfig, statistics: TrainingStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", statistics.feature_mean)
        self.register_buffer("scale", statistics.feature_scale)
        layers: list[nn.Module] = []
        width = len(statistics.feature_mean)
        for _ in range(config.layers):
            layers += [nn.Linear(width, config.width), nn.ReLU()]
            if config.dropout > 0:
                layers.append(nn.Dropout(config.dropout))
            width = config.width
        self.layers = nn.Sequential(*layers)
        self.width = width

    def forward(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, W)."""
        encoded: Tensor = self.layers((inputs.require("features") - self.mean) / self.scale)
        return encoded
