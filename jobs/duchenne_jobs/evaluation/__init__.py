"""From probabilities to numbers: per-row prediction files and the metrics that are computed from them, nothing else."""

from duchenne_jobs.evaluation.calibration import Reliability, reliability
from duchenne_jobs.evaluation.metrics import METRICS, evaluate, task_auc, task_f1
from duchenne_jobs.evaluation.predictions import Predictions, concatenate, read_predictions, write_predictions
from duchenne_jobs.evaluation.tasks import TaskScore, task_scores
from duchenne_jobs.evaluation.thresholds import best_thresholds

__all__ = [
    "METRICS",
    "Predictions",
    "Reliability",
    "TaskScore",
    "best_thresholds",
    "concatenate",
    "evaluate",
    "read_predictions",
    "reliability",
    "task_auc",
    "task_f1",
    "task_scores",
    "write_predictions",
]
