"""Where the rungs of a trial lie: at given epochs, or where a fold has spent given dollars.

A dear configuration reaches a rung in fewer epochs than a cheap one, so that trials are compared at equal spend. What
an epoch costs is measured on the trial itself: its first segment runs `grace_epochs`, 2 at the least, and each further
one as many epochs as are left to the rung at the pace of the last.

Pure: amounts are told, no clock is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from duchenne.plan.rates import worker_rate
from duchenne.spec.population import generation_ends
from duchenne.spec.search import Asha, rungs
from duchenne.spec.sweep import Sweep

MEASURED_EPOCHS = 2  # the first epoch on a worker also loads, so a pace needs another


@dataclass(frozen=True)
class Rung:
    """A rung that a trial has reached.

    Attributes:
        number: from 1; dear trials may leave some out.
        epoch: where its folds are.
        spent: on each fold, in the unit of the rungs; None where that is epochs.
    """

    number: int
    epoch: int
    spent: float | None = None


class Goals(Protocol):
    """Leads the first folds of a trial from rung to rung; the others then go to the same epoch."""

    rung: Rung
    end: int
    """The epoch after which the trial ends by itself."""

    def begin(self) -> int:
        """The epoch to run to on the way to the next rung."""
        ...

    def further(self, epoch_seconds: float | None) -> int | None:
        """An epoch of the segment took so long (None: it was on record): where to next, or None at the rung."""
        ...


class EpochGoals:
    """Rungs at given epochs.

    Args:
        epochs: ascending.
        generation: the one rung that the trial runs to, counted from 0; None for all of them.
    """

    def __init__(self, epochs: Sequence[int], generation: int | None = None) -> None:
        self._epochs = epochs
        self.rung = Rung(generation or 0, 0)
        self.end = epochs[-1 if generation is None else generation]

    def begin(self) -> int:
        """The next rung itself."""
        self.rung = Rung(self.rung.number + 1, self._epochs[self.rung.number])
        return self.rung.epoch

    def further(self, epoch_seconds: float | None) -> int | None:
        """One segment goes all the way."""
        return None


@dataclass
class Meter:
    """What the epochs of one fold of a trial have cost, on average over the folds that were measured.

    What a worker takes to load before its first epoch is paid, but is not the configuration's, and does not count.

    Attributes:
        epoch: epochs that were run.
        spent: in the unit of the rungs.
        pace: spent an epoch in the last segment; 0 before the first.
    """

    epoch: int = 0
    spent: float = 0.0
    pace: float = 0.0

    @classmethod
    def at(cls, rung: Rung) -> Meter:
        """As it stood at a rung that is on record."""
        spent = rung.spent or 0.0
        return cls(rung.epoch, spent, spent / rung.epoch)

    def ran(self, until: int, pace: float | None) -> None:
        """A segment ran to `until`, an epoch at `pace`; None: as before, or unknown while nothing was measured."""
        if pace is not None and until > self.epoch:
            if not self.pace:
                self.spent = pace * self.epoch  # epochs of an earlier driver, which nobody timed
            self.pace = pace
        self.spent += self.pace * (until - self.epoch)
        self.epoch = until

    def target(self, level: float, first: int, last: int) -> int | None:
        """The epoch to run to for a rung at `level`; None where it is reached to within half an epoch.

        `first` is where to before anything was measured, `last` the trial's last epoch.
        """
        if self.epoch >= last:
            return None
        if not self.epoch:
            return min(first, last)
        left = level - self.spent
        if left < self.pace / 2 or left <= 0.0:
            return None
        further = round(left / self.pace) if self.pace else MEASURED_EPOCHS
        return min(last, self.epoch + max(1, further))


class CostGoals:
    """Rungs at given amounts.

    Args:
        per_second: a second of a fold in the unit of the rungs.
        epochs: the trial's last epoch.
        reached: rungs on record, which are shown again as they were.
    """

    def __init__(self, scheduler: Asha, per_second: float, epochs: int, reached: Sequence[Rung] = ()) -> None:
        self._scheduler = scheduler
        self._per_second = per_second
        self.end = epochs
        self._reached = list(reached)
        self._meter = Meter()
        self._number = 0
        self._until = 0
        self.rung = Rung(0, 0, 0.0)

    def begin(self) -> int:
        """Toward the next rung; a rung on record is gone to at once."""
        self._number = self.rung.number + 1
        if self._reached:
            self._until = self._reached[0].epoch
        else:
            self._until = self._target() or self._meter.epoch
        return self._until

    def further(self, epoch_seconds: float | None) -> int | None:
        """On, until the rung's amount is spent."""
        if self._reached:
            self.rung = self._reached.pop(0)
            self._meter = Meter.at(self.rung)
            return None
        self._meter.ran(self._until, None if epoch_seconds is None else epoch_seconds * self._per_second)
        target = self._target()
        if target is not None:
            self._until = target
            return target
        number = self._number
        while self._meter.spent + self._meter.pace / 2 >= level(self._scheduler, number + 1):
            number += 1
        self.rung = Rung(number, self._meter.epoch, self._meter.spent)
        return None

    def _target(self) -> int | None:
        return self._meter.target(
            level(self._scheduler, self._number), max(self._scheduler.grace_epochs, MEASURED_EPOCHS), self.end
        )


def goals(sweep: Sweep, number: int, epochs: int, reached: Sequence[Rung] = ()) -> Goals:
    """The rungs of trial `number` of `sweep`, which has `epochs`; `reached` are those on record."""
    scheduler = sweep.search.scheduler
    if sweep.search.algorithm == "pbt":
        return EpochGoals(generation_ends(sweep), number // (sweep.search.trials or 1))
    if isinstance(scheduler, Asha) and scheduler.rungs != "epochs":
        return CostGoals(scheduler, amount_of(sweep, 1.0), epochs, reached)
    return EpochGoals(rungs(scheduler, epochs))


def level(scheduler: Asha, rung: int) -> float:
    """What a fold may have spent at a rung (from 1), in the unit of the rungs."""
    assert scheduler.grace is not None  # noqa: S101 - the section's own rule
    return scheduler.grace * float(scheduler.reduction_factor) ** (rung - 1)


def amount_of(sweep: Sweep, seconds: float) -> float:
    """Seconds of one worker in the unit of the sweep's rungs."""
    scheduler = sweep.search.scheduler
    unit = scheduler.rungs if isinstance(scheduler, Asha) else "worker_seconds"
    match unit:
        case "usd":
            return worker_rate(sweep).usd_per_second * seconds * sweep.folds.workers_per_fold
        case "gpu_seconds":
            return sweep.folds.resources.gpu * seconds * sweep.folds.workers_per_fold
        case _:
            return seconds * sweep.folds.workers_per_fold
