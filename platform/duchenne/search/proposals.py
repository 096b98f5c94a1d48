"""Where the values of a trial come from.

`random` and `grid` are pure functions of the sweep: trial n is the same whenever it is drawn. What learns from finished
trials stands in `duchenne.search.samplers` (Optuna) and `duchenne.search.population` (PBT).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from duchenne.plan.cost_model import Setting, stated_model
from duchenne.plan.counting import count_trials
from duchenne.spec import Choice, Grid, LogUniform, RandInt, Sweep, Uniform, apply
from duchenne.spec.search_rules import LEARNING

if TYPE_CHECKING:
    from duchenne.search.warm_start import WarmStart

Values = dict[str, Any]


class Proposer(Protocol):
    """Source of new trials."""

    def propose(self, number: int) -> Values | None:
        """Values of trial `number`, by dotted path; None while others must end first."""
        ...

    def learn(self, number: int, values: Values, score: float | None) -> None:
        """A trial with these values ended with this score (higher is better), or failed (None)."""
        ...

    def parent(self, number: int) -> int | None:
        """The trial whose checkpoints trial `number` goes on from, if any."""
        ...


class ListedProposer:
    """`random` and `grid`: every trial is known before the first one runs."""

    def __init__(self, sweep: Sweep) -> None:
        self._space = sweep.search.space
        self._seed = sweep.search.seed
        listed = (Grid, Choice) if sweep.search.algorithm == "grid" else (Grid,)
        self._listed = {
            path: _candidates(dimension) for path, dimension in self._space.items() if isinstance(dimension, listed)
        }
        self._points = list(itertools.product(*self._listed.values()))
        self.count = count_trials(sweep)
        self._first = self._cheap_first(sweep)

    def propose(self, number: int) -> Values:
        """Listed values go round as in a counter, the others are drawn by (seed, number)."""
        return self._draw(self._first[number] if number < len(self._first) else number)

    def learn(self, number: int, values: Values, score: float | None) -> None:
        """Independent draws learn nothing."""

    def parent(self, number: int) -> int | None:
        """Every trial starts anew."""
        return None

    def _draw(self, number: int) -> Values:
        values = dict(zip(self._listed, self._points[number % len(self._points)], strict=True))
        generator = np.random.default_rng([self._seed, number])
        for path, dimension in self._space.items():
            if path not in values:
                values[path] = draw(dimension, generator)
        return values

    def _cheap_first(self, sweep: Sweep) -> list[int]:
        """The first draws, cheapest first: the same draws in another order, so that later ones are as they were."""
        setting = Setting(rows=1.0, tasks=1, gpu=False)  # the same for all of them
        model = stated_model(1.0, sweep.base, setting)

        def cost(number: int) -> tuple[float, int]:
            config = apply(sweep, self._draw(number))
            return config.training.epochs * model.predict(config, setting).seconds, number

        return sorted(range(min(sweep.search.cheap_first, self.count)), key=cost)


def build_proposer(sweep: Sweep, known: int, warm: WarmStart | None = None) -> Proposer:
    """The proposer that `search.algorithm` names; without a space there is one trial, the base configuration.

    Args:
        known: number of trials on record, which a learning algorithm must not draw again.
        warm: what it begins with.
    """
    algorithm = sweep.search.algorithm
    if not sweep.search.space:
        return ListedProposer(sweep)
    if algorithm in LEARNING:
        from duchenne.search.samplers import OptunaProposer

        learning = OptunaProposer(sweep, known)
        for trial in () if warm is None else warm.known:
            learning.add(trial.values, trial.score)
        return learning
    if algorithm == "pbt":
        from duchenne.search.population import PopulationProposer

        return PopulationProposer(sweep)
    return ListedProposer(sweep)


def draw(dimension: Choice | Grid | Uniform | LogUniform | RandInt, generator: np.random.Generator) -> Any:
    """One value of a dimension."""
    if isinstance(dimension, Uniform):
        return float(generator.uniform(*dimension.uniform))
    if isinstance(dimension, LogUniform):
        low, high = dimension.loguniform
        return float(math.exp(generator.uniform(math.log(low), math.log(high))))
    if isinstance(dimension, RandInt):
        return int(generator.integers(*dimension.randint))
    candidates = _candidates(dimension)
    return candidates[int(generator.integers(len(candidates)))]


def _candidates(dimension: Choice | Grid) -> tuple[Any, ...]:
    return dimension.choice if isinstance(dimension, Choice) else dimension.grid
