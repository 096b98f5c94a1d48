"""Fold racing by rank: successive halving over the folds of a trial, as `asha` halves over its epochs.

After 1, f, f^2, ... folds a trial goes on only if it is among the best ceil(n / f) of the n trials that have had as
many. Of trials of 6 folds it runs about 40 % of them, whatever the scores are like, where the test of
`duchenne.search.racing` waits until it is sure.

A heuristic: nothing bounds the chance that the truly best trial is stopped after an unlucky first fold.

Pure and deterministic, as the test is.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from duchenne.search.halving import Halving
from duchenne.search.racing import Dropped, Scored


class RankRace:
    """The folds of all trials at one rung.

    Args:
        factor: f.
        folds: of a trial that runs them all.
    """

    def __init__(self, factor: int, folds: int) -> None:
        self._halving = Halving(factor)
        self._folds = folds
        self._scores: dict[int, list[float]] = {}

    def report(self, trial: int, scores: Sequence[Scored]) -> None:
        """The scores of a trial's first folds, in the order in which every trial runs them; more each time."""
        self._scores[trial] = [score.value for score in scores]

    def dropped(self, trial: int, passing: int = 1) -> Dropped | None:
        """Whether the trial ends with the folds that it has; `passing`, which the test asks for, has no part in it."""
        own = self._scores[trial]
        count = len(own)
        if count >= self._folds or self._halving.goes_on(trial, count, fmean(own)):
            return None
        best = self._halving.passing(trial, count)
        reason = f"raced out after {count} of {self._folds} folds: not among the best {best} that had as many"
        return Dropped(reason, fmean(own) + self._later_folds(count))

    def _later_folds(self, count: int) -> float:
        """What the mean of whole trials gained, on average, by the folds after the first `count`."""
        gains = [fmean(all_) - fmean(all_[:count]) for all_ in self._scores.values() if len(all_) == self._folds]
        return fmean(gains) if gains else 0.0


def rank_levels(folds: int, first: int, factor: int) -> tuple[int, ...]:
    """After how many folds trials are compared: `first` times powers of the factor, and all folds."""
    levels = []
    level = first
    while level < folds:
        levels.append(level)
        level *= factor
    return (*levels, folds)
