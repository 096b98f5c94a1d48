"""Use of trained networks outside a sweep: predictions of videos, folders and datasets, and export.

Belongs here: what starts from checkpoints. Does not belong here: training, and which checkpoints an entry has (the
control plane knows).
"""

from duchenne_jobs.prediction.errors import PredictionError

__all__ = ["PredictionError"]
