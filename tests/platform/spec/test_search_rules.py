"""What an algorithm can't handle is refused with the field's name; what is short for a list of sections is one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.plan.counting import count_trials
from duchenne.spec import Choice, SpecError, Sweep, load_sweep_text
from duchenne_jobs.config import OrdersConfig, SmoothingConfig

HEAD = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: a}
data: {uri: builtin://yeast}
budget: {wall_seconds: 60}
"""
RATE = "training.learning_rate: {loguniform: [1e-4, 1e-2]}"
COUNT = "model.orders.count: {choice: [8, 16]}"
ASHA = "scheduler: {name: asha, rungs: usd, grace: 0.1}"

REFUSED = {
    "cmaes on choices alone": (
        f"search: {{space: {{{COUNT}}}, algorithm: cmaes, trials: 4}}",
        "6: search.algorithm: algorithm cmaes needs a dimension that is a range: it adapts a covariance of numbers, "
        "got choices alone, use algorithm tpe, or write a range",
    ),
    "gp on a grid": (
        "search: {space: {loss.dice: {grid: [0, 1]}}, algorithm: gp, trials: 4}",
        "6: search.space.loss.dice.grid: algorithm gp takes no grid, got grid, use choice, or algorithm grid",
    ),
    "pbt on the architecture": (
        f"search: {{space: {{{COUNT}}}, algorithm: pbt, trials: 4}}",
        "6: search.space.model.orders.count: algorithm pbt varies what may change while a network trains: "
        "training.learning_rate, training.decay, training.weight_decay, got model.orders.count, set it in its section, "
        "or use algorithm tpe",
    ),
    "pbt with a grid": (
        "search: {space: {training.decay: {grid: [0.9, 1]}}, algorithm: pbt, trials: 4}",
        "6: search.space.training.decay.grid: algorithm pbt takes no grid, got grid, use choice or a range",
    ),
    "pbt of three": (
        f"search: {{space: {{{RATE}}}, algorithm: pbt, trials: 3}}",
        "6: search.trials: a population must have at least 4 members, got 3, raise trials",
    ),
    "pbt without a space": (
        "search: {algorithm: pbt}",
        "6: search.algorithm: algorithm pbt needs a search space, got none, add search.space",
    ),
    "pbt under a scheduler": (
        f"search: {{space: {{{RATE}}}, algorithm: pbt, trials: 8, scheduler: asha}}",
        "6: search.scheduler: algorithm pbt stops the worst by itself, and takes no scheduler but fifo, got asha, "
        "remove scheduler",
    ),
    "pbt that races": (
        f"search: {{space: {{{RATE}}}, algorithm: pbt, trials: 8, racing: {{}}}}",
        "6: search.racing: algorithm pbt compares whole trials, and takes no racing, remove racing",
    ),
    "a level of a race by rank": (
        f"search: {{space: {{{RATE}}}, trials: 8, racing: {{rule: rank, alpha: 0.1}}}}",
        "6: search.racing: alpha, spending and min_folds belong to rule test, got alpha=0.1, spending=pocock, "
        "min_folds=2 with rule rank, remove them or set rule to test",
    ),
    "a factor of a race by test": (
        f"search: {{space: {{{RATE}}}, trials: 8, racing: {{reduction_factor: 2}}}}",
        "6: search.racing: reduction_factor belongs to rule rank, got 2 with rule test, remove it or set rule to rank",
    ),
    "pbt over a schedule": (
        f"training: {{schedule: [{{after: 2, decay: 0.9}}]}}\nsearch: {{space: {{{RATE}}}, algorithm: pbt, trials: 8}}",
        "6: training.schedule: algorithm pbt writes training.schedule, and takes none, got 1 changes, remove schedule",
    ),
    "a population without pbt": (
        f"search: {{space: {{{RATE}}}, trials: 8, population: {{quantile: 0.5}}}}",
        "6: search.population: population belongs to algorithm pbt, got random, set algorithm to pbt or remove it",
    ),
    "factors that lead down alone": (
        f"search: {{space: {{{RATE}}}, algorithm: pbt, trials: 8, population: {{factors: [0.5, 0.8]}}}}",
        "6: search.population: `factors` must lead up and down, got 0.5, 0.8, add one below 1 and one above",
    ),
    "a race of two folds": (
        "folds: {method: holdout, test: 0.2, validation: 0.2}\n"
        f"search: {{space: {{{RATE}}}, trials: 8, racing: {{}}}}",
        "7: search.racing: racing needs at least 3 fold jobs a trial, got 1, remove racing or take more folds",
    ),
    "a race that begins at its end": (
        f"search: {{space: {{{RATE}}}, trials: 8, racing: {{min_folds: 9}}}}",
        "6: search.racing.min_folds: min_folds < 9 must hold, the fold jobs of a trial, got 9, lower it",
    ),
    "a race in one wave": (
        f"search: {{space: {{{RATE}}}, trials: 8, racing: {{wave: 9}}}}",
        "6: search.racing.wave: wave < 9 must hold, the fold jobs of a trial, got 9, lower it or remove racing",
    ),
    "a race for each fold": (
        f"folds: {{selection: per_fold}}\nsearch: {{space: {{{RATE}}}, trials: 8, racing: {{}}}}",
        "7: search.racing: racing compares means over all folds, and selection per_fold selects by each fold's own, "
        "remove racing or set folds.selection to shared",
    ),
    "a race under the median rule": (
        f"search: {{space: {{{RATE}}}, trials: 8, racing: {{}}, scheduler: median_stopping}}",
        "6: search.racing: racing goes with scheduler asha or fifo, since median_stopping compares running means, got "
        "median_stopping, remove racing or set scheduler to asha",
    ),
    "a level of one half": (
        f"search: {{space: {{{RATE}}}, trials: 8, racing: {{alpha: 0.5}}}}",
        "6: search.racing.alpha: must be < 0.5, got 0.5, lower it",
    ),
    "dollars without a price": (
        f"search: {{space: {{{RATE}}}, trials: 8, {ASHA}}}",
        "6: search.scheduler.rungs: rungs in usd need a price above 0 of what the fold jobs hold, got usd, set prices, "
        "or rungs to worker_seconds or epochs",
    ),
    "seconds of no GPU": (
        f"search: {{space: {{{RATE}}}, trials: 8, scheduler: {{name: asha, rungs: gpu_seconds, grace: 5}}}}",
        "6: search.scheduler.rungs: rungs in gpu_seconds need fold jobs that hold a GPU, got folds.resources.gpu=0, "
        "set rungs to worker_seconds or epochs",
    ),
    "dollars without a first rung": (
        f"search: {{space: {{{RATE}}}, trials: 8, scheduler: {{name: asha, rungs: usd}}}}",
        "6: search.scheduler: rungs usd need `grace`, the first rung in that unit, got none, add `grace:`, about what "
        "a few epochs of one fold cost",
    ),
    "a first rung in no unit": (
        f"search: {{space: {{{RATE}}}, trials: 8, scheduler: {{name: asha, grace: 5}}}}",
        "6: search.scheduler: `grace` belongs to rungs that are no epochs, got grace=5, set grace_epochs, or rungs to "
        "usd",
    ),
    "a warm start that nobody learns from": (
        f"search: {{space: {{{RATE}}}, trials: 8, warm_start: [board]}}",
        "6: search.warm_start: warm_start needs an algorithm that learns (optuna, tpe, gp, cmaes) and a search space, "
        "got random, set algorithm to tpe or remove warm_start",
    ),
    "changes in no order": (
        "training: {schedule: [{after: 4, decay: 0.9}, {after: 2, decay: 0.8}]}",
        "6: training: `schedule` must be ascending in `after`, got [4, 2], sort or join its changes",
    ),
    "a misspelt list of an order set": (
        "search: {space: {model.orders: {orders: {cuont: [8]}}}, trials: 2}",
        "6: search.space.model.orders.orders.cuont: unknown field, got cuont, did you mean `count`?",
    ),
    "a count that is no number": (
        "search: {space: {model.orders: {orders: {count: [8, many]}}}, trials: 2}",
        "6: search.space.model.orders.orders.count[1]: must be a whole number, got many, write digits only, without "
        "quotes",
    ),
    "no order set at all": (
        "search: {space: {model.orders: {orders: {count: [4], active: [8]}}}, trials: 2}",
        "6: search.space.model.orders: a grid needs active <= count in one combination, got none, lower active",
    ),
    "blocks without blocks": (
        "search: {space: {model.orders: {orders: {source: blocks}}}, trials: 2}",
        "6: search.space.model.orders.orders: source blocks and `blocks` go together, got the former alone, add "
        "`blocks:`",
    ),
    "order sets for another section": (
        "search: {space: {loss.smoothing: {orders: {count: [4]}}}, trials: 2}",
        "6: search.space.loss.smoothing",
    ),
}


