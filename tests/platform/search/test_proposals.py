"""Where the values of a trial come from: complete for grids, reproducible for draws, resumable for Optuna."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.plan.counting import count_trials
from duchenne.search.proposals import ListedProposer, build_proposer
from duchenne.search.samplers import STARTUP_TRIALS, OptunaProposer
from duchenne.spec import Sweep, apply


def sweep_with(space: dict[str, Any], algorithm: str, trials: int | None = None, **search: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s"},
            "data": {"uri": "builtin://yeast"},
            "search": {"space": space, "algorithm": algorithm, "trials": trials, **search},
            "budget": {"wall_seconds": 60},
        }
    )


MIXED = {
    "model.orders.count": {"choice": [8, 16, 32]},
    "training.learning_rate": {"loguniform": [1e-4, 1e-2]},
    "training.weight_decay": {"uniform": [0.0, 0.1]},
    "training.batch_size": {"randint": [16, 64]},
    "loss.smoothing": {"choice": [{"name": "none"}, {"name": "rhls", "beta": 0.25}]},
}


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    names=st.permutations(["training.epochs", "training.batch_size", "model.hidden_size"]),
)
@settings(max_examples=30, deadline=None)
def test_a_grid_visits_every_combination_once(sizes: list[int], names: list[str]) -> None:
    space = {name: {"grid": list(range(1, size + 1))} for name, size in zip(names, sizes, strict=False)}
    sweep = sweep_with(space, "grid")
    proposer = ListedProposer(sweep)
    seen = [tuple(proposer.propose(number).items()) for number in range(count_trials(sweep))]
    wanted = itertools.product(*([(name, value) for value in space[name]["grid"]] for name in space))
    assert sorted(seen) == sorted(wanted)


def test_random_draws_cross_the_grid_and_depend_on_seed_and_number_alone() -> None:
    space = MIXED | {"model.hidden_size": {"grid": [32, 64]}}
    sweep = sweep_with(space, "random", trials=5)
    assert count_trials(sweep) == 10
    once = [ListedProposer(sweep).propose(number) for number in range(10)]
    again = [ListedProposer(sweep).propose(number) for number in reversed(range(10))]
    assert once == again[::-1]
    assert [values["model.hidden_size"] for values in once] == [32, 64] * 5
    assert len({values["training.learning_rate"] for values in once}) == 10
    other = sweep_with(space, "random", trials=5, seed=1)
    assert ListedProposer(other).propose(0) != once[0]


LISTED = {
    "model.orders.count": {"choice": [8, 16, 32]},
    "training.batch_size": {"choice": [16, 64]},
    "loss.smoothing": {"choice": [{"name": "none"}, {"name": "rhls", "beta": 0.25}]},
}


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_no_list_is_drawn_twice_before_everything_was(algorithm: str) -> None:
    proposer = build_proposer(sweep_with(LISTED, algorithm, trials=15), known=0)
    drawn = []
    for number in range(15):
        values = proposer.propose(number) or {}
        drawn.append(str(values))
        # The smallest batch is best by far: a sampler that may repeat itself would stay there.
        proposer.learn(number, values, -float(values["training.batch_size"]))
    assert len(set(drawn[:12])) == 12
    assert set(drawn[12:]) < set(drawn[:12])


def test_each_point_of_a_grid_meets_every_combination_once() -> None:
    space = LISTED | {"model.hidden_size": {"grid": [32, 64]}}
    proposer = ListedProposer(sweep_with(space, "random", trials=12))
    drawn = [proposer.propose(number) for number in range(24)]
    assert [values["model.hidden_size"] for values in drawn] == [32, 64] * 12
    assert len({str(sorted(values.items())) for values in drawn}) == 24


def test_a_sampler_begins_with_the_draws_of_random_search() -> None:
    sampler = build_proposer(sweep_with(MIXED, "tpe", trials=20), known=0)
    random = ListedProposer(sweep_with(MIXED, "random", trials=20))
    for number in range(STARTUP_TRIALS):
        assert sampler.propose(number) == random.propose(number)


def test_a_resumed_sampler_knows_what_was_run() -> None:
    sweep = sweep_with(LISTED, "tpe", trials=12)
    before = OptunaProposer(sweep, known=0)
    recorded = [before.propose(number) for number in range(11)]
    after = OptunaProposer(sweep, known=11)
    for number, values in enumerate(recorded):
        after.learn(number, values, float(number))
    assert after.propose(11) not in recorded


@pytest.mark.parametrize(("algorithm", "trials"), [("random", 20), ("optuna", 20), ("gp", 12), ("cmaes", 20)])
def test_every_draw_makes_a_valid_configuration_within_its_bounds(algorithm: str, trials: int) -> None:
    sweep = sweep_with(MIXED, algorithm, trials=trials)
    proposer = build_proposer(sweep, known=0)
    for number in range(trials):
        values = proposer.propose(number)
        assert values is not None
        config = apply(sweep, values)
        assert config.model.orders.count in (8, 16, 32)
        assert 1e-4 <= config.training.learning_rate <= 1e-2
        assert 0.0 <= config.training.weight_decay <= 0.1
        assert 16 <= config.training.batch_size < 64
        assert config.loss.smoothing.name in ("none", "rhls")
        proposer.learn(number, values, float(number))


def test_log_uniform_draws_are_uniform_in_the_logarithm() -> None:
    sweep = sweep_with({"training.learning_rate": {"loguniform": [1e-4, 1e-2]}}, "random", trials=2000)
    proposer = ListedProposer(sweep)
    logs = [math.log10(proposer.propose(number)["training.learning_rate"]) for number in range(2000)]
    # Mean -3 and standard deviation 2 / sqrt(12); the bound is five standard errors.
    assert abs(sum(logs) / len(logs) + 3) < 5 * 2 / math.sqrt(12 * 2000)


@pytest.mark.parametrize(("algorithm", "trials"), [("tpe", 60), ("gp", 22), ("cmaes", 80)])
def test_a_learning_algorithm_finds_where_the_optimum_is(algorithm: str, trials: int) -> None:
    space = {"training.weight_decay": {"uniform": [0.0, 1.0]}, "training.decay": {"uniform": [0.5, 1.0]}}
    proposer = OptunaProposer(sweep_with(space, algorithm, trials=trials), known=0)
    drawn = []
    for number in range(trials):
        values = proposer.propose(number)
        drawn.append(values["training.weight_decay"])
        proposer.learn(number, values, -((values["training.weight_decay"] - 0.3) ** 2))
    early = sum(abs(value - 0.3) for value in drawn[:10]) / 10
    late = sum(abs(value - 0.3) for value in drawn[-10:]) / 10
    assert late < early / 2


def test_a_resumed_optuna_search_knows_the_recorded_trials_and_does_not_draw_them_again() -> None:
    space = {"training.weight_decay": {"uniform": [0.0, 1.0]}}
    sweep = sweep_with(space, "optuna", trials=10)
    before = OptunaProposer(sweep, known=0)
    recorded = [before.propose(number) for number in range(5)]
    after = OptunaProposer(sweep, known=5)
    for number, values in enumerate(recorded):
        after.learn(number, values, -abs(values["training.weight_decay"] - 0.5))
    assert len(after._search._ot_study.trials) == 5
    fresh = [after.propose(number)["training.weight_decay"] for number in range(5, 10)]
    assert not set(fresh) & {values["training.weight_decay"] for values in recorded}


def test_a_failed_trial_is_told_to_optuna_as_failed() -> None:
    proposer = OptunaProposer(sweep_with(MIXED, "optuna", trials=20), known=0)
    proposer.learn(STARTUP_TRIALS, proposer.propose(STARTUP_TRIALS), None)
    assert [trial.state.name for trial in proposer._search._ot_study.trials] == ["FAIL"]


def test_cheap_trials_come_first_and_are_the_same_draws() -> None:
    space = {
        "model.orders.count": {"choice": [8, 32, 512]},
        "training.learning_rate": {"loguniform": [1e-4, 1e-2]},
        "training.epochs": {"choice": [5, 50]},
    }

    def drawn(algorithm: str, cheap: int) -> list[dict[str, Any]]:
        proposer = build_proposer(sweep_with(space, algorithm, trials=12, cheap_first=cheap), known=0)
        return [proposer.propose(number) or {} for number in range(12)]

    plain, cheap = drawn("random", 0), drawn("random", 8)
    assert cheap[8:] == plain[8:]
    assert sorted(map(str, cheap)) == sorted(map(str, plain))
    costs = [values["training.epochs"] * math.sqrt(values["model.orders.count"]) for values in cheap[:8]]
    assert costs == sorted(costs)
    assert drawn("tpe", 8)[:8] == cheap[:8]


def test_a_sampler_learns_of_the_cheap_trials_that_it_did_not_draw() -> None:
    sweep = sweep_with(MIXED, "tpe", trials=4, cheap_first=2)
    proposer = OptunaProposer(sweep, known=0)
    for number in range(3):
        proposer.learn(number, proposer.propose(number), 0.1 * number)
    assert [trial.value for trial in proposer._search._ot_study.trials] == pytest.approx([0.0, 0.1, 0.2])


def test_without_a_space_the_base_configuration_is_the_only_trial() -> None:
    sweep = sweep_with({}, "random")
    assert count_trials(sweep) == 1
    assert build_proposer(sweep, known=0).propose(0) == {}
