"""A Tune trial: a tiny actor that sends fold jobs to the pool and reports one aggregated row a rung, or a wave."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from duchenne.pool import NAMESPACE, Outcome
from duchenne.search.jobs import SweepContext, search_jobs
from duchenne.search.judge import waves
from duchenne.search.rung_costs import goals
from duchenne.search.searcher import Replay
from duchenne.spec import apply
from duchenne_jobs.evaluation import METRICS
from duchenne_jobs.training import FoldJob


class TrialEnded(Exception):  # noqa: N818 - Tune wants an exception; the sweep goes on
    """The trial can't go on; the message is one line for the records."""


@dataclass(frozen=True)
class Ask:
    """What a trial wants of the queue: these jobs at that epoch."""

    jobs: list[FoldJob]
    until_epoch: int


class TrialRun:
    """The steps of one trial, whoever takes them: Tune's actor, or a simulation on a virtual clock."""

    def __init__(self, context: SweepContext, number: int, values: dict[str, Any], replay: Replay) -> None:
        search = context.sweep.search
        self.config = apply(context.sweep, values)
        self._metric = search.metric
        self._jobs = search_jobs(context, number, self.config, replay.parent)
        self._waves = waves(len(self._jobs), search.racing)
        self._goals = goals(context.sweep, number, self.config.training.epochs, replay.rungs)
        self._replay = replay
        self._rows = 0
        self._outcomes: list[Outcome] = []  # of the rung that it is on the way to

    def rung(self) -> Generator[Ask, list[Outcome], dict[str, Any]]:
        """Bring the next folds to the next rung: asks, is sent the outcomes, and returns the row that Tune sees.

        The next folds are all of them, or a wave where trials race.

        Raises:
            TrialEnded: a fold failed, or the sweep was ended.
        """
        wave = next(wave for wave in self._waves if wave.start == len(self._outcomes))
        jobs = [self._jobs[position] for position in wave]
        if self._outcomes:
            self._outcomes += yield Ask(jobs, self._goals.rung.epoch)
        else:
            self._outcomes += yield from self._lead(jobs)
        self._rows += 1
        rung, last = self._goals.rung, self._goals.rung.epoch == self.config.training.epochs
        row = aggregate(self._outcomes, self._metric)
        whole = len(self._outcomes) == len(self._jobs)
        ended = whole and rung.epoch == self._goals.end
        if whole:
            self._outcomes = []
        return row | {
            "epoch": rung.epoch,
            "rung": rung.number,
            "spent": rung.spent,
            "whole": whole,
            "last": last,
            # Tune sets `done` on a trial that its scheduler stops; `ended` and `complete` are ours alone.
            "ended": ended,
            "complete": whole and last,
            "done": ended or (self._replay.finished and self._rows >= self._replay.rows),
        }

    def _lead(self, jobs: list[FoldJob]) -> Generator[Ask, list[Outcome], list[Outcome]]:
        """The first folds of a rung find out where it lies."""
        until: int | None = self._goals.begin()
        outcomes: list[Outcome] = []
        while until is not None:
            outcomes = yield Ask(jobs, until)
            require_done(outcomes)
            paces = [outcome.epoch_seconds for outcome in outcomes if outcome.epoch_seconds is not None]
            until = self._goals.further(sum(paces) / len(paces) if paces else None)
        return outcomes


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """One configuration of the search. `step` is one rung; Tune's scheduler decides between rungs."""

    def setup(self, config: dict[str, Any], context: SweepContext, queue: str) -> None:
        """Begin trial `config["number"]` with `config["values"]`."""
        self._context = context
        self._queue = ray.get_actor(queue, namespace=NAMESPACE)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process: starting an actor costs more than a small fold."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._run = TrialRun(self._context, config["number"], config["values"], config["replay"])

    def step(self) -> dict[str, Any]:
        """Bring every fold to the next rung and aggregate.

        Raises:
            TrialEnded: a fold failed, or the sweep was ended.
        """
        rung = self._run.rung()
        ask = next(rung)
        while True:
            outcomes: list[Outcome] = ray.get(self._queue.run_segments.remote(ask.jobs, ask.until_epoch))
            try:
                ask = rung.send(outcomes)
            except StopIteration as end:
                row: dict[str, Any] = end.value
                return row

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The folds keep their own checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """The folds keep their own checkpoints."""


def aggregate(outcomes: list[Outcome], metric: str) -> dict[str, Any]:
    """Mean of the search's metric over the folds; `score` is the same turned so that more is better, as are `scores`.

    Raises:
        TrialEnded: a fold did not get there, or the metric is undefined on it.
    """
    require_done(outcomes)
    values = [outcome.metrics.get(metric) for outcome in outcomes]
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        raise TrialEnded(
            f"search.metric: {metric} must be defined on every inner fold, but it is not on {len(values) - len(known)} "
            f"of {len(values)}; choose another metric or fewer folds"
        )
    value = sum(known) / len(known)
    sign = 1.0 if METRICS[metric] == "max" else -1.0
    return {"value": value, "score": sign * value, "scores": [sign * one for one in known]}


def require_done(outcomes: list[Outcome]) -> None:
    """
    Raises:
        TrialEnded: a fold did not get there.
    """
    for outcome in outcomes:
        if outcome.state != "done":
            raise TrialEnded(outcome.error or outcome.state)