@pytest.mark.parametrize(("added", "line"), REFUSED.values(), ids=REFUSED)
def test_a_search_that_can_not_work_is_refused_by_its_field(added: str, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_sweep_text(f"{HEAD}{added}\n", "S.yaml")
    assert str(caught.value).splitlines()[0].removeprefix("S.yaml:").startswith(line)


ACCEPTED = [
    f"search: {{space: {{{RATE}, {COUNT}}}, algorithm: cmaes, trials: 4}}",
    f"search: {{space: {{{RATE}, {COUNT}}}, algorithm: gp, trials: 4, warm_start: [board, a-1b2c]}}",
    f"search: {{space: {{{RATE}, {COUNT}}}, algorithm: tpe, trials: 4, racing: {{}}, scheduler: asha}}",
    f"search: {{space: {{{RATE}}}, algorithm: pbt, trials: 8, population: {{generation_epochs: 3}}}}",
    f"prices: {{cpu_hour_usd: 0.1}}\nsearch: {{space: {{{COUNT}}}, trials: 4, {ASHA}}}",
    "training: {schedule: [{after: 2, learning_rate: 1e-4}]}",
]


@pytest.mark.parametrize("added", ACCEPTED)
def test_a_search_that_works_is_read_and_read_again_from_the_records(added: str) -> None:
    sweep = load_sweep_text(f"{HEAD}{added}\n", "S.yaml")
    assert Sweep.model_validate(sweep.model_dump(mode="json")) == sweep


def choice_of(path: str, written: str) -> tuple[Any, ...]:
    sweep = load_sweep_text(f"{HEAD}search: {{space: {{{path}: {written}}}, algorithm: grid}}\n", "S.yaml")
    dimension = sweep.search.space[path]
    assert isinstance(dimension, Choice)
    assert count_trials(sweep) == len(dimension.choice)
    return dimension.choice


def test_order_sets_are_every_combination_with_no_more_active_orders_than_there_are() -> None:
    listed = choice_of(
        "model.orders", "{orders: {count: [8, 32], active: [null, 16], seed: [0, 1], selection: uniform}}"
    )
    assert [(each["count"], each["active"], each["seed"]) for each in listed] == [
        (8, None, 0),
        (8, None, 1),
        (32, None, 0),
        (32, 16, 0),
        (32, None, 1),
        (32, 16, 1),
    ]
    assert all(OrdersConfig.model_validate(each).selection == "uniform" for each in listed)


def test_order_sets_that_no_count_tells_apart_are_listed_once() -> None:
    listed = choice_of("model.orders", "{orders: {count: [4, 8], source: [identity, random], seed: [0, 1]}}")
    assert [each["source"] for each in listed] == ["identity"] + ["random"] * 4


def test_smoothings_have_the_parameters_of_their_method() -> None:
    written = "{smoothing: {name: [none, ls, rhls], alpha: [0.1, 0.2], beta: 0.25, mixing: [uniform, dependent]}}"
    listed = choice_of("loss.smoothing", written)
    assert [(each["name"], each["mixing"]) for each in listed] == [
        ("none", "uniform"),
        *[("ls", mixing) for mixing in ("uniform", "dependent") for _ in (0.1, 0.2)],
        ("rhls", "uniform"),
        ("rhls", "dependent"),
    ]
    assert {each["alpha"] for each in listed if each["name"] == "ls"} == {0.1, 0.2}


@given(
    counts=st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True),
    actives=st.lists(st.none() | st.integers(1, 64), min_size=1, max_size=4, unique=True),
    names=st.lists(st.sampled_from(["none", "ls", "vls", "vals", "rhls"]), min_size=1, unique=True),
)
@settings(max_examples=25, deadline=None)
def test_every_section_of_a_grid_is_one_that_its_section_takes(
    counts: list[int], actives: list[int | None], names: list[str]
) -> None:
    lists = ", ".join("null" if active is None else str(active) for active in actives)
    if min(1 if active is None else active for active in actives) <= max(counts):
        for each in choice_of("model.orders", f"{{orders: {{count: {counts}, active: [{lists}]}}}}"):
            OrdersConfig.model_validate(each)
    for each in choice_of("loss.smoothing", f"{{smoothing: {{name: [{', '.join(names)}]}}}}"):
        SmoothingConfig.model_validate(each)
