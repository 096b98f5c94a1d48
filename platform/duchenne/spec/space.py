"""Checks of a search space: every path is a field, every value fits its field, and the values go together."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from duchenne.spec import paths
from duchenne.spec.errors import Fault, Path
from duchenne.spec.messages import broken_rules, show
from duchenne.spec.search import Choice, Grid, LogUniform, RandInt, Uniform, kind_of
from duchenne_jobs.config import RunConfig

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

Dimensions = Mapping[str, Choice | Grid | Uniform | LogUniform | RandInt]

MAX_COMBINATIONS = 4096
MAX_LISTED_INTEGERS = 100
MAX_THINNED = 12


def path_faults(space: Iterable[str], at: Path = ("search", "space")) -> Iterator[Fault]:
    """Paths that name no field of model, loss or training, with the nearest one that does."""
    for path in space:
        if path not in paths.targets():
            guess = paths.nearest_target(path)
            hint = f"did you mean `{guess}`?" if guess else "start with model., loss. or training.; see docs/spec.md"
            yield Fault((*at, path), "a search path must name a field", path, hint)


def overlapping_faults(space: Collection[str], at: Path = ("search", "space")) -> Iterator[Fault]:
    """Paths of which one lies within another: both would set the same field."""
    for path in space:
        for outer in space:
            if path.startswith(f"{outer}."):
                rule = "a path must not lie within another path"
                yield Fault((*at, path), rule, f"{path} within {outer}", "keep one of them")


def ends(dimension: Choice | Grid | Uniform | LogUniform | RandInt) -> tuple[tuple[Path, object], ...]:
    """The values that stand for a dimension, with their place in it: all that are listed, both ends of a range."""
    match dimension:
        case Choice(choice=values) | Grid(grid=values):
            return tuple(((kind_of(dimension) or "", position), value) for position, value in enumerate(values))
        case RandInt(randint=(low, high)):
            return (("randint", 0), low), (("randint", 1), high - 1)
        case Uniform(uniform=(low_real, high_real)) | LogUniform(loguniform=(low_real, high_real)):
            return ((kind_of(dimension) or "", 0), low_real), ((kind_of(dimension) or "", 1), high_real)


def value_faults(base: RunConfig, space: Dimensions) -> Iterator[Fault]:
    """Values that their field refuses, ranges the wrong way round or on the wrong kind of field, repeated values."""
    for path, dimension in space.items():
        target = paths.targets().get(path)
        if target is None:
            continue
        wrong_kind = _kind_fault(target, dimension)
        if wrong_kind is not None:
            yield wrong_kind
            continue
        yield from _range_faults(path, dimension)
        yield from _repeated(path, dimension)
        for place, value in ends(dimension):
            yield from _refused(base, path, value, ("search", "space", path, *place))


def _kind_fault(target: paths.Target, dimension: object) -> Fault | None:
    kind = kind_of(dimension) or ""
    at = ("search", "space", target.path, kind)
    if kind in ("uniform", "loguniform") and target.kind == "whole number":
        return Fault(at, f"{target.path} takes whole numbers", kind, "use randint")
    if kind == "randint" and target.kind == "number":
        return Fault(at, f"{target.path} takes real numbers", kind, "use uniform or loguniform")
    if kind in ("uniform", "loguniform", "randint") and target.kind in ("section", "other"):
        what = "is a section" if target.kind == "section" else "is no number"
        return Fault(at, f"{target.path} {what} and takes no range", kind, "use choice")
    return None


def _range_faults(path: str, dimension: object) -> Iterator[Fault]:
    match dimension:
        case Uniform(uniform=(low, high)) | LogUniform(loguniform=(low, high)) | RandInt(randint=(low, high)):
            at: Path = ("search", "space", path, kind_of(dimension) or "")
            if not low < high:
                yield Fault(at, "low < high must hold", f"[{low}, {high}]", "swap or change the bounds")
            if isinstance(dimension, LogUniform) and low <= 0:
                yield Fault((*at, 0), "loguniform needs low > 0", str(low), "raise it, or use uniform")


def _repeated(path: str, dimension: object) -> Iterator[Fault]:
    if not isinstance(dimension, (Choice, Grid)):
        return
    seen: set[str] = set()
    for place, value in ends(dimension):
        text = json.dumps(value, sort_keys=True)
        key = str(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else text
        if key in seen:
            yield Fault(("search", "space", path, *place), "values must be distinct", text, "remove the repetition")
        seen.add(key)


def _refused(base: RunConfig, path: str, value: object, at: Path) -> Iterator[Fault]:
    """Faults at or below `path` if `value` is put there; what it does to its neighbours is checked in combination."""
    tree = base.model_dump(mode="json")
    paths.put(tree, path, value)
    target: Path = tuple(path.split("."))
    for fault in _validation_faults(RunConfig, tree):
        if fault.path[: len(target)] == target:
            inner = fault.path[len(target) :]
            yield Fault((*at, *inner), fault.rule, fault.value, fault.hint)


def change_faults(base: RunConfig, change: Mapping[str, object], at: Path) -> Iterator[Fault]:
    """What keeps a variant from being made of `base`: paths that name no field, values refused alone or together."""
    wrong = [*path_faults(change, at), *overlapping_faults(change, at)]
    yield from wrong
    if wrong:
        return
    tree = base.model_dump(mode="json")
    for path, value in change.items():
        paths.put(tree, path, value)
    for fault in _validation_faults(RunConfig, tree):
        dotted = ".".join(str(part) for part in fault.path)
        changed = next((path for path in change if dotted == path or dotted.startswith(f"{path}.")), None)
        where = at if changed is None else (*at, changed, *fault.path[len(changed.split(".")) :])
        yield Fault(where, fault.rule, fault.value, fault.hint)


def _validation_faults(model: type[BaseModel], tree: Mapping[str, object]) -> list[Fault]:
    try:
        model.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        return broken_rules(error, model, tree)
    return []


def combination_faults(base: RunConfig, space: Dimensions) -> Iterator[Fault]:
    """Draws that are fine one by one and refused together, for instance more active orders than orders.

    Only sections with a rule over several fields can refuse a combination, so each is checked with the dimensions
    below it: every combination up to MAX_COMBINATIONS, else every pair of dimensions with ranges at their ends (the
    sections' rules relate two fields each).
    """
    overlapping = {fault.path[-1] for fault in overlapping_faults(space)}
    sound = {
        path: dimension
        for path, dimension in space.items()
        if path not in overlapping and not any(value_faults(base, {path: dimension}))
    }
    tree = base.model_dump(mode="json")
    for prefix, section in _sections_with_rules():
        start = f"{prefix}." if prefix else ""
        inside = {
            path[len(start) :]: _values(dimension)
            for path, dimension in sound.items()
            if path in paths.targets() and path.startswith(start)
        }
        part = paths.get(tree, prefix) if prefix else tree
        if inside and isinstance(part, dict):
            yield from _first_bad_combination(part, section, inside, start)


def _sections_with_rules() -> list[tuple[str, type[BaseModel]]]:
    sections: list[tuple[str, type[BaseModel]]] = [("", RunConfig)]
    sections += [(target.path, target.section) for target in paths.targets().values() if target.kind == "section"]
    return [(path, section) for path, section in sections if section.__pydantic_decorators__.model_validators]


def _values(dimension: Choice | Grid | Uniform | LogUniform | RandInt) -> list[object]:
    if isinstance(dimension, RandInt):
        low, high = dimension.randint
        if high - low <= MAX_LISTED_INTEGERS:
            return list(range(low, high))
    return [value for _, value in ends(dimension)]


def _first_bad_combination(
    part: dict[str, object], section: type[BaseModel], values: Mapping[str, Sequence[object]], start: str
) -> Iterator[Fault]:
    for drawn in _combinations(values):
        tree = copy.deepcopy(part)
        for path, value in drawn.items():
            paths.put(tree, path, value)
        own = [fault for fault in _validation_faults(section, tree) if not fault.path]
        if own:
            yield _combination_fault(own[0], drawn, start)
            return


def _combinations(values: Mapping[str, Sequence[object]]) -> Iterator[dict[str, object]]:
    names = list(values)
    if math.prod(len(listed) for listed in values.values()) <= MAX_COMBINATIONS:
        for drawn in product(*values.values()):
            yield dict(zip(names, drawn, strict=True))
        return
    first = {name: listed[0] for name, listed in values.items()}
    few = {name: _thinned(listed) for name, listed in values.items()}
    for name in names:  # a value that is refused whatever the others are
        for value in values[name]:
            yield first | {name: value}
    for one, other in combinations(names, 2):
        for left, right in product(few[one], few[other]):
            yield first | {one: left, other: right}


def _thinned(listed: Sequence[object]) -> list[object]:
    """About a dozen values of a long list: the least and the greatest number, and evenly spaced ones."""
    if len(listed) <= MAX_THINNED:
        return list(listed)
    numbers = [value for value in listed if isinstance(value, (int, float)) and not isinstance(value, bool)]
    extremes: list[object] = [min(numbers), max(numbers)] if numbers else []
    step = -(-len(listed) // (MAX_THINNED - 2))
    return [*extremes, *(value for value in listed[::step] if value not in extremes)]


def _combination_fault(fault: Fault, drawn: Mapping[str, object], start: str) -> Fault:
    """Names the drawn values that do not go together: those whose fields the rule mentions."""
    named = {path: value for path, value in drawn.items() if f"`{path.rsplit('.', 1)[-1]}`" in fault.rule} or drawn
    together = ", ".join(f"{start}{path}={show(value)}" for path, value in named.items())
    rule = f"{fault.rule} in every trial"
    hint = f"{fault.hint}, or vary the section `{start.rstrip('.')}` as a whole" if start else fault.hint
    return Fault(("search", "space", f"{start}{next(iter(named))}"), rule, f"{fault.value} (drawn: {together})", hint)


def possible_models(sweep: Sweep) -> tuple[str, ...]:
    """The names that `model.name` can take in a trial, in the order they are listed."""
    space = sweep.search.space
    if "model.name" in space:
        return tuple(str(value) for _, value in ends(space["model.name"]))
    if "model" in space:
        values = [value for _, value in ends(space["model"])]
        return tuple(str(value.get("name", "monet")) for value in values if isinstance(value, dict))
    return (sweep.model.name,)


def candidates(sweep: Sweep, path: str) -> tuple[object, ...]:
    """The values a field can take in a trial: those drawn for it or for a section around it, or the base's own."""
    space = sweep.search.space
    base = sweep.base.model_dump(mode="json")
    for outer, dimension in space.items():
        if path == outer:
            return tuple(value for _, value in ends(dimension))
        if path.startswith(f"{outer}."):
            values = [value for _, value in ends(dimension) if isinstance(value, dict)]
            defaults = paths.targets()[outer].section().model_dump(mode="json")
            return tuple(paths.get(defaults | value, path[len(outer) + 1 :]) for value in values)
    return (paths.get(base, path),)
