"""How many trials and fold jobs a sweep is: exact, from the file alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from duchenne.spec.population import generation_ends
from duchenne.spec.search import Choice, Grid
from duchenne.spec.sweep import Sweep


@dataclass(frozen=True)
class Counts:
    """Trials of the search, and fold jobs of both phases. Early stopping shortens jobs; it does not remove them."""

    trials: int
    search_jobs: int
    evaluation_jobs: int

    @property
    def fold_jobs(self) -> int:
        """All fold jobs."""
        return self.search_jobs + self.evaluation_jobs


def count(sweep: Sweep) -> Counts:
    """Counts what `sweep` would run.

    Each trial trains on every inner fold of every outer fold. The evaluation runs the selected configuration and each
    neural comparator on every outer fold with every seed, and scikit-learn's comparators once a fold, with the first
    seed (their only randomness is the order of chains).
    """
    trials = count_trials(sweep)
    baselines = sum(comparator.is_baseline for comparator in sweep.comparators)
    neural = 1 + len(sweep.comparators) - baselines
    folds = sweep.folds
    return Counts(
        trials=trials,
        search_jobs=trials * folds.outer_count * folds.inner_count,
        evaluation_jobs=folds.outer_count * (neural * len(sweep.seeds) + baselines),
    )


def count_trials(sweep: Sweep) -> int:
    """Trials of the search: the product of all lists for `grid`, else draws times the points of the grids.

    Of a population each member of each generation is a trial, of that generation's epochs alone.
    """
    search = sweep.search
    if not search.space:
        return 1
    listed = (Grid, Choice) if search.algorithm == "grid" else (Grid,)
    sizes = (
        len(dimension.grid if isinstance(dimension, Grid) else dimension.choice)
        for dimension in search.space.values()
        if isinstance(dimension, listed) and isinstance(dimension, (Grid, Choice))
    )
    points = math.prod(sizes)
    if search.algorithm == "pbt":
        return (search.trials or 1) * len(generation_ends(sweep))
    return points if search.algorithm == "grid" else points * (search.trials or 1)
