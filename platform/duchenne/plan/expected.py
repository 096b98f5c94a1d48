"""From a model of an epoch's seconds to what a sweep is expected to cost, with an interval."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from duchenne.plan.cost_model import CostModel, Setting
from duchenne.plan.packing import most_by_cores, most_by_gpus
from duchenne.plan.price import Estimate
from duchenne.plan.sizes import setting_of
from duchenne.spec.sweep import Sweep
from duchenne.spec.trials import overlaid, possible_trials
from duchenne_jobs.config import RunConfig

MAX_CONFIGURATIONS = 256  # of a large space, those that come first
BASELINE_EPOCHS = 5.0  # a scikit-learn comparator takes about as long as so many epochs of the base configuration
POOL_START_SECONDS = 10.0
READS = ("model.name", "model.encoder.name", "model.hidden_size", "model.orders", "training.epochs")
"""What a model knows of a configuration: trials that differ in other fields cost the same."""


@dataclass(frozen=True)
class Forecast:
    """What a model says of a sweep.

    Attributes:
        low, high: estimates at the ends of the interval; None where the model was stated.
        source: what the model was learned from.
    """

    middle: Estimate
    low: Estimate | None
    high: Estimate | None
    source: str


def forecast(sweep: Sweep, model: CostModel, parallel_jobs: int) -> Forecast | None:
    """What the fold jobs of `sweep` will take, on average over its space; None where its data's size is unknown.

    The model's error counts as the same for all jobs of the sweep: the interval is that of one that is dearer, or
    cheaper, throughout.
    """
    configs = [config for config, _ in islice(possible_trials(sweep, READS), MAX_CONFIGURATIONS)]
    if setting_of(sweep, "search", 1.0) is None or not configs:
        return None
    searched = statistics.fmean(_job_seconds(sweep, model, config, "search") for config in configs)
    evaluated = statistics.fmean(_evaluation_seconds(sweep, model, config) for config in configs)

    def estimate(error: float) -> Estimate:
        return Estimate(searched * error, evaluated * error, parallel_jobs, POOL_START_SECONDS)

    if model.low is None or model.high is None:
        return Forecast(estimate(1.0), None, None, model.source)
    return Forecast(estimate(1.0), estimate(model.factor(model.low)), estimate(model.factor(model.high)), model.source)


def jobs_here(sweep: Sweep) -> int:
    """Fold jobs that run side by side on this machine, as far as can be told without torch."""
    resources = sweep.folds.resources
    most = most_by_cores(len(os.sched_getaffinity(0)), resources.cpu)
    if resources.gpu:
        most = min(most, most_by_gpus(len(list(Path("/dev").glob("nvidia[0-9]*"))), resources.gpu))
    return max(1, most)


def _job_seconds(sweep: Sweep, model: CostModel, config: RunConfig, phase: str) -> float:
    epochs = config.training.epochs
    setting = setting_of(sweep, phase, epochs)
    assert isinstance(setting, Setting)  # noqa: S101 - `forecast` asked before
    return epochs * model.predict(config, setting).seconds


def _evaluation_seconds(sweep: Sweep, model: CostModel, config: RunConfig) -> float:
    """The mean over the fold jobs of the evaluation, comparators among them."""
    seeds = len(sweep.seeds)
    own = _job_seconds(sweep, model, config, "evaluation")
    seconds = [own] * seeds
    for comparator in sweep.comparators:
        if comparator.is_baseline:
            seconds.append(BASELINE_EPOCHS * own / config.training.epochs)
            continue
        changed = overlaid(config, comparator.changes)
        seconds += [own if changed is None else _job_seconds(sweep, model, changed, "evaluation")] * seeds
    return statistics.fmean(seconds)
