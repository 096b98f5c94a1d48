"""Optuna's samplers, through Ray Tune's `OptunaSearch`: they draw where finished trials say that it pays."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from duchenne.search.proposals import ListedProposer, Values, key_of
from duchenne.spec import Choice, Grid, LogUniform, RandInt, Sweep, Uniform

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 10
"""Trials that a sampler begins to learn from: independent draws, those of `random`, where no earlier sweep has them."""

ASKS = 10
"""Proposals that a sampler may repeat from earlier trials before an independent one is taken."""


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
        self._earlier = 0
        self._asked: dict[int, str] = {}  # trial -> the study's name of it
        self._seen: set[str] = set()

    def propose(self, number: int) -> Values:
        """The first trials are independent draws; then the study is asked for one that was not run yet."""
        if number < self._first or number + self._earlier < STARTUP_TRIALS:
            values = self._independent.propose(number)
        else:
            values = self._learned(number)
        self._seen.add(key_of(values))
        return values

    def learn(self, number: int, values: Values, score: float | None) -> None:
        """Tell the study of a trial that it asked for, or add one that it did not."""
        self._seen.add(key_of(values))
        failed = score is None
        asked = self._asked.pop(number, None)
        if asked is not None:
            self._search.on_trial_complete(asked, None if failed else {"score": score}, error=failed)
        elif score is not None:
            self._add(values, score)

    def begin_with(self, values: Values, score: float) -> None:
        """A trial of an earlier sweep; it may be run again in this one."""
        self._earlier += 1
        self._add(values, score)

    def _learned(self, number: int) -> Values:
        """A proposal of the study; one that repeats a trial is withdrawn and the study asked again.

        Candidates of a choice travel by index, since Optuna wants plain values.
        """
        size = self._independent.size
        everything = size is not None and len(self._seen) >= size
        for attempt in range(ASKS):
            name = f"{number}.{attempt}"
            drawn = self._search.suggest(name)
            values = {path: self._decode(path, drawn[path]) for path in self._space}
            if everything or key_of(values) not in self._seen:
                self._asked[number] = name
                return values
            self._search.on_trial_complete(name, error=True)
        others = (self._independent.propose(number + step) for step in range(size or ASKS))
        return next((other for other in others if key_of(other) not in self._seen), values)

    def _add(self, values: Values, score: float) -> None:
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
