"""Rules of the search: which space an algorithm can handle, and which parts of the search go together.

They read a sweep whose sections are valid by themselves; see `duchenne.spec.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from duchenne.spec.errors import Fault
from duchenne.spec.population import MIN_POPULATION, SCHEDULED_PATHS, Population
from duchenne.spec.search import Asha, Choice, Fifo, Grid, MedianStopping, kind_of

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

LEARNING = ("optuna", "tpe", "gp", "cmaes")
MIN_RACING_FOLDS = 3


def dimension_faults(sweep: Sweep) -> Iterator[Fault]:
    """Dimensions that the algorithm can't handle, each by its path."""
    algorithm = sweep.search.algorithm
    for path, dimension in sweep.search.space.items():
        kind = kind_of(dimension) or ""
        at = ("search", "space", path, kind)
        if algorithm == "grid" and kind not in ("grid", "choice"):
            yield Fault(at, "algorithm grid takes only grid and choice", kind, "list values or use algorithm random")
        if algorithm in LEARNING and kind == "grid":
            yield Fault(at, f"algorithm {algorithm} takes no grid", kind, "use choice, or algorithm grid")
        if algorithm == "pbt":
            yield from _schedule_faults(path, dimension)
    space = sweep.search.space.values()
    if algorithm == "cmaes" and space and all(isinstance(dimension, (Choice, Grid)) for dimension in space):
        rule = "algorithm cmaes needs a dimension that is a range: it adapts a covariance of numbers"
        yield Fault(("search", "algorithm"), rule, "choices alone", "use algorithm tpe, or write a range")


def _schedule_faults(path: str, dimension: object) -> Iterator[Fault]:
    kind = kind_of(dimension) or ""
    if path not in SCHEDULED_PATHS:
        rule = f"algorithm pbt varies what may change while a network trains: {', '.join(SCHEDULED_PATHS)}"
        yield Fault(("search", "space", path), rule, path, "set it in its section, or use algorithm tpe")
    elif kind == "grid":
        yield Fault(("search", "space", path, kind), "algorithm pbt takes no grid", kind, "use choice or a range")
    elif isinstance(dimension, Choice) and not all(isinstance(value, (int, float)) for value in dimension.choice):
        rule = "algorithm pbt moves between numbers"
        yield Fault(("search", "space", path, kind), rule, "others", "list numbers only")


def population_faults(sweep: Sweep) -> Iterator[Fault]:
    """A population that can't evolve, and sections that belong to one alone or not to one."""
    search = sweep.search
    if search.algorithm != "pbt":
        if search.population != Population():
            rule = "population belongs to algorithm pbt"
            yield Fault(("search", "population"), rule, search.algorithm, "set algorithm to pbt or remove it")
        return
    if not search.space:
        yield Fault(("search", "algorithm"), "algorithm pbt needs a search space", "none", "add search.space")
    if search.trials is not None and search.trials < MIN_POPULATION:
        rule = f"a population must have at least {MIN_POPULATION} members"
        yield Fault(("search", "trials"), rule, str(search.trials), "raise trials")
    if not isinstance(search.scheduler, Fifo):
        rule = "algorithm pbt stops the worst by itself, and takes no scheduler but fifo"
        yield Fault(("search", "scheduler"), rule, search.scheduler.name, "remove scheduler")
    if search.racing is not None:
        rule = "algorithm pbt compares whole trials, and takes no racing"
        yield Fault(("search", "racing"), rule, None, "remove racing")
    if sweep.training.schedule:
        rule = "algorithm pbt writes training.schedule, and takes none"
        yield Fault(("training", "schedule"), rule, f"{len(sweep.training.schedule)} changes", "remove schedule")


def racing_faults(sweep: Sweep) -> Iterator[Fault]:
    """Races that would have nothing to compare, or would stop what one fold might still select."""
    racing, folds = sweep.search.racing, sweep.folds
    if racing is None:
        return
    at = ("search", "racing")
    jobs = folds.outer_count * folds.inner_count
    if jobs < MIN_RACING_FOLDS:
        rule = f"racing needs at least {MIN_RACING_FOLDS} fold jobs a trial"
        yield Fault(at, rule, str(jobs), "remove racing or take more folds")
    elif racing.min_folds + 1 > jobs:
        rule = f"min_folds < {jobs} must hold, the fold jobs of a trial"
        yield Fault((*at, "min_folds"), rule, str(racing.min_folds), "lower it")
    elif racing.wave >= jobs:
        rule = f"wave < {jobs} must hold, the fold jobs of a trial"
        yield Fault((*at, "wave"), rule, str(racing.wave), "lower it or remove racing")
    if folds.selection == "per_fold":
        rule = "racing compares means over all folds, and selection per_fold selects by each fold's own"
        yield Fault(at, rule, None, "remove racing or set folds.selection to shared")
    if isinstance(sweep.search.scheduler, MedianStopping):
        rule = "racing goes with scheduler asha or fifo, since median_stopping compares running means"
        yield Fault(at, rule, "median_stopping", "remove racing or set scheduler to asha")


def rung_faults(sweep: Sweep) -> Iterator[Fault]:
    """Rungs in a unit that nothing in the sweep is counted in."""
    scheduler = sweep.search.scheduler
    if not isinstance(scheduler, Asha):
        return
    prices, resources = sweep.prices, sweep.folds.resources
    priced = prices.file is not None or prices.listed is not None
    free = not priced and prices.cpu_hour_usd * resources.cpu + prices.gpu_hour_usd * resources.gpu == 0
    at = ("search", "scheduler", "rungs")
    if scheduler.rungs == "usd" and free:
        rule = "rungs in usd need a price above 0 of what the fold jobs hold"
        yield Fault(at, rule, "usd", "set prices, or rungs to worker_seconds or epochs")
    if scheduler.rungs == "gpu_seconds" and resources.gpu == 0:
        rule = "rungs in gpu_seconds need fold jobs that hold a GPU"
        yield Fault(at, rule, "folds.resources.gpu=0", "set rungs to worker_seconds or epochs")


def warm_start_faults(sweep: Sweep) -> Iterator[Fault]:
    """Earlier trials for an algorithm that learns nothing."""
    search = sweep.search
    if search.warm_start and (search.algorithm not in LEARNING or not search.space):
        rule = f"warm_start needs an algorithm that learns ({', '.join(LEARNING)}) and a search space"
        yield Fault(("search", "warm_start"), rule, search.algorithm, "set algorithm to tpe or remove warm_start")
