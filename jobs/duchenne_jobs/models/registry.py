"""Names of the spec -> networks."""

from __future__ import annotations

from collections.abc import Callable

from duchenne_jobs.config import ModelConfig, ModelName
from duchenne_jobs.models.inputs import DataDescription
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics
from duchenne_jobs.models.recurrent import MONET, MRNN
from duchenne_jobs.models.vanilla import VMNC, VMNS

NETWORKS: dict[ModelName, Callable[[ModelConfig, DataDescription, TrainingStatistics], MultiTaskNetwork]] = {
    "vmnc": VMNC,
    "vmns": VMNS,
    "mrnn": MRNN,
    "monet": MONET,
}


def build_network(config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> MultiTaskNetwork:
    """The network that `model.name` names, for rows as `data` says, initialised from torch's global generator."""
    return NETWORKS[config.name](config, data, statistics)
