"""Rules that span sections of a sweep. Each names the paths it reads, so that one broken field doesn't hide the rest.

A rule reads a sweep whose sections are valid by themselves and yields faults. Nothing here reads a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from duchenne.spec.datasets import named_faults
from duchenne.spec.errors import Fault, Path
from duchenne.spec.guidance import guidance_faults
from duchenne.spec.orders import order_faults
from duchenne.spec.population import generation_ends
from duchenne.spec.search import MAX_TRIALS, Asha, Choice, Grid, MedianStopping
from duchenne.spec.search_rules import (
    dimension_faults,
    population_faults,
    racing_faults,
    rung_faults,
    warm_start_faults,
)
from duchenne.spec.space import (
    candidates,
    change_faults,
    combination_faults,
    overlapping_faults,
    path_faults,
    possible_models,
    value_faults,
)
from duchenne_jobs.config import ATTENTION_NAMES, MODEL_NAMES, ORDER_NAMES, AttentionConfig, OrdersConfig

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep


@dataclass(frozen=True)
class Rule:
    """A check and the paths that it reads."""

    reads: tuple[Path, ...]
    check: Callable[[Sweep], Iterator[Fault]]


def check(sweep: Sweep, broken: tuple[Path, ...] = ()) -> list[Fault]:
    """Every broken rule, leaving out those that read a path at, above or below one of `broken`."""
    faults: list[Fault] = []
    for rule in RULES:
        if not any(_related(read, path) for read in rule.reads for path in broken):
            faults.extend(rule.check(sweep))
    return faults


def _related(one: Path, other: Path) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _space_paths(sweep: Sweep) -> Iterator[Fault]:
    yield from path_faults(sweep.search.space)
    yield from overlapping_faults(sweep.search.space)


def _space_values(sweep: Sweep) -> Iterator[Fault]:
    yield from value_faults(sweep.base, sweep.search.space)


def _space_combinations(sweep: Sweep) -> Iterator[Fault]:
    yield from combination_faults(sweep.base, sweep.search.space)


def _trials_fit_algorithm(sweep: Sweep) -> Iterator[Fault]:
    search = sweep.search
    at = ("search", "trials")
    if not search.space:
        if search.trials not in (None, 1):
            rule = "a sweep without a search space has one trial"
            yield Fault(at, rule, str(search.trials), "add search.space, or remove trials (seeds repeat an evaluation)")
        return
    points = 1
    for dimension in search.space.values():
        if isinstance(dimension, Grid):
            points *= len(dimension.grid)
        elif isinstance(dimension, Choice) and search.algorithm == "grid":
            points *= len(dimension.choice)
    if search.algorithm == "grid":
        if search.trials not in (None, points):
            rule = f"algorithm grid runs every combination, {points} trials"
            yield Fault(at, rule, str(search.trials), f"remove trials or set it to {points}")
        trials = points
    elif search.trials is None:
        yield Fault(at, f"required with algorithm {search.algorithm}", "none", "add `trials:` with a number of draws")
        return
    else:
        trials = points * search.trials * (len(generation_ends(sweep)) if search.algorithm == "pbt" else 1)
    if trials > MAX_TRIALS:
        rule = f"a sweep must have at most {MAX_TRIALS} trials"
        yield Fault(("search", "space"), rule, str(trials), "list fewer values or draw at random")


def _grace_within_epochs(sweep: Sweep) -> Iterator[Fault]:
    scheduler = sweep.search.scheduler
    if not isinstance(scheduler, (Asha, MedianStopping)):
        return
    epochs = min((value for value in candidates(sweep, "training.epochs") if isinstance(value, int)), default=None)
    if epochs is not None and scheduler.grace_epochs > epochs:
        yield Fault(
            ("search", "scheduler", "grace_epochs"),
            f"grace_epochs <= training.epochs must hold, and a trial may have {epochs} epochs",
            str(scheduler.grace_epochs),
            "lower grace_epochs or raise epochs",
        )


def _orders_have_a_monet(sweep: Sweep) -> Iterator[Fault]:
    yield from _without_owner(sweep, "orders", sweep.model.orders == OrdersConfig(), ORDER_NAMES)


def _attention_has_a_network(sweep: Sweep) -> Iterator[Fault]:
    yield from _without_owner(sweep, "attention", sweep.model.attention == AttentionConfig(), ATTENTION_NAMES)


def _without_owner(sweep: Sweep, section: str, is_default: bool, owners: tuple[str, ...]) -> Iterator[Fault]:
    """A section of the model that is set or searched, where no trial and no comparator reads it."""
    models = possible_models(sweep)
    variants = {str(comparator.changes.get("model.name")) for comparator in sweep.comparators}
    if {*owners} & {*models, *variants}:
        return
    path = f"model.{section}"
    rule = f"{path} belongs to {', '.join(owners)}, and no trial or comparator is one (model.name: {', '.join(models)})"
    hint = f"set model.name to {owners[0]} or remove it"
    if not is_default:
        yield Fault(("model", section), rule, None, hint)
    for drawn in sweep.search.space:
        if f"{drawn}.".startswith(f"{path}."):
            yield Fault(("search", "space", drawn), rule, None, hint)


def _comparators_differ(sweep: Sweep) -> Iterator[Fault]:
    models = possible_models(sweep)
    for position, comparator in enumerate(sweep.comparators):
        if models == (comparator.name,):
            rule = "a comparator must differ from the sweep's own model"
            yield Fault(("comparators", position), rule, comparator.name, "remove it: the model has an entry already")
        elif comparator.name in MODEL_NAMES or comparator.is_baseline:
            continue
        yield from change_faults(sweep.base, comparator.change, ("comparators", position, "change"))


def _folds_fit_names(sweep: Sweep) -> Iterator[Fault]:
    yield from named_faults(sweep.data, sweep.folds)


_BASE: tuple[Path, ...] = (("model",), ("loss",), ("training",))
_SPACE: Path = ("search", "space")
_ALGORITHM: Path = ("search", "algorithm")

RULES = (
    # Judge each sound dimension by itself, whatever else is broken.
    Rule((), _space_paths),
    Rule((), _space_values),
    Rule((_ALGORITHM,), dimension_faults),
    Rule((*_BASE, _SPACE), _space_combinations),
    Rule((_SPACE, _ALGORITHM, ("search", "trials")), _trials_fit_algorithm),
    Rule((_SPACE, ("search", "scheduler"), ("training",)), _grace_within_epochs),
    Rule((_SPACE, ("search",), ("training", "schedule")), population_faults),
    Rule((("search", "racing"), ("search", "scheduler"), ("folds",)), racing_faults),
    Rule((("search", "scheduler"), ("prices",), ("folds", "resources")), rung_faults),
    Rule((_SPACE, _ALGORITHM, ("search", "warm_start")), warm_start_faults),
    Rule((("model",), _SPACE, ("comparators",)), _orders_have_a_monet),
    Rule((("model",), _SPACE, ("comparators",)), _attention_has_a_network),
    Rule((("model",), _SPACE, ("comparators",)), _comparators_differ),
    Rule((("folds", "count"), ("folds", "inner"), ("data", "uri"), ("data", "protocol")), _folds_fit_names),
    Rule((("model",), _SPACE, ("data", "uri")), guidance_faults),
    Rule((("model",), ("training",), _SPACE, ("data", "uri"), ("comparators",)), order_faults),
)
