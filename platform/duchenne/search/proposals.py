"""Draws the values of a trial from the search space.

`random` and `grid` are pure functions of the sweep: trial n is the same whenever it is drawn. `optuna` learns from what
it is told, through Ray Tune's `OptunaSearch`.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Protocol

import numpy as np

from duchenne.plan.counting import count_trials
from duchenne.spec import Choice, Grid, LogUniform, RandInt, Sweep, Uniform

Values = dict[str, Any]


class Proposer(Protocol):
    """Source of new trials."""

    def propose(self, number: int) -> Values:
        """Values of trial `number`, by dotted path."""
        ...

    def learn(self, values: Values, score: float | None) -> None:
        """A trial with these values ended with this score (higher is better), or failed (None)."""
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

    def propose(self, number: int) -> Values:
        """Listed values go round as in a counter, the others are drawn by (seed, number)."""
        values = dict(zip(self._listed, self._points[number % len(self._points)], strict=True))
        generator = np.random.default_rng([self._seed, number])
        for path, dimension in self._space.items():
            if path not in values:
                values[path] = draw(dimension, generator)
        return values

    def learn(self, values: Values, score: float | None) -> None:
        """Independent draws learn nothing."""


class OptunaProposer:
    """Tree of Parzen estimators (Bergstra et al. 2011).

    Args:
        sweep: the space and the seed.
        known: number of trials that the records hold: a resumed search must not draw its first trials again.
    """

    def __init__(self, sweep: Sweep, known: int) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = sweep.search.space
        seed = int(np.random.SeedSequence([sweep.search.seed, known]).generate_state(1)[0])
        self._search = OptunaSearch(
            space={path: _distribution(dimension) for path, dimension in self._space.items()},
            metric="score",
            mode="max",
            sampler=optuna.samplers.TPESampler(seed=seed),
        )
        self._asked: dict[str, str] = {}

    def propose(self, number: int) -> Values:
        """Ask the study. Candidates of a choice travel by index, since Optuna wants plain values."""
        drawn = self._search.suggest(str(number))
        values = {path: self._decode(path, drawn[path]) for path in self._space}
        self._asked[_fingerprint(values)] = str(number)
        return values

    def learn(self, values: Values, score: float | None) -> None:
        """Tell the study of a trial that it asked for, or add one that an earlier driver ran."""
        asked = self._asked.pop(_fingerprint(values), None)
        failed = score is None
        if asked is not None:
            self._search.on_trial_complete(asked, None if failed else {"score": score}, error=failed)
        elif not failed:
            encoded = {path: self._encode(path, value) for path, value in values.items()}
            self._search.add_evaluated_point(encoded, score)

    def _decode(self, path: str, drawn: Any) -> Any:
        dimension = self._space[path]
        return dimension.choice[drawn] if isinstance(dimension, Choice) else drawn

    def _encode(self, path: str, value: Any) -> Any:
        dimension = self._space[path]
        return dimension.choice.index(value) if isinstance(dimension, Choice) else value


def build_proposer(sweep: Sweep, known: int) -> Proposer:
    """The proposer that `search.algorithm` names; without a space there is one trial, the base configuration."""
    if sweep.search.algorithm == "optuna" and sweep.search.space:
        return OptunaProposer(sweep, known)
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


def _distribution(dimension: Choice | Grid | Uniform | LogUniform | RandInt) -> Any:
    from optuna import distributions

    match dimension:
        case Uniform():
            return distributions.FloatDistribution(*dimension.uniform)
        case LogUniform():
            return distributions.FloatDistribution(*dimension.loguniform, log=True)
        case RandInt():
            low, high = dimension.randint
            return distributions.IntDistribution(low, high - 1)
        case _:
            return distributions.CategoricalDistribution(range(len(_candidates(dimension))))


def _fingerprint(values: Values) -> str:
    return repr(sorted(values.items()))
