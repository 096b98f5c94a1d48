"""A Tune trial: a tiny actor that sends fold jobs to the pool and reports one aggregated row a rung."""

from __future__ import annotations

import math
from typing import Any

import ray
from ray import tune

from duchenne.pool import NAMESPACE, Outcome
from duchenne.search.jobs import SweepContext, search_jobs
from duchenne.spec import apply, rungs
from duchenne_jobs.evaluation import METRICS


class TrialEnded(Exception):  # noqa: N818 - Tune wants an exception; the sweep goes on
    """The trial can't go on; the message is one line for the records."""


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
        run = apply(self._context.sweep, config["values"])
        self._rungs = rungs(self._context.sweep.search.scheduler, run.training.epochs)
        self._jobs = search_jobs(self._context, config["number"], run)
        self._replay = config["replay"]
        self._reached = 0

    def step(self) -> dict[str, Any]:
        """Bring every fold to the next rung and aggregate.

        Raises:
            TrialEnded: a fold failed, or the sweep was ended.
        """
        until = self._rungs[self._reached]
        outcomes: list[Outcome] = ray.get(self._queue.run_segments.remote(self._jobs, until))
        self._reached += 1
        row = aggregate(outcomes, self._context.sweep.search.metric)
        replayed_to_its_end = self._replay.finished and self._reached >= self._replay.rungs
        return row | {
            "epoch": until,
            "rung": self._reached,
            # Tune sets `done` on a trial that its scheduler stops; `complete` is ours alone.
            "complete": self._reached == len(self._rungs),
            "done": self._reached == len(self._rungs) or replayed_to_its_end,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The folds keep their own checkpoints."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """The folds keep their own checkpoints."""


def aggregate(outcomes: list[Outcome], metric: str) -> dict[str, Any]:
    """Mean of every metric over the folds; `score` is the search's metric, turned so that more is better.

    Raises:
        TrialEnded: a fold did not get there, or the metric is undefined on it.
    """
    for outcome in outcomes:
        if outcome.state != "done":
            raise TrialEnded(outcome.error or outcome.state)
    values = [outcome.metrics.get(metric) for outcome in outcomes]
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        raise TrialEnded(
            f"search.metric: {metric} must be defined on every inner fold, but it is not on {len(values) - len(known)} "
            f"of {len(values)}; choose another metric or fewer folds"
        )
    value = sum(known) / len(known)
    return {"value": value, "score": value if METRICS[metric] == "max" else -value}
