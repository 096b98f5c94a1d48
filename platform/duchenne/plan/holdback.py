"""What the search must leave for the evaluation: learned from the epochs that have run, and half of it all until then.

The hold-back decides how money is divided, never how much is spent: that is the ledger's bound, and holds whatever is
estimated here. `docs/budget.md` states the rule.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from duchenne.plan.leasing import GRACE_SECONDS, QUANTUM_SECONDS
from duchenne.plan.sizes import growth
from duchenne.spec.space import candidates
from duchenne.spec.sweep import Sweep

Purpose = Literal["search", "comparator", "evaluation"]
"""Whom a fold job serves: each purpose leaves what the ones behind it will need."""

MARGIN: Final = 1.25
"""Times the estimate that is held back: evaluations are not all alike."""

UNMEASURED_SHARE: Final = 0.5
"""Share of each limit that is held back until `MEASURED_EPOCHS` epochs have run."""

UNMEASURED_BESIDE: Final = 0.75
"""The same for a further lease beside one that is open: the first jobs may need renewals before their epochs end."""

MEASURED_EPOCHS: Final = 3

SETTLED_EPOCHS: Final = 10
"""Epochs of a kind from which their median counts. Of fewer the least does: the first ones of a process are slow, and
an estimate that is too high ends the search."""


@dataclass(frozen=True)
class EvaluationNeed:
    """What will be evaluated.

    Attributes:
        jobs, epochs: fold jobs of the selected configuration, and the most epochs of one of them.
        comparators: epochs of each fold job of the network comparators.
        growth: rows of an outer training set for one row of an inner one.
        workers: fold jobs that run side by side.
    """

    jobs: int
    epochs: int
    comparators: tuple[int, ...]
    growth: float
    workers: int


def evaluation_need(sweep: Sweep, workers: int) -> EvaluationNeed:
    """What `sweep` will evaluate on `workers` workers; of searched epochs the most."""
    folds = sweep.folds
    epochs = max(value for value in candidates(sweep, "training.epochs") if isinstance(value, int))
    jobs = folds.outer_count * len(sweep.seeds)
    changed = [
        comparator.changes.get("training.epochs", epochs)
        for comparator in sweep.comparators
        if not comparator.is_baseline
    ]
    comparators = tuple(value for value in changed for _ in range(jobs) if isinstance(value, int))
    return EvaluationNeed(jobs, epochs, comparators, growth(sweep), workers)


@dataclass
class _Pace:
    """Seconds of epochs of one kind, ascending. A segment's first epoch also loads what the others find loaded."""

    later: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    @property
    def epoch_seconds(self) -> float:
        return _median(self.later) if len(self.later) >= SETTLED_EPOCHS else (self.later or self.first)[0]

    @property
    def start_seconds(self) -> float:
        if not self.first:
            return 0.0
        return max(0.0, _median(self.first) - self.epoch_seconds)

    def seconds(self, epochs: float, growth: float) -> float:
        return growth * (self.start_seconds + self.epoch_seconds * epochs)


def _median(ascending: list[float]) -> float:
    """Of numbers in their order: every lease asks, so that they are not sorted each time."""
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2


class _Paces:
    """The paces of many trials or methods, and the dearest of them, without looking through all each time."""

    def __init__(self) -> None:
        self._all: dict[object, _Pace] = {}
        self._order = itertools.count()
        # (epochs, growth, whether paces of first epochs alone count) -> heap of (-seconds, order, key). What a key's
        # seconds were before its last measure stays in the heap until it comes to the top.
        self._dearest: dict[tuple[float, float, bool], list[tuple[float, int, object]]] = {}

    def measure(self, key: object, seconds: float, first: bool) -> None:
        pace = self._all.setdefault(key, _Pace())
        insort(pace.first if first else pace.later, seconds)
        for asked, heap in self._dearest.items():
            mine = self._seconds(key, *asked)
            if mine is not None:
                heapq.heappush(heap, (-mine, next(self._order), key))

    def of(self, key: object, epochs: float, growth: float, loading_too: bool) -> float | None:
        """Seconds of `epochs` at the pace of `key`; None where it is not known."""
        return self._seconds(key, epochs, growth, loading_too) if key in self._all else None

    def dearest(self, epochs: float, growth: float, loading_too: bool) -> float | None:
        """The most that `epochs` take at the pace of any; None where none is known."""
        asked = (epochs, growth, loading_too)
        if asked not in self._dearest:
            known = [(mine, key) for key in self._all if (mine := self._seconds(key, *asked)) is not None]
            heap = self._dearest[asked] = [(-mine, next(self._order), key) for mine, key in known]
            heapq.heapify(heap)
        heap = self._dearest[asked]
        while heap:
            most, _, key = heap[0]
            if self._seconds(key, *asked) == -most:
                return -most
            heapq.heappop(heap)
        return None

    def _seconds(self, key: object, epochs: float, growth: float, loading_too: bool) -> float | None:
        pace = self._all[key]
        return pace.seconds(epochs, growth) if pace.later or loading_too else None


