"""What the search must leave for the evaluation: learned from the epochs that have run, and half of it all until then.

The hold-back decides how money is divided, never how much is spent: that is the ledger's bound, and holds whatever is
estimated here. `docs/budget.md` states the rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal

from duchenne.plan.leasing import GRACE_SECONDS, QUANTUM_SECONDS
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
    if folds.method == "holdout":
        test, validation = folds.test or 0.0, folds.validation or 0.0
        growth = (1 - test) / (1 - test - validation)
    else:
        growth = folds.inner / (folds.inner - 1)
    comparators = tuple(value for value in changed for _ in range(jobs) if isinstance(value, int))
    return EvaluationNeed(jobs, epochs, comparators, growth, workers)


@dataclass
class _Pace:
    """Seconds of epochs of one kind. A segment's first epoch also loads what the others find loaded."""

    later: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    @property
    def epoch_seconds(self) -> float:
        return median(self.later) if len(self.later) >= SETTLED_EPOCHS else min(self.later or self.first)

    @property
    def start_seconds(self) -> float:
        if not self.first:
            return 0.0
        return max(0.0, median(self.first) - self.epoch_seconds)

    def seconds(self, epochs: float, growth: float) -> float:
        return growth * (self.start_seconds + self.epoch_seconds * epochs)


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
    """

    def __init__(self, need: EvaluationNeed) -> None:
        self._need = need
        self._search: dict[int, _Pace] = {}
        self._evaluation: dict[tuple[Purpose, str], _Pace] = {}
        self._epochs = 0
        # Once evaluations are asked for they are known one by one: (trial or None, method) and epochs left.
        self._asked: dict[Purpose, dict[object, tuple[int | None, str, int]]] = {"comparator": {}, "evaluation": {}}
        self._known: set[Purpose] = set()

    def measure(self, purpose: Purpose, trial: int | None, method: str, seconds: float, first: bool) -> None:
        """An epoch took `seconds`; `first`: of its segment."""
        if purpose == "search" and trial is not None:
            pace = self._search.setdefault(trial, _Pace())
        else:
            pace = self._evaluation.setdefault((purpose, method), _Pace())
        (pace.first if first else pace.later).append(seconds)
        self._epochs += 1

    def expect(self, purpose: Purpose, key: object, trial: int | None, method: str, epochs: int) -> None:
        """A fold job of the evaluation was asked for, with `epochs` to go; with 0 it is done."""
        if purpose != "search":
            self._known.add(purpose)
            self._asked[purpose][key] = (trial, method, epochs)

    def advance(self, purpose: Purpose, key: object) -> None:
        """A fold job of the evaluation ran an epoch."""
        if purpose != "search" and key in self._asked[purpose]:
            trial, method, epochs = self._asked[purpose][key]
            # The last epoch counts until the job is done: predictions are still to be written.
            self._asked[purpose][key] = (trial, method, max(1, epochs - 1))

    @property
    def measured(self) -> bool:
        """Whether enough epochs have run to estimate from."""
        return self._epochs >= MEASURED_EPOCHS

    def share(self, purpose: Purpose) -> Share:
        """What `purpose` ("evaluation" or "comparator") will take at the pace measured so far, without the margin.

        Raises:
            ValueError: nothing was measured yet.
        """
        if purpose in self._known:
            left = [job for job in self._asked[purpose].values() if job[2] > 0]
            seconds = [self._job_seconds(purpose, *job) for job in left]
        else:
            epochs = self._need.comparators if purpose == "comparator" else (self._need.epochs,) * self._need.jobs
            seconds = [self._job_seconds(purpose, None, "", count) for count in epochs]
        total = sum(seconds)
        # List scheduling: no worker idles before the last job has begun.
        return Share(total, total / self._need.workers + max(seconds, default=0.0), len(seconds))

    def held(self, purpose: Purpose) -> Share:
        """The share of `purpose` with the margin, and for the evaluation with the lease that its last job needs.

        One lease is enough: where money is short, jobs wait for each other's to settle.
        """
        share = self.share(purpose)
        ahead = QUANTUM_SECONDS + GRACE_SECONDS if share.jobs and purpose == "evaluation" else 0.0
        return Share(share.worker_seconds * MARGIN + ahead, share.wall_seconds * MARGIN + ahead, share.jobs)

    def _job_seconds(self, purpose: Purpose, trial: int | None, method: str, epochs: int) -> float:
        """By its own pace, else by its trial's, else by that of the dearest trial: it may be the one selected.

        A pace of first epochs alone, which load what the others find loaded, counts where there is no other.
        """
        growth = self._need.growth
        nearest: list[tuple[list[_Pace | None], float]] = [
            ([self._evaluation.get((purpose, method))], 1.0),
            ([self._search.get(trial)] if trial is not None else [], growth),
            ([*self._search.values()], growth),
            ([*self._evaluation.values()], 1.0),
        ]
        for loading_too in (False, True):
            for paces, times in nearest:
                counted = [pace for pace in paces if pace is not None and (pace.later or loading_too)]
                known = [pace.seconds(epochs, times) for pace in counted]
                if known:
                    return max(known)
        raise ValueError("a share is estimated from epochs that ran, but got none; ask `measured` first")
