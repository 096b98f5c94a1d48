"""Where the values of a trial come from.

`random` and `grid` are pure functions of the sweep: trial n is the same whenever it is drawn. Where all dimensions are
lists, nothing is drawn again before everything was drawn: a repeated trial costs as much and shows nothing new. What
learns from finished trials stands in `duchenne.search.samplers` (Optuna) and `duchenne.search.population` (PBT).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from duchenne.plan.cost_model import Setting, stated_model
from duchenne.plan.counting import count_trials
from duchenne.spec import Choice, Grid, LogUniform, RandInt, Sweep, Uniform, apply
from duchenne.spec.search_rules import LEARNING

if TYPE_CHECKING:
    from duchenne.search.warm_start import WarmStart

Values = dict[str, Any]

MAX_LISTED = 100_000
"""Combinations of lists that are drawn without repeats; of more, few are drawn twice."""


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
    """`random` and `grid`: every trial is known before the first one runs.

    Attributes:
        size: combinations of what is drawn, where all of that are lists; None where repeats are not looked for.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._space = sweep.search.space
        self._seed = sweep.search.seed
        listed = (Grid, Choice) if sweep.search.algorithm == "grid" else (Grid,)
        self._listed = {
            path: _candidates(dimension) for path, dimension in self._space.items() if isinstance(dimension, listed)
        }
        self._points = list(itertools.product(*self._listed.values()))
        self._drawn = {path: dimension for path, dimension in self._space.items() if path not in self._listed}
        self.size = _combinations(self._drawn.values())
        self._order = np.random.default_rng(self._seed).permutation(self.size or 1)
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
        turn, point = divmod(number, len(self._points))
        values = dict(zip(self._listed, self._points[point], strict=True))
        if self.size is not None:
            return values | self._combination(int(self._order[(turn + self._start(point)) % self.size]))
        generator = np.random.default_rng([self._seed, number])
        return values | {path: draw(dimension, generator) for path, dimension in self._drawn.items()}

    def _start(self, point: int) -> int:
        """Where in the order of combinations a point of the grids begins."""
        return int(np.random.default_rng([self._seed, point]).integers(len(self._order)))

    def _combination(self, index: int) -> Values:
        values = {}
        for path, dimension in self._drawn.items():
            assert isinstance(dimension, (Choice, Grid))  # noqa: S101 - `size` says so
            candidates = _candidates(dimension)
            index, place = divmod(index, len(candidates))
            values[path] = candidates[place]
        return values

    def _cheap_first(self, sweep: Sweep) -> list[int]:
        """The first draws, cheapest first: the same draws in another order, so that later ones are as they were."""
        setting = Setting(rows=1.0, tasks=1, gpu=False)  # the same for all of them
        model = stated_model(1.0, sweep.base, setting)

        def cost(number: int) -> tuple[float, int]:
            config = apply(sweep, self._draw(number))
            return config.training.epochs * model.predict(config, setting).seconds, number

        return sorted(range(min(sweep.search.cheap_first, self.count)), key=cost)


def key_of(values: Values) -> str:
    """The same for the same values."""
    return json.dumps(values, sort_keys=True)


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
            learning.begin_with(trial.values, trial.score)
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


def _combinations(dimensions: Iterable[Choice | Grid | Uniform | LogUniform | RandInt]) -> int | None:
    """How many combinations there are; None for a range, or where repeats are too rare to be looked for."""
    lists = [len(_candidates(one)) if isinstance(one, (Choice, Grid)) else MAX_LISTED + 1 for one in dimensions]
    size = math.prod(lists)
    return size if size <= MAX_LISTED else None


def _candidates(dimension: Choice | Grid) -> tuple[Any, ...]:
    return dimension.choice if isinstance(dimension, Choice) else dimension.grid