@dataclass(frozen=True)
class Share:
    """What is estimated of a purpose.

    Attributes:
        worker_seconds: added up over its fold jobs; `wall_seconds` are those of its jobs side by side.
        jobs: fold jobs that are left.
    """

    worker_seconds: float = 0.0
    wall_seconds: float = 0.0
    jobs: int = 0


class HoldBack:
    """Watches epochs and says what the evaluation will take.

    Args:
        need: what will be evaluated, before the configuration is known.

    Attributes:
        version: grows whenever what it says may have changed.
    """

    def __init__(self, need: EvaluationNeed) -> None:
        self._need = need
        self._search = _Paces()
        self._evaluation = _Paces()
        self._shares: dict[tuple[Purpose, bool], Share] = {}
        self.version = 0
        self._epochs = 0
        # Once evaluations are asked for they are known one by one: (trial or None, method) and epochs left.
        self._asked: dict[Purpose, dict[object, tuple[int | None, str, int]]] = {"comparator": {}, "evaluation": {}}
        self._known: set[Purpose] = set()
        # Before that, how many of how many epochs.
        self._planned: dict[Purpose, Counter[tuple[int | None, str, int]]] = {
            "comparator": Counter((None, "", epochs) for epochs in need.comparators),
            "evaluation": Counter({(None, "", need.epochs): need.jobs}),
        }

    def measure(self, purpose: Purpose, trial: int | None, method: str, seconds: float, first: bool) -> None:
        """An epoch took `seconds`; `first`: of its segment."""
        if purpose == "search" and trial is not None:
            self._search.measure(trial, seconds, first)
        else:
            self._evaluation.measure((purpose, method), seconds, first)
        self._epochs += 1
        self._changed()

    def expect(self, purpose: Purpose, key: object, trial: int | None, method: str, epochs: int) -> None:
        """A fold job of the evaluation was asked for, with `epochs` to go; with 0 it is done."""
        if purpose != "search":
            self._known.add(purpose)
            self._asked[purpose][key] = (trial, method, epochs)
            self._changed()

    def advance(self, purpose: Purpose, key: object) -> None:
        """A fold job of the evaluation ran an epoch."""
        if purpose != "search" and key in self._asked[purpose]:
            trial, method, epochs = self._asked[purpose][key]
            # The last epoch counts until the job is done: predictions are still to be written.
            self._asked[purpose][key] = (trial, method, max(1, epochs - 1))
            self._changed()

    @property
    def measured(self) -> bool:
        """Whether enough epochs have run to estimate from."""
        return self._epochs >= MEASURED_EPOCHS

    def share(self, purpose: Purpose) -> Share:
        """What `purpose` ("evaluation" or "comparator") will take at the pace measured so far, without the margin.

        Raises:
            ValueError: nothing was measured yet.
        """
        if (purpose, False) not in self._shares:
            self._shares[purpose, False] = self._estimated(purpose)
        return self._shares[purpose, False]

    def _estimated(self, purpose: Purpose) -> Share:
        # Most jobs are alike: asked once, and counted.
        left = Counter(self._asked[purpose].values()) if purpose in self._known else self._planned[purpose]
        seconds = [(self._job_seconds(purpose, *job), count) for job, count in left.items() if job[2] > 0]
        total, jobs = sum(each * count for each, count in seconds), sum(count for _, count in seconds)
        # List scheduling: no worker idles before the last job has begun.
        return Share(total, total / self._need.workers + max((each for each, _ in seconds), default=0.0), jobs)

    def held(self, purpose: Purpose) -> Share:
        """The share of `purpose` with the margin, and for the evaluation with the lease that its last job needs.

        One lease is enough: where money is short, jobs wait for each other's to settle.
        """
        if (purpose, True) not in self._shares:
            share = self.share(purpose)
            ahead = QUANTUM_SECONDS + GRACE_SECONDS if share.jobs and purpose == "evaluation" else 0.0
            seconds, wall = share.worker_seconds * MARGIN + ahead, share.wall_seconds * MARGIN + ahead
            self._shares[purpose, True] = Share(seconds, wall, share.jobs)
        return self._shares[purpose, True]

    def _changed(self) -> None:
        self._shares.clear()
        self.version += 1

    def _job_seconds(self, purpose: Purpose, trial: int | None, method: str, epochs: int) -> float:
        """By its own pace, else by its trial's, else by that of the dearest trial: it may be the one selected.

        A pace of first epochs alone, which load what the others find loaded, counts where there is no other.
        """
        growth = self._need.growth
        for loading_too in (False, True):
            for known in (
                self._evaluation.of((purpose, method), epochs, 1.0, loading_too),
                None if trial is None else self._search.of(trial, epochs, growth, loading_too),
                self._search.dearest(epochs, growth, loading_too),
                self._evaluation.dearest(epochs, 1.0, loading_too),
            ):
                if known is not None:
                    return known
        raise ValueError("a share is estimated from epochs that ran, but got none; ask `measured` first")
