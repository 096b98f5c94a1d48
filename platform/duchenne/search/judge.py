"""What happens to a trial after each report: it goes on, or it is stopped, and why.

The one place where early stopping and fold racing meet. Ray Tune asks it in a real search
(`duchenne.search.tune_scheduler`), a virtual clock in a simulation: pure, deterministic, without Ray.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from duchenne.search.halving import StoppingRule, stopping_rule
from duchenne.search.racing import Race, Scored
from duchenne.search.rank_race import RankRace, rank_levels
from duchenne.spec.search import Asha, Fifo, MedianStopping, Racing


@dataclass(frozen=True)
class Report:
    """What a trial has to show.

    Attributes:
        trial: its number.
        rung: the rung that its folds were brought to, from 1.
        scores: those of its folds that are there, in the order in which every trial runs them; more is better.
        last: whether there is no rung after this one.
    """

    trial: int
    rung: int
    scores: Sequence[Scored]
    last: bool


@dataclass(frozen=True)
class Verdict:
    """What happens to the trial.

    Attributes:
        goes_on: whether it gets another segment (a trial with all folds at its last rung has none left to get).
        reason: why it was raced out, one line; None where it was not.
        estimate: what a stopped trial is taken to have come to over all folds and epochs, for who learns from it.
    """

    goes_on: bool
    reason: str | None = None
    estimate: float | None = None


class Judge:
    """Hears every report of a search in the order in which they come.

    Args:
        folds: fold jobs of a trial.
        racing: None compares whole trials only.
    """

    def __init__(self, scheduler: Asha | MedianStopping | Fifo, folds: int, racing: Racing | None = None) -> None:
        self._rule: StoppingRule = stopping_rule(scheduler)
        self._folds = folds
        self._racing = racing
        self._races: dict[int | str, Race | RankRace] = {}
        self._means: dict[int, dict[int, float]] = {}  # trial -> rung -> mean over its folds
        self._whole: dict[int, float] = {}  # of the trials that reached their last rung

    def hear(self, report: Report) -> Verdict:
        """Take a report and answer it."""
        whole = len(report.scores) == self._folds
        if self._racing is not None:
            race = self._races.setdefault("last" if report.last else report.rung, _race(self._racing, self._folds))
            race.report(report.trial, report.scores)
            if not whole:
                passing = 1 if report.last else self._rule.passing(report.trial, report.rung)
                dropped = race.dropped(report.trial, passing)
                if dropped is not None:
                    return Verdict(False, dropped.reason, dropped.estimate + self._gain(report))
        if not whole:
            return Verdict(True)
        score = statistics.fmean(score.value for score in report.scores)
        self._means.setdefault(report.trial, {})[report.rung] = score
        goes_on = self._rule.goes_on(report.trial, report.rung, score)
        if report.last:
            self._whole[report.trial] = score
        return Verdict(True) if goes_on or report.last else Verdict(False, None, score + self._gain(report))

    def _gain(self, report: Report) -> float:
        """What whole trials gained, on average, from this rung to their last one."""
        if report.last:
            return 0.0
        gains = [
            score - self._means[trial][report.rung]
            for trial, score in self._whole.items()
            if report.rung in self._means[trial]
        ]
        return statistics.fmean(gains) if gains else 0.0


def waves(folds: int, racing: Racing | None) -> tuple[range, ...]:
    """The folds of a trial in the groups that run side by side: all at once without racing."""
    if racing is None:
        return (range(folds),)
    if racing.rule == "rank":
        levels = rank_levels(folds, racing.wave, racing.reduction_factor)
        return tuple(range(start, end) for start, end in itertools.pairwise((0, *levels)))
    return tuple(range(start, min(start + racing.wave, folds)) for start in range(0, folds, racing.wave))


def _race(racing: Racing, folds: int) -> Race | RankRace:
    return RankRace(racing.reduction_factor, folds) if racing.rule == "rank" else Race(racing, folds)
