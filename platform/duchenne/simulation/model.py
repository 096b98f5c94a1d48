"""What a virtual cluster is made of, and what goes wrong in it. All of it stated, none of it decided here."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from duchenne.plan.cost_model import CostModel, Setting
from duchenne.spec.search import Choice, Grid, LogUniform, RandInt, Uniform
from duchenne.spec.sweep import Sweep
from duchenne_jobs.config import RunConfig
from duchenne_jobs.evaluation.metrics import METRICS

HOUR: Final = 3600.0


@dataclass(frozen=True)
class Nodes:
    """The machines of the pool.

    Attributes:
        count: nodes; all start together, and the pool begins when the last one is there.
        workers_per_node: fold jobs side by side on one.
        startup_seconds: from asking for a node until it runs containers; the slowest takes half as long again.
        usd_per_hour: of a whole node, from its start to its end; None where it has no price.
        evictions_per_hour: of one node, where it is spot.
    """

    count: int
    workers_per_node: int = 1
    startup_seconds: float = 60.0
    usd_per_hour: float | None = None
    evictions_per_hour: float = 0.0

    @property
    def workers(self) -> int:
        """Ranks of the pool."""
        return self.count * self.workers_per_node


@dataclass(frozen=True)
class Failures:
    """What fails, an hour of whatever it happens to.

    Attributes:
        errors_per_hour: a fold job raises something that may pass.
        losses_per_hour: a worker's process dies; Ray Train restarts the group.
        driver_deaths_per_hour: the driver is killed, and all with it; a new one resumes.
        skew_seconds: the records' clock is wrong by up to so much either way, and jumps now and then.
        notice_seconds: until Ray tells of a dead worker.
        late_seconds: at most so long from a refused renewal until a job has stopped: a step, then saving.
    """

    errors_per_hour: float = 0.0
    losses_per_hour: float = 0.0
    driver_deaths_per_hour: float = 0.0
    skew_seconds: float = 0.0
    notice_seconds: float = 5.0
    late_seconds: float = 2.0


@dataclass(frozen=True)
class Services:
    """What the parts that there is one of take for a call. Measured; see docs/simulation.md.

    Attributes:
        queue_seconds: the queue actor, a call.
        transaction_seconds: the database, a write transaction.
        trial_seconds, row_seconds: Tune's driver, to start a trial and to take in a rung.
        group_seconds: Ray Train, to start or restart the group once its nodes are there.
        driver_seconds: a new driver, from the death of the old one to its first question.
    """

    queue_seconds: float = 0.0
    transaction_seconds: float = 0.0
    trial_seconds: float = 0.0
    row_seconds: float = 0.0
    group_seconds: float = 10.0
    driver_seconds: float = 30.0


MEASURED: Final = Services(queue_seconds=0.6e-3, transaction_seconds=1.0e-3, trial_seconds=0.35, row_seconds=0.02)
"""What was measured on 2 cores, with SQLite; see docs/simulation.md."""


@dataclass(frozen=True)
class Durations:
    """How long fold jobs take.

    Attributes:
        model: seconds of an epoch by configuration.
        setting: training rows of an inner fold, tasks, device; `growth` is the rows of an outer fold for one of those.
        noise: standard deviation of the logarithm of an epoch's seconds.
        load_seconds: what a segment's first epoch takes more.
    """

    model: CostModel
    setting: Setting
    growth: float = 1.0
    noise: float = 0.15
    load_seconds: float = 0.5

    def epoch_seconds(self, config: RunConfig, phase: str) -> float:
        """Without noise."""
        seconds = self.model.predict(config, self.setting).seconds
        return seconds if phase == "search" else seconds * self.growth


@dataclass(frozen=True)
class Cluster:
    """Everything that a simulation assumes beside the sweep itself."""

    nodes: Nodes
    durations: Durations
    failures: Failures = field(default_factory=Failures)
    services: Services = MEASURED


class LearningCurves:
    """Scores by trial, fold and epoch, so that early stopping has something to compare.

    score(e) = start + (final - start) (1 - exp(-e / tau)) + fold + noise, where `final` follows smoothly from the drawn
    values: each dimension has a best value, drawn by the seed. The effect of a fold is the same for every trial. For a
    metric that is minimised the score counts down from 1.

    Args:
        spread: standard deviation of `final` over the space, roughly.
        fold_spread, noise: standard deviations.
    """

    def __init__(
        self,
        sweep: Sweep,
        seed: int,
        spread: float = 0.05,
        fold_spread: float = 0.02,
        noise: float = 0.01,
    ) -> None:
        self._metric = sweep.search.metric
        self._minimised = METRICS[self._metric] == "min"
        self._seed = seed
        self._noise = noise
        self._tau = max(1.0, sweep.training.epochs / 6)
        chance = random.Random(f"{seed} landscape")
        self._spread = spread / math.sqrt(max(1, len(sweep.search.space)))
        self._effects = {path: _effect(dimension, chance) for path, dimension in sweep.search.space.items()}
        self._folds = {
            (fold, inner): chance.gauss(0.0, fold_spread)
            for fold in range(sweep.folds.outer_count)
            for inner in (None, *range(sweep.folds.inner_count))
        }
        self._finals: dict[int | None, float] = {None: 0.5}

    def draw(self, trial: int, values: Mapping[str, Any]) -> None:
        """A trial was drawn with these values."""
        gain = sum(effect(values[path]) for path, effect in self._effects.items())
        self._finals[trial] = 0.6 + self._spread * gain

    def final(self, trial: int) -> float:
        """What the trial's score tends to; the truth that a selection can be judged by."""
        return self._finals[trial]

    def metrics(self, trial: int | None, fold: int, inner: int | None, seed: int, epoch: int) -> dict[str, float]:
        """The metrics of one epoch of a fold job."""
        final = self._finals.get(trial, 0.5)
        learned = 1.0 - math.exp(-epoch / self._tau)
        # The noise is a function of what it is of: a retry gives what the lost attempt would have given.
        jitter = _gauss(
            hash((self._seed, -1 if trial is None else trial, fold, -1 if inner is None else inner, seed, epoch))
        )
        score = 0.3 + (final - 0.3) * learned + self._folds[fold, inner] + self._noise * jitter
        score = min(max(score, 0.0), 1.0)
        return {self._metric: 1.0 - score if self._minimised else score}


def _effect(dimension: Choice | Grid | Uniform | LogUniform | RandInt, chance: random.Random) -> Any:
    """A function of a dimension's values with a mean near 0 and a deviation near 1."""
    match dimension:
        case Choice(choice=listed) | Grid(grid=listed):
            gains = {repr(value): chance.gauss(0.0, 1.0) for value in listed}
            return lambda value: gains.get(repr(value), 0.0)
        case Uniform(uniform=(low, high)) | LogUniform(loguniform=(low, high)) | RandInt(randint=(low, high)):
            best = chance.random()
            logarithmic = isinstance(dimension, LogUniform)
            first, last = (math.log(low), math.log(high)) if logarithmic else (float(low), float(high))

            def gain(value: float) -> float:
                place = ((math.log(value) if logarithmic else value) - first) / (last - first)
                return 1.0 - 6.0 * (place - best) ** 2

            return gain


def _gauss(key: int) -> float:
    """A standard normal number (nearly: the sum of 4 uniform ones) that is a function of `key`."""
    mixed = (key * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 31)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    parts = (mixed & 0xFFFF, (mixed >> 16) & 0xFFFF, (mixed >> 32) & 0xFFFF, mixed >> 48)
    return (sum(parts) / 65535.0 - 2.0) * math.sqrt(3.0)
