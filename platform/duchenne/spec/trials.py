"""From a sweep and drawn values to the frozen configuration of one run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import TYPE_CHECKING

from pydantic import ValidationError

from duchenne.spec import paths
from duchenne.spec.errors import Path
from duchenne.spec.messages import broken_rules
from duchenne.spec.population import SCHEDULE_PATH
from duchenne.spec.search import Choice, Grid, LogUniform, RandInt, Uniform
from duchenne.spec.space import MAX_COMBINATIONS, ends
from duchenne_jobs.config import RunConfig

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep


def apply(sweep: Sweep, values: Mapping[str, object]) -> RunConfig:
    """The configuration of the trial that drew `values` (dotted path -> value); other fields keep the sweep's.

    Raises ValueError, one line a broken rule, where a path is not in the space or the values don't go together.
    """
    space = sweep.search.space
    for path in values:
        if path not in space and not (path == SCHEDULE_PATH and sweep.search.algorithm == "pbt"):
            known = ", ".join(space) or "none"
            raise ValueError(f"values must lie on paths of the search space, but got {path}; use one of: {known}")
    drawn = {path: _within(space[path], value) if path in space else value for path, value in values.items()}
    return overlay(sweep.base, drawn)


def _within(dimension: Choice | Grid | Uniform | LogUniform | RandInt, value: object) -> object:
    """Takes a draw that rounding put a hair outside a range back to its end: exp(log(high)) may exceed high."""
    match dimension:
        case Uniform(uniform=(low, high)) | LogUniform(loguniform=(low, high)) if isinstance(value, float):
            end = min(max(value, low), high)
            return end if math.isclose(end, value, rel_tol=1e-9) else value
        case _:
            return value


def overlay(base: RunConfig, values: Mapping[str, object]) -> RunConfig:
    """`base` with `values` put at their dotted paths, validated as strictly as the file."""
    tree = base.model_dump(mode="json")
    for path, value in values.items():
        paths.put(tree, path, value)
    try:
        return RunConfig.model_validate_json(json.dumps(tree, default=_number), strict=True)
    except ValidationError as error:
        faults = broken_rules(error, RunConfig, tree)
        raise ValueError("; ".join(fault.located for fault in faults)) from error


def overlaid(base: RunConfig, values: Mapping[str, object]) -> RunConfig | None:
    """`base` with these values; None where they do not go together, which the rules of their section report."""
    try:
        return overlay(base, values)
    except (ValueError, TypeError):
        return None


def possible_trials(sweep: Sweep, reads: tuple[str, ...]) -> Iterator[tuple[RunConfig, dict[str, Path]]]:
    """The configurations that trials may have, as far as fields at or below `reads` tell them apart.

    Each comes with where in the file its drawn values stand, by the path that they are drawn for. At most
    MAX_COMBINATIONS are tried: whoever needs a rule to hold asks again when the network is built.
    """
    space = sweep.search.space
    drawn = [path for path in space if any(_related(path, read) for read in reads)]
    for chosen in islice(product(*(ends(space[path]) for path in drawn)), MAX_COMBINATIONS):
        picked = dict(zip(drawn, chosen, strict=True))
        config = overlaid(sweep.base, {path: value for path, (_, value) in picked.items()})
        if config is not None:
            yield config, {path: ("search", "space", path, *within) for path, (within, _) in picked.items()}


def _related(path: str, read: str) -> bool:
    """Whether one is the other, or lies within it."""
    return f"{path}.".startswith(f"{read}.") or read.startswith(f"{path}.")


def _number(value: object) -> object:
    """Search libraries may draw numpy scalars, which know how to become Python's."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"a drawn value must be a number, text, list or mapping, but got {type(value).__name__}")
    return item()
