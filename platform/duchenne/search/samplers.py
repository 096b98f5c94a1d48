"""Optuna's samplers, through Ray Tune's `OptunaSearch`: they draw where finished trials say that it pays."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from duchenne.search.proposals import ListedProposer, Values
from duchenne.spec import Choice, Grid, LogUniform, RandInt, Sweep, Uniform

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 10
"""Independent draws before a sampler begins to learn."""


class OptunaProposer:
    """`tpe` (and `optuna`), `gp` or `cmaes`.

    Args:
        sweep: the space and the seed.
        known: number of trials that the records hold: a resumed search must not draw its first trials again.
    """

    def __init__(self, sweep: Sweep, known: int) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = sweep.search.space
        self._independent = ListedProposer(sweep)
        self._first = sweep.search.cheap_first
        seed = int(np.random.SeedSequence([sweep.search.seed, known]).generate_state(1)[0])
        self._search = OptunaSearch(
            space={path: _distribution(dimension) for path, dimension in self._space.items()},
            metric="score",
            mode="max",
            sampler=sampler(sweep.search.algorithm, seed),
        )
        self._asked: set[int] = set()

    def propose(self, number: int) -> Values:
        """Ask the study. Candidates of a choice travel by index, since Optuna wants plain values."""
        if number < self._first:
            return self._independent.propose(number)
        drawn = self._search.suggest(str(number))
        self._asked.add(number)
        return {path: self._decode(path, drawn[path]) for path in self._space}

    def learn(self, number: int, values: Values, score: float | None) -> None:
        """Tell the study of a trial that it asked for, or add one that it did not."""
        failed = score is None
        if number in self._asked:
            self._asked.discard(number)
            self._search.on_trial_complete(str(number), None if failed else {"score": score}, error=failed)
        elif not failed:
            self.add(values, score)

    def add(self, values: Values, score: float | None) -> None:
        """Add a trial that was run elsewhere."""
        self._search.add_evaluated_point({path: self._encode(path, value) for path, value in values.items()}, score)

    def parent(self, number: int) -> int | None:
        """Every trial starts anew."""
        return None

    def _decode(self, path: str, drawn: Any) -> Any:
        dimension = self._space[path]
        return dimension.choice[drawn] if isinstance(dimension, Choice) else drawn

    def _encode(self, path: str, value: Any) -> Any:
        dimension = self._space[path]
        return dimension.choice.index(value) if isinstance(dimension, Choice) else value


def sampler(algorithm: str, seed: int) -> BaseSampler:
    """The sampler that `search.algorithm` names.

    - `tpe`, `optuna`: tree of Parzen estimators (Bergstra et al. 2011).
    - `gp`: a Gaussian process with logEI (Ament et al. 2023).
    - `cmaes`: covariance matrix adaptation (Hansen 2016).
    """
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match algorithm:
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(
                    seed=seed, n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
                )
            case _:
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


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
        case Choice(choice=values) | Grid(grid=values):
            return distributions.CategoricalDistribution(range(len(values)))
