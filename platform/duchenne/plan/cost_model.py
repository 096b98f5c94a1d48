"""Seconds of an epoch, from what is known before a job starts: learned from finished jobs, with a prediction interval.

    log(seconds an epoch) = a + sum over j of b_j x_j + error

Each x_j is a fact of the configuration or its data, such as the logarithm of k. The b_j are shrunk to stated ones
(`STATED`), which decide where the records say nothing, and those of sizes are never negative: more orders, tasks, units
or rows are never predicted to be cheaper, nor more epochs in all. The interval is that of the errors which the model
makes about one configuration when it is fitted to all the others (leave-one-out), so that it is about new ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from duchenne_jobs.config import ORDER_NAMES, RunConfig

LEVEL: Final = 0.8
"""Share of new configurations whose seconds lie in the interval."""

MIN_CONFIGURATIONS: Final = 10
"""Fewer say too little: the 80 % interval of leave-one-out errors begins at 9 of them."""

SHRINKAGE: Final = 0.5
"""Weight of a stated coefficient, in configurations that differ by 1 in its fact."""

SIZES: Final[dict[str, float]] = {"rows": 1.0, "tasks": 0.7, "active": 0.5, "orders": 0.1, "hidden": 0.3}
"""Logarithms, and the stated power with which an epoch's seconds grow."""

LENGTH: Final = {"epochs": 0.0}
"""The same of a job's epochs: start-up and loading are shared by them, so that the power is at most 0."""

KINDS: Final[dict[str, float]] = {
    "model=vmnc": -1.5,
    "model=vmns": -1.5,
    "model=mrnn": -0.7,
    "model=mttc": 0.5,
    "model=mtts": 0.5,
    "model=monet_mtts": 0.7,
    "encoder=conv": 1.5,
    "encoder=inception_v3": 4.5,
    "encoder=resnet50": 4.5,
    "encoder=vit_b16": 5.0,
    "encoder=inception_resnet_v1": 5.0,
    "device=gpu": -1.0,
}
"""1 where it holds and 0 elsewhere, beside monet on tabular features on a CPU; stated as the logarithm of a factor."""

STATED: Final[dict[str, float]] = SIZES | LENGTH | KINDS

_BOUNDS: Final[dict[str, tuple[float, float]]] = dict.fromkeys(SIZES, (0.0, math.inf)) | {"epochs": (-1.0, 0.0)}
"""A job of more epochs takes no less in all: a power of -1 is start-up alone."""


@dataclass(frozen=True)
class Setting:
    """What a job trains on.

    Attributes:
        rows: training rows of an epoch.
        tasks: T.
        gpu: whether its worker holds a GPU.
        epochs: of the whole job.
    """

    rows: float
    tasks: int
    gpu: bool = False
    epochs: float = 1.0


@dataclass(frozen=True)
class Observation:
    """What an epoch of one configuration took in one setting: the median over its attempts."""

    config: RunConfig
    setting: Setting
    seconds: float


@dataclass(frozen=True)
class Prediction:
    """Seconds of an epoch. `low` and `high` hold LEVEL of new configurations; None where nothing was learned."""

    seconds: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CostModel:
    """A fitted or stated model.

    Attributes:
        intercept, slopes: of the logarithm of seconds; slopes by the names of STATED.
        low, high: errors (logarithms) between which LEVEL of them lie; None where the model was stated.
        source: what it was learned from, for people.
    """

    intercept: float
    slopes: dict[str, float]
    low: float | None
    high: float | None
    source: str

    def predict(self, config: RunConfig, setting: Setting) -> Prediction:
        """Seconds of an epoch of `config`."""
        known = facts(config, setting)
        log = self.intercept + sum(self.slopes[name] * value for name, value in known.items())
        seconds = math.exp(log)
        if self.low is None or self.high is None:
            return Prediction(seconds)
        return Prediction(seconds, seconds * self.factor(self.low), seconds * self.factor(self.high))

    @staticmethod
    def factor(error: float) -> float:
        """What an error of the logarithm makes of seconds."""
        return math.exp(error)


