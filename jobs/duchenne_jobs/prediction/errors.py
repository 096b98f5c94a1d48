"""What can't be predicted or exported, in words for the person who asked."""

from __future__ import annotations

from duchenne_jobs.data.errors import DatasetError


class PredictionError(DatasetError):
    """A checkpoint, a source or an option that doesn't fit; the message says what to do."""
