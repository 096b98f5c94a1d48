"""The refusals of the data room. Each message is one line: the rule broken, the value seen, the next action."""

from __future__ import annotations


class DatasetError(ValueError):
    """A dataset is missing, half-written, damaged, of an unknown version, or could not be written."""


class FoldError(ValueError):
    """Folds that can't be made: more folds than subjects, a subject in two parts, a subject in none."""


class LeakError(FoldError):
    """A row of a subject was streamed into a split that the subject doesn't belong to."""
