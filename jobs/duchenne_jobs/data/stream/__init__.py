"""Rows of a dataset as batches of tensors, from a disk or a bucket, in an order that outlives kills and resizing.

Belongs here: which row comes when and to whom, shards on their way, pixels. Does not belong here: augmentation,
devices. Imported on first use, so that naming this package costs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duchenne_jobs.data.stream.batch import FaceBatch
    from duchenne_jobs.data.stream.faces import FaceStream
    from duchenne_jobs.data.stream.order import EpochOrder
    from duchenne_jobs.data.stream.quality import ShuffleQuality, shuffle_quality
    from duchenne_jobs.data.stream.ranks import current_rank

_HOME_OF = {
    "EpochOrder": "order",
    "FaceBatch": "batch",
    "FaceStream": "faces",
    "ShuffleQuality": "quality",
    "current_rank": "ranks",
    "shuffle_quality": "quality",
}

__all__ = ["EpochOrder", "FaceBatch", "FaceStream", "ShuffleQuality", "current_rank", "shuffle_quality"]


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` on first use, and remember the result."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
