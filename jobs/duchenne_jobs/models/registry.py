"""Names of the spec -> networks."""

from __future__ import annotations

from collections.abc import Callable

from duchenne_jobs.config import ModelConfig, ModelName
from duchenne_jobs.config.guidance_fit import model_misfits
from duchenne_jobs.models.inputs import DataDescription
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics
from duchenne_jobs.models.quantisation import quantise_encoders
from duchenne_jobs.models.recurrent import MONET, MRNN
from duchenne_jobs.models.transformers import MTTC, MTTS, MonetMTTS
from duchenne_jobs.models.vanilla import VMNC, VMNS

NETWORKS: dict[ModelName, Callable[[ModelConfig, DataDescription, TrainingStatistics], MultiTaskNetwork]] = {
    "vmnc": VMNC,
    "vmns": VMNS,
    "mrnn": MRNN,
    "monet": MONET,
    "mttc": MTTC,
    "mtts": MTTS,
    "monet_mtts": MonetMTTS,
}


def build_network(config: ModelConfig, data: DataDescription, statistics: TrainingStatistics) -> MultiTaskNetwork:
    """The network that `model.name` names, for rows as `data` says, initialised from torch's global generator.

    Raises:
        ValueError: it does not fit the data, or the weights that it names do not fit it; the message names the field.
    """
    for misfit in model_misfits(config):
        raise ValueError(str(misfit))
    network = NETWORKS[config.name](config, data, statistics)
    quantise_encoders(network, config.quantisation)
    return network
