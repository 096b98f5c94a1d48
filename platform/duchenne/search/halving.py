"""Who goes on from a rung: the rules of early stopping, as plain classes that hear scores and answer.

Pure and deterministic: the answer follows from what was heard before, in its order. More score is better.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import Protocol

from duchenne.spec.search import Asha, Fifo, MedianStopping

MEDIAN_NEEDS = 3  # other trials that a median is taken of


class StoppingRule(Protocol):
    """Decides about trials at their rungs."""

    def goes_on(self, trial: int, rung: int, score: float) -> bool:
        """Whether `trial` goes on from `rung` (counted from 1), which it reached with `score`."""
        ...

    def passing(self, trial: int, rung: int) -> int:
        """How many of those that reached `rung`, and `trial` among them, would go on."""
        ...


class NoStopping:
    """Every trial runs to its end."""

    def goes_on(self, trial: int, rung: int, score: float) -> bool:
        """Always."""
        return True

    def passing(self, trial: int, rung: int) -> int:
        """The search wants one."""
        return 1


@dataclass
class Halving:
    """Asynchronous successive halving (Li et al. 2020): of n at a rung the best ceil(n / factor) go on.

    Whoever comes first goes on, since nobody is better yet; those who come later are compared with all who were there,
    whether they went on or not. What a rung is, epochs or dollars, is for the caller to say: all that is compared here
    are scores at the same rung.

    Rounding up is for small searches: of 3 trials and a factor of 2 the second best goes on. Rounding down saves 5 to
    13 % of the cost of 8 whole trials and loses 1.3 to 3.6 times as much score on recorded curves (`docs/search.md`).
    """

    factor: int
    _scores: dict[tuple[int, int], float] = field(default_factory=dict)
    _sorted: dict[int, list[float]] = field(default_factory=dict)

    def goes_on(self, trial: int, rung: int, score: float) -> bool:
        """Hear the score, and answer."""
        scores = self._sorted.setdefault(rung, [])
        if (trial, rung) not in self._scores:
            self._scores[trial, rung] = score
            insort(scores, score)
        better = len(scores) - bisect_right(scores, score)
        return better < math.ceil(len(scores) / self.factor)

    def passing(self, trial: int, rung: int) -> int:
        """ceil(n / factor), for n that reached the rung with this trial."""
        count = len(self._sorted.get(rung, ())) + ((trial, rung) not in self._scores)
        return math.ceil(count / self.factor)


@dataclass
class MedianRule:
    """The median stopping rule (Golovin et al. 2017).

    A trial stops when its best score so far is below the median of the others' mean scores up to the same rung.
    """

    _scores: dict[int, dict[int, float]] = field(default_factory=dict)

    def goes_on(self, trial: int, rung: int, score: float) -> bool:
        """Hear the score, and answer."""
        own = self._scores.setdefault(trial, {})
        own[rung] = score
        means = [
            statistics.fmean(value for at, value in scores.items() if at <= rung)
            for other, scores in self._scores.items()
            if other != trial and max(scores) >= rung
        ]
        return len(means) < MEDIAN_NEEDS or max(own.values()) >= statistics.median(means)

    def passing(self, trial: int, rung: int) -> int:
        """Half of those that reached the rung."""
        return -(-sum(rung in scores for scores in self._scores.values()) // 2) or 1


def stopping_rule(scheduler: Asha | MedianStopping | Fifo) -> StoppingRule:
    """The rule of `search.scheduler`."""
    match scheduler:
        case Asha():
            return Halving(scheduler.reduction_factor)
        case MedianStopping():
            return MedianRule()
        case Fifo():
            return NoStopping()
