"""Fold racing: a trial stops before its last fold once a sequential paired test says that it can't be the best.

The folds of all trials are the same, so two trials are compared by the differences of their scores on the folds that
both have: what a fold is like drops out. After k of K folds the mean difference D to the best rival is tested,

    stop  iff  D + t(1 - a_k / R; d) s / sqrt(k) < 0

for a_k what look k may spend of alpha (`spending`), R the rivals that there are, s the standard deviation of a
difference and d its degrees of freedom. The trial that is truly best is stopped with a probability of at most alpha: a
look stops it only if it seems worse than one of R rivals, each at level a_k / R, and the a_k add up to alpha (a union
bound, so neither the dependence of looks nor the luck of whoever seems best matters).

s must be known from few folds. As differences of other pairs vary about as much, s^2 is moderated by theirs (Smyth
2004, `Moderation`). Where the subjects behind a score are known (`Scored.subjects`), s^2 is at least what their
differences alone explain, whatever few folds happen to show.

Pure and deterministic: no clock, no Ray, nothing but the scores that it is told.
"""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import special

from duchenne.search.spending import look_level
from duchenne.spec.search import Racing

MIN_PRIOR_PAIRS = 3  # a spread of variances is not estimated from fewer
MAX_PRIOR_PAIRS = 64  # more don't make it better known


@dataclass(frozen=True)
class Scored:
    """A trial's score on one fold; more is better.

    Attributes:
        value: the fold's score.
        subjects: subject -> its part in it: values whose mean is `value`, see `duchenne.search.subjects`.
    """

    value: float
    subjects: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Test:
    """One look at a trial.

    Attributes:
        rival: the trial that it was compared with.
        folds: folds that both have.
        difference: mean difference to the rival, below 0 where the trial is worse.
        upper: the difference is below this at the look's level; the trial stops where `upper` < 0.
    """

    __test__ = False  # not pytest's

    rival: int
    folds: int
    difference: float
    upper: float

    @property
    def stops(self) -> bool:
        """Whether the trial can't be the best."""
        return self.upper < 0.0

    @property
    def reason(self) -> str:
        """One line for the records."""
        return (
            f"raced out after {self.folds} folds: {-self.difference:.4g} below trial {self.rival}, "
            f"and {-self.upper:.4g} at the least"
        )


@dataclass(frozen=True)
class Dropped:
    """A trial that is stopped before its last fold.

    Attributes:
        reason: one line for the records.
        estimate: what its mean over all folds is taken to be.
    """

    reason: str
    estimate: float


@dataclass(frozen=True)
class Moderation:
    """What other pairs say about the variance of a difference (Smyth 2004, section 6.2).

    Attributes:
        variance, degrees: of the scaled inverse chi-squared prior; 0 degrees where nothing is known.
    """

    variance: float = 0.0
    degrees: float = 0.0

    @classmethod
    def of(cls, variances: Sequence[float], degrees: Sequence[int]) -> Moderation:
        """From sample variances of other pairs and the degrees of freedom of each.

        The log of a sample variance spreads by trigamma(d / 2) if all true variances are alike; what it spreads more
        makes the prior weaker. It never counts for more than all the pairs behind it.
        """
        known = [(variance, count) for variance, count in zip(variances, degrees, strict=True) if variance > 0.0]
        if not known:
            return cls()
        total = sum(count for _, count in known)
        pooled = sum(variance * count for variance, count in known) / total
        if len(known) < MIN_PRIOR_PAIRS:
            return cls(pooled, float(min(total, known[0][1])))
        halves = np.array([count / 2.0 for _, count in known])
        logs = np.log([variance for variance, _ in known]) - special.digamma(halves) + np.log(halves)
        excess = float(np.var(logs, ddof=1) - np.mean(special.polygamma(1, halves)))
        if excess <= 0.0:
            return cls(pooled, float(total))
        prior = 2.0 * _inverse_trigamma(excess)
        centre = math.exp(float(np.mean(logs)) + float(special.digamma(prior / 2.0)) - math.log(prior / 2.0))
        return cls(centre, min(prior, float(total)))

    def moderated(self, variance: float, degrees: int) -> tuple[float, float]:
        """(variance, degrees of freedom) of a pair with a sample variance of its own."""
        total = self.degrees + degrees
        if total == 0.0:
            return 0.0, 0.0
        return (self.degrees * self.variance + degrees * variance) / total, total


