"""Training of one fold job, segment by segment: `FoldJob` says what, `FoldJobRunner` does it on a worker."""

from duchenne_jobs.data import FoldsRequest
from duchenne_jobs.training.job import (
    FoldJob,
    JobContext,
    JobFailed,
    JobKey,
    JobStopped,
    SegmentResult,
    inner_predictions_path,
)

__all__ = [
    "FoldJob",
    "FoldsRequest",
    "JobContext",
    "JobFailed",
    "JobKey",
    "JobStopped",
    "SegmentResult",
    "inner_predictions_path",
]