def facts(config: RunConfig, setting: Setting) -> dict[str, float]:
    """The facts that are not 0, by the names of STATED."""
    model = config.model
    orders, active = 1, 1
    if model.name in ORDER_NAMES:
        orders = model.orders.count
        active = min(model.orders.active or orders, orders)
    sizes = (setting.rows, setting.tasks, active, orders, model.hidden_size)
    found = {name: math.log(max(1.0, size)) for name, size in zip(SIZES, sizes, strict=True)}
    found["epochs"] = math.log(max(1.0, setting.epochs))
    kinds = (f"model={model.name}", f"encoder={model.encoder.name}", f"device={'gpu' if setting.gpu else 'cpu'}")
    return found | {kind: 1.0 for kind in kinds if kind in KINDS}


def stated_model(epoch_seconds: float, config: RunConfig, setting: Setting) -> CostModel:
    """The model by which an epoch of `config` takes `epoch_seconds` and others as STATED says.

    Raises:
        ValueError: no positive number of seconds.
    """
    if not 0 < epoch_seconds < math.inf:
        raise ValueError(f"an epoch takes more than 0 seconds, but got {epoch_seconds:g}; state how many")
    known = facts(config, setting)
    intercept = math.log(epoch_seconds) - sum(STATED[name] * value for name, value in known.items())
    return CostModel(intercept, dict(STATED), None, None, f"stated: {epoch_seconds:g} s an epoch of the configuration")


def fit(observations: Sequence[Observation]) -> CostModel | None:
    """The model of these observations, one a configuration; None for fewer than MIN_CONFIGURATIONS."""
    count = len(observations)
    if count < MIN_CONFIGURATIONS:
        return None
    import numpy as np
    from scipy.optimize import lsq_linear

    names = list(STATED)
    known = [facts(observation.config, observation.setting) for observation in observations]
    x = np.array([[found.get(name, 0.0) for name in names] for found in known])
    y = np.log([observation.seconds for observation in observations])
    stated = np.array([STATED[name] for name in names])
    centre = x.mean(axis=0)
    design = np.vstack([x - centre, math.sqrt(SHRINKAGE) * np.eye(len(names))])
    target = np.concatenate([y - y.mean(), math.sqrt(SHRINKAGE) * stated])
    bounds = np.array([_BOUNDS.get(name, (-math.inf, math.inf)) for name in names]).T
    # The exact method: slopes that end at a bound are then at it, and not near it.
    slopes = np.clip(lsq_linear(design, target, bounds=tuple(bounds), method="bvls").x, *bounds)
    intercept = float(y.mean() - centre @ slopes)
    errors = _left_out(
        x - centre, y - y.mean() - (x - centre) @ slopes, free=(slopes > bounds[0]) & (slopes < bounds[1])
    )
    low, high = _between(errors)
    return CostModel(
        intercept,
        dict(zip(names, (float(slope) for slope in slopes), strict=True)),
        low,
        high,
        f"learned from {count} configurations that ran here",
    )


def _left_out(x: Any, residuals: Any, free: Any) -> Any:
    """Errors about each configuration if the model had been fitted without it: residual / (1 - leverage).

    Exact for the slopes that are `free`; those at their bound are taken to stay there.
    """
    import numpy as np

    part = x[:, free]
    inverse = np.linalg.inv(part.T @ part + SHRINKAGE * np.eye(part.shape[1]))
    leverage = 1.0 / len(x) + np.einsum("ij,jk,ik->i", part, inverse, part)
    return residuals / np.maximum(1.0 - leverage, 0.05)


def _between(errors: Any) -> tuple[float, float]:
    """The errors that hold LEVEL of the next one between them: of n in order the (n + 1)(1 -+ LEVEL) / 2-th, from 1."""
    ordered = sorted(float(error) for error in errors)
    tail = (1.0 - LEVEL) / 2.0
    below = max(1, math.floor((len(ordered) + 1) * tail))
    above = min(len(ordered), math.ceil((len(ordered) + 1) * (1.0 - tail)))
    return min(ordered[below - 1], 0.0), max(ordered[above - 1], 0.0)