class Race:
    """The folds of all trials at one rung.

    Args:
        options: level and spending.
        folds: K, the folds of a trial that runs them all.
    """

    def __init__(self, options: Racing, folds: int) -> None:
        self._options = options
        self._folds = folds
        self._scores: dict[int, list[Scored]] = {}
        self._ranked: list[list[tuple[float, int]]] = [[] for _ in range(folds)]  # by the mean of so many folds
        self._sample: list[int] = []  # the trials whose differences moderate those of others
        self._sampled = 0  # folds that they have
        self._moderations: dict[int, tuple[int, Moderation]] = {}

    def report(self, trial: int, scores: Sequence[Scored]) -> None:
        """The scores of a trial's first folds, in the order in which every trial runs them; more each time.

        Raises:
            ValueError: more scores than folds.
        """
        if len(scores) > self._folds:
            raise ValueError(f"a trial has at most {self._folds} folds, but got {len(scores)} of trial {trial}")
        before = len(self._scores.get(trial, ()))
        if trial not in self._scores and len(self._sample) < MAX_PRIOR_PAIRS:
            self._sample.append(trial)
        self._scores[trial] = list(scores)
        if trial in self._sample:
            self._sampled += len(scores) - before
        for count, total in enumerate(itertools.accumulate(score.value for score in scores), start=1):
            if count > before:
                insort(self._ranked[count - 1], (total / count, -trial))

    def look(self, trial: int, passing: int = 1) -> Test | None:
        """Compare a trial with the last of the `passing` best rivals on its own folds.

        `passing` is 1 where only the best is wanted; where a scheduler lets several go on, it is how many.

        Returns:
            None where there is nothing to test: too few folds or rivals, or the trial has all its folds.
        """
        count = len(self._scores.get(trial, ()))
        if count < self._options.min_folds or count >= self._folds:
            return None
        better = (-negative for _, negative in reversed(self._ranked[count - 1]) if -negative != trial)
        rival = next(itertools.islice(better, passing - 1, None), None)
        if rival is None:
            return None
        level = look_level(self._options.spending, self._options.alpha, count, self._folds - 1)
        return self._test(trial, rival, level / (len(self._scores) - 1))

    def dropped(self, trial: int, passing: int = 1) -> Dropped | None:
        """Whether the test stops the trial; `passing` as in `look`."""
        test = self.look(trial, passing)
        return Dropped(test.reason, self.estimate(trial, test.rival)) if test is not None and test.stops else None

    def estimate(self, trial: int, rival: int) -> float:
        """What a stopped trial's mean over all folds is taken to be: the rival's, and their mean difference."""
        own, other = self._scores[trial], self._scores[rival]
        return fmean(score.value for score in other) + fmean(_differences(own, other))

    def _test(self, trial: int, rival: int, level: float) -> Test | None:
        own, other = self._scores[trial], self._scores[rival]
        differences = _differences(own, other)
        count = len(differences)
        variance, degrees = self._moderation(trial, rival).moderated(_variance(differences), count - 1)
        if degrees < 1.0:
            return None
        within = _within_subjects(own, other)
        if within is not None and within[0] > variance:
            variance, degrees = within[0], min(degrees, within[1])
        mean = fmean(differences)
        reach = float(-special.stdtrit(degrees, level)) * math.sqrt(variance / count)
        return Test(rival, count, mean, mean + reach)

    def _moderation(self, trial: int, rival: int) -> Moderation:
        """From other trials' differences to the same rival: those of the first trials, which serve all later ones."""
        sampled, known = self._moderations.get(rival, (-1, Moderation()))
        if sampled == self._sampled and trial not in self._sample:
            return known
        rows = [
            _differences(self._scores[other], self._scores[rival])
            for other in self._sample
            if other not in (trial, rival)
        ]
        rows = [row for row in rows if len(row) > 1]
        found = Moderation.of([_variance(row) for row in rows], [len(row) - 1 for row in rows])
        if trial not in self._sample:
            self._moderations[rival] = (self._sampled, found)
        return found


def _differences(own: Sequence[Scored], other: Sequence[Scored]) -> list[float]:
    return [mine.value - theirs.value for mine, theirs in zip(own, other, strict=False)]


def _variance(values: Sequence[float]) -> float:
    """The sample variance; 0 of a single value."""
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)


def _within_subjects(own: Sequence[Scored], other: Sequence[Scored]) -> tuple[float, float] | None:
    """(variance of a fold's difference as its subjects explain it, degrees of freedom); None where they are unknown."""
    variances: list[float] = []
    degrees = 0
    for mine, theirs in zip(own, other, strict=False):
        if mine.subjects is None or theirs.subjects is None:
            return None
        shared = [mine.subjects[name] - theirs.subjects[name] for name in mine.subjects if name in theirs.subjects]
        if len(shared) < 2:
            return None
        variances.append(_variance(shared) / len(shared))
        degrees += len(shared) - 1
    return fmean(variances), float(degrees)


def _inverse_trigamma(value: float) -> float:
    """y with trigamma(y) = value, by Newton's method on 1 / trigamma, which is convex (Smyth 2004, appendix)."""
    if value > 1e7:
        return 1.0 / math.sqrt(value)
    if value < 1e-6:
        return 1.0 / value
    guess = 0.5 + 1.0 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, guess))
        step = trigamma * (1.0 - trigamma / value) / float(special.polygamma(2, guess))
        guess += step
        if abs(step) < 1e-8 * guess:
            break
    return guess
