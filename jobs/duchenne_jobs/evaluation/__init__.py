"""From probabilities to numbers: per-row prediction files and the metrics that are computed from them, nothing else."""

from duchenne_jobs.evaluation.metrics import METRICS, evaluate, task_f1
from duchenne_jobs.evaluation.predictions import Predictions, read_predictions, write_predictions

__all__ = ["METRICS", "Predictions", "evaluate", "read_predictions", "task_f1", "write_predictions"]
