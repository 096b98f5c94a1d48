"""Networks that map a row's inputs to one probability a task, and the comparators that they are measured against.

`build_network` is the way in; `docs/models.md` says how to add a model or an encoder.
"""

from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.models.network import MultiTaskNetwork, TrainingStatistics
from duchenne_jobs.models.registry import NETWORKS, build_network

__all__ = ["NETWORKS", "DataDescription", "Inputs", "MultiTaskNetwork", "TrainingStatistics", "build_network"]
