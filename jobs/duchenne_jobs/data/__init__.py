"""The data room: datasets as checked Arrow shards, their ingesters, and subject-exclusive folds.

Belongs here: reading, writing and checking rows, and who is in which fold. Does not belong here: batches, tensors and
augmentation (they belong to training). Everything is imported on first use, so that `import duchenne_jobs.data` stays
light: the command line asks this package about folds without paying for Arrow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duchenne_jobs.data.balance import SubjectLabels
    from duchenne_jobs.data.builtin import builtin_subject_count, builtin_tasks, materialise
    from duchenne_jobs.data.contact import save_contact_sheet
    from duchenne_jobs.data.dataset import Dataset, open_dataset
    from duchenne_jobs.data.errors import DatasetError, FoldError, LeakError
    from duchenne_jobs.data.folds import Fold, FoldPlan, InnerFold, check_rows, make_folds
    from duchenne_jobs.data.forget import Forgotten, forget_subject
    from duchenne_jobs.data.holdout import make_holdout
    from duchenne_jobs.data.ingesters import INGESTERS, ingest
    from duchenne_jobs.data.listing import Listed, find_datasets
    from duchenne_jobs.data.manifest import Description, LandmarkScheme, Manifest, Shard
    from duchenne_jobs.data.partition import SubjectPartitions
    from duchenne_jobs.data.planning import FoldsRequest, folds_of, plan_folds
    from duchenne_jobs.data.protocol import Protocol, load_protocol
    from duchenne_jobs.data.report import FaceReport, face_report, save_report_figure
    from duchenne_jobs.data.show import DatasetSummary, TaskSummary, save_label_figure, summary
    from duchenne_jobs.data.stream.batch import FaceBatch
    from duchenne_jobs.data.stream.faces import FaceStream
    from duchenne_jobs.data.toy import toy_dataset
    from duchenne_jobs.data.writer import DatasetWriter

_HOME_OF = {
    "SubjectLabels": "balance",
    "builtin_subject_count": "builtin",
    "builtin_tasks": "builtin",
    "materialise": "builtin",
    "save_contact_sheet": "contact",
    "Dataset": "dataset",
    "open_dataset": "dataset",
    "DatasetError": "errors",
    "FoldError": "errors",
    "LeakError": "errors",
    "Fold": "folds",
    "FoldPlan": "folds",
    "InnerFold": "folds",
    "check_rows": "folds",
    "make_folds": "folds",
    "make_holdout": "holdout",
    "Forgotten": "forget",
    "forget_subject": "forget",
    "INGESTERS": "ingesters",
    "ingest": "ingesters",
    "Listed": "listing",
    "find_datasets": "listing",
    "Description": "manifest",
    "LandmarkScheme": "manifest",
    "Manifest": "manifest",
    "Shard": "manifest",
    "SubjectPartitions": "partition",
    "FoldsRequest": "planning",
    "folds_of": "planning",
    "plan_folds": "planning",
    "Protocol": "protocol",
    "load_protocol": "protocol",
    "FaceReport": "report",
    "face_report": "report",
    "save_report_figure": "report",
    "DatasetSummary": "show",
    "TaskSummary": "show",
    "save_label_figure": "show",
    "summary": "show",
    "FaceBatch": "stream.batch",
    "FaceStream": "stream.faces",
    "toy_dataset": "toy",
    "DatasetWriter": "writer",
}

__all__ = [
    "INGESTERS",
    "Dataset",
    "DatasetError",
    "DatasetSummary",
    "DatasetWriter",
    "Description",
    "FaceBatch",
    "FaceReport",
    "FaceStream",
    "Fold",
    "FoldError",
    "FoldPlan",
    "FoldsRequest",
    "Forgotten",
    "InnerFold",
    "LandmarkScheme",
    "LeakError",
    "Listed",
    "Manifest",
    "Protocol",
    "Shard",
    "SubjectLabels",
    "SubjectPartitions",
    "TaskSummary",
    "builtin_subject_count",
    "builtin_tasks",
    "check_rows",
    "face_report",
    "find_datasets",
    "folds_of",
    "forget_subject",
    "ingest",
    "load_protocol",
    "make_folds",
    "make_holdout",
    "materialise",
    "open_dataset",
    "plan_folds",
    "save_contact_sheet",
    "save_label_figure",
    "save_report_figure",
    "summary",
    "toy_dataset",
]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` on first use, and remember the result."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
