"""Whatever a space that was accepted draws is a valid configuration; dotted paths reach every field."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import yaml
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from duchenne.spec import (
    Choice,
    Grid,
    LogUniform,
    RandInt,
    SpecError,
    Sweep,
    Uniform,
    apply,
    load_sweep_text,
    overlay,
)
from duchenne.spec.paths import get, nearest_target, targets
from duchenne_jobs.config import RunConfig

Dimension = Choice | Grid | Uniform | LogUniform | RandInt


def sweep_over(space: dict[str, object], **sections: object) -> Sweep:
    """A sweep with this space, through the loader."""
    fields = {
        "apiVersion": "duchenne/v1",
        "kind": "Sweep",
        "metadata": {"name": "a"},
        "data": {"uri": "builtin://yeast"},
        "budget": {"wall_seconds": 60},
        "search": {"space": space, "trials": 2} if space else {},
    }
    return load_sweep_text(yaml.safe_dump(fields | sections))


def draw(dimension: Dimension, generator: random.Random) -> object:
    match dimension:
        case Choice(choice=values) | Grid(grid=values):
            return generator.choice(values)
        case Uniform(uniform=(low, high)):
            return generator.uniform(low, high)
        case LogUniform(loguniform=(low, high)):
            return math.exp(generator.uniform(math.log(low), math.log(high)))
        case RandInt(randint=(least, above)):
            return generator.randrange(least, above)


def numbers(low: float, high: float) -> st.SearchStrategy[list[float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).filter(lambda b: b[0] < b[1]).map(sorted)


def ranges(low: int, high: int) -> st.SearchStrategy[dict[str, object]]:
    ends = st.tuples(st.integers(low, high), st.integers(low + 1, high + 1)).filter(lambda b: b[0] < b[1])
    return ends.map(lambda b: {"randint": list(b)})


def lists(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    listed = st.lists(values, min_size=1, max_size=4, unique=True)
    return st.tuples(st.sampled_from(["choice", "grid"]), listed).map(lambda pair: {pair[0]: pair[1]})


SMOOTHINGS = [{"name": "none"}, {"name": "ls", "alpha": 0.2}, {"name": "vals", "alpha_negative": 0.3}, {"name": "rhls"}]
SPACES = st.fixed_dictionaries(
    {},
    optional={
        "model.name": lists(st.sampled_from(["vmnc", "vmns", "mrnn", "monet"])),
        "model.orders.count": lists(st.integers(1, 20)) | ranges(1, 200),
        "model.orders.active": lists(st.none() | st.integers(1, 20)) | ranges(1, 30),
        "model.orders.learning_rate": numbers(1e-6, 1.0).map(lambda bounds: {"loguniform": bounds}),
        "model.encoder.dropout": numbers(0.0, 0.99).map(lambda bounds: {"uniform": bounds}),
        "loss.smoothing": st.permutations(SMOOTHINGS).map(lambda values: {"choice": values[:3]}),
        "loss.smoothing.name": lists(st.sampled_from(["none", "ls", "rhls"])),
        "loss.smoothing.beta": numbers(0.0, 1.0).map(lambda bounds: {"uniform": bounds}),
        "training.decay": numbers(1e-3, 1.0).map(lambda bounds: {"loguniform": bounds}),
        "training.gradient_clip": lists(st.none() | st.floats(0.1, 9.0)),
        "model.bias_initialisation": lists(st.booleans()),
    },
).filter(bool)


@given(space=SPACES, seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_any_draw_from_an_accepted_space_is_a_valid_configuration(space: dict[str, object], seed: int) -> None:
    try:
        sweep = sweep_over(space)
    except SpecError:
        event("refused")
        assume(False)
    event("accepted")
    generator = random.Random(seed)
    for _ in range(5):
        values = {path: draw(dimension, generator) for path, dimension in sweep.search.space.items()}
        config = apply(sweep, values)
        tree = config.model_dump(mode="json")
        for path, value in values.items():
            placed = get(tree, path)
            if isinstance(value, dict):
                assert isinstance(placed, dict)
                assert value.items() <= placed.items()
            else:
                assert placed == pytest.approx(value, rel=1e-9) if isinstance(value, float) else placed == value
        assert _outside(tree, sweep.search.space) == _outside(sweep.base.model_dump(mode="json"), sweep.search.space)


def _outside(tree: dict[str, object], space: dict[str, Dimension]) -> dict[str, object]:
    """The leaves that no dimension sets."""
    leaves = [path for path, target in targets().items() if target.kind != "section"]
    kept = [leaf for leaf in leaves if not any(leaf == path or leaf.startswith(f"{path}.") for path in space)]
    return {leaf: get(tree, leaf) for leaf in kept}


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True),
    actives=st.lists(st.none() | st.integers(1, 12), min_size=1, max_size=4, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_a_pair_is_refused_exactly_if_some_draw_would_be(counts: list[int], actives: list[int | None]) -> None:
    space = {"model.orders.count": {"choice": counts}, "model.orders.active": {"choice": actives}}
    greatest = max((active for active in actives if active is not None), default=0)
    if greatest <= min(counts):
        sweep_over(space)
    else:
        with pytest.raises(SpecError, match="`active` <= `count` must hold in every trial"):
            sweep_over(space)


def test_a_space_too_large_to_enumerate_is_checked_in_pairs() -> None:
    space: dict[str, object] = {
        "model.orders.warmup_epochs": {"choice": list(range(40))},
        "model.orders.seed": {"choice": list(range(40))},
        "model.orders.learning_rate": {"loguniform": [1e-4, 1e-1]},
        "model.orders.count": {"randint": [8, 500]},
        "model.orders.active": {"choice": [None, 8]},
    }
    sweep_over(space)
    with pytest.raises(SpecError, match="got active=9 and count=8"):
        sweep_over(space | {"model.orders.active": {"choice": [None, 9]}})


def test_apply_replaces_sections_and_keeps_the_rest() -> None:
    space: dict[str, object] = {
        "loss.smoothing": {"choice": [{"name": "rhls", "beta": 0.5}, {"name": "none"}]},
        "training.epochs": {"choice": [3, 4]},
    }
    sweep = sweep_over(space, loss={"smoothing": {"name": "ls", "alpha": 0.3}, "dice": 0.25})
    config = apply(sweep, {"loss.smoothing": {"name": "rhls", "beta": 0.5}, "training.epochs": 4})
    assert isinstance(config, RunConfig)
    assert (config.loss.smoothing.name, config.loss.smoothing.beta, config.loss.smoothing.alpha) == ("rhls", 0.5, None)
    assert (config.loss.dice, config.training.epochs) == (0.25, 4)
    assert apply(sweep, {}) == sweep.base


def test_apply_takes_numpy_scalars_and_rounding_at_the_ends() -> None:
    sweep = sweep_over({"training.decay": {"loguniform": [0.5, 1.0]}, "training.epochs": {"randint": [1, 9]}})
    config = apply(sweep, {"training.decay": np.nextafter(1.0, 2.0), "training.epochs": np.int64(3)})
    assert (config.training.decay, config.training.epochs) == (1.0, 3)
    assert type(config.training.epochs) is int


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"training.batch_size": 3},
            "values must lie on paths of the search space, but got training.batch_size; use one of: training.epochs",
        ),
        ({"training.epochs": 0}, "training.epochs: must be >= 1, got 0, raise it"),
        ({"training.epochs": 2.5}, "training.epochs: must be a whole number, got 2.5, write digits only"),
    ],
)
def test_apply_refuses_in_one_line(values: dict[str, object], message: str) -> None:
    sweep = sweep_over({"training.epochs": {"choice": [3]}})
    with pytest.raises(ValueError, match="must") as caught:
        apply(sweep, values)
    assert str(caught.value).startswith(message)


def test_overlay_changes_what_it_names_only() -> None:
    sweep = sweep_over({}, model={"orders": {"count": 4}}, training={"epochs": 7})
    config = overlay(sweep.base, {"model.name": "vmns", "loss.smoothing": {"name": "rhls", "beta": 0.5}})
    assert (config.model.name, config.loss.smoothing.beta) == ("vmns", 0.5)
    assert overlay(config, {"model.name": "monet", "loss.smoothing": {"name": "none"}}) == sweep.base


def test_every_field_of_a_run_is_a_path_and_has_a_description() -> None:
    def leaves(section: type[BaseModel], prefix: str = "") -> set[str]:
        names = set()
        for name, field in section.model_fields.items():
            inner = field.annotation
            below = isinstance(inner, type) and issubclass(inner, BaseModel)
            names |= leaves(inner, f"{prefix}{name}.") if below else {f"{prefix}{name}"}  # type: ignore[arg-type]
        return names

    assert leaves(RunConfig) == {path for path, target in targets().items() if target.kind != "section"}
    assert all(target.description for target in targets().values())


@pytest.mark.parametrize(
    ("typo", "path"),
    [
        ("model.orders.cout", "model.orders.count"),
        ("orders.count", "model.orders.count"),
        ("lr", None),
        ("training.learning_rat", "training.learning_rate"),
        ("model.encoder.widht", "model.encoder.width"),
    ],
)
def test_the_nearest_path(typo: str, path: str | None) -> None:
    assert nearest_target(typo) == path


LEAVES = st.none() | st.booleans() | st.integers(-2, 70) | st.floats(-1, 2) | st.sampled_from(["monet", "ls", "adam"])
VALUES = LEAVES | st.dictionaries(st.sampled_from(["name", "count", "active", "encoder", "epochs"]), LEAVES, max_size=3)
LOOSE = st.dictionaries(
    st.sampled_from(sorted(targets())),
    st.dictionaries(
        st.sampled_from(["choice", "grid", "uniform", "loguniform", "randint"]),
        st.lists(VALUES, max_size=3),
        min_size=1,
        max_size=1,
    ),
    min_size=1,
    max_size=5,
)


@given(space=LOOSE, algorithm=st.sampled_from(["random", "grid", "optuna"]), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_any_space_is_refused_in_words_or_yields_valid_draws(
    space: dict[str, object], algorithm: str, seed: int
) -> None:
    search = {"space": space, "algorithm": algorithm} | ({} if algorithm == "grid" else {"trials": 1})
    try:
        sweep = sweep_over({}, search=search)
    except SpecError as error:
        assert all(problem.field and problem.rule and problem.hint for problem in error.problems)  # noqa: PT017
        return
    generator = random.Random(seed)
    apply(sweep, {path: draw(dimension, generator) for path, dimension in sweep.search.space.items()})
