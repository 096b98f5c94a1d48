"""PBT: a pure function of the seed and of what the generation before scored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.plan.counting import count_trials
from duchenne.search.population import PopulationProposer
from duchenne.spec import Sweep, apply
from duchenne.spec.population import generation_ends

SPACE = {
    "training.learning_rate": {"loguniform": [1e-4, 1e-1]},
    "training.decay": {"uniform": [0.5, 1.0]},
    "training.weight_decay": {"choice": [0.0, 0.01, 0.1]},
}


def population(size: int = 8, epochs: int = 20, seed: int = 0, **options: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s"},
            "data": {"uri": "builtin://yeast"},
            "training": {"epochs": epochs},
            "search": {
                "space": SPACE,
                "algorithm": "pbt",
                "trials": size,
                "seed": seed,
                "population": {"generation_epochs": 5, **options},
            },
            "budget": {"wall_seconds": 60},
        }
    )


def evolved(sweep: Sweep, generations: int) -> tuple[PopulationProposer, list[dict[str, Any]]]:
    """A population that is scored by how near its first learning rate is to 0.01."""
    proposer, size = PopulationProposer(sweep), sweep.search.trials or 1
    drawn: list[dict[str, Any]] = []
    for number in range(generations * size):
        values = proposer.propose(number)
        assert values is not None
        drawn.append(values)
        if (number + 1) % size == 0:
            for other in range(number + 1 - size, number + 1):
                proposer.learn(other, drawn[other], -abs(drawn[other]["training.learning_rate"] - 0.01))
    return proposer, drawn


def test_a_generation_waits_for_the_one_before() -> None:
    sweep = population()
    proposer = PopulationProposer(sweep)
    drawn = [proposer.propose(number) for number in range(8)]
    for number in range(7):
        proposer.learn(number, drawn[number] or {}, 0.1 * number)
    assert proposer.propose(8) is None
    proposer.learn(7, drawn[7] or {}, None)
    assert proposer.propose(8) is not None


def test_the_worst_copy_the_best_and_change_their_schedule_there_while_the_others_go_on() -> None:
    sweep = population(quantile=0.25)
    proposer, drawn = evolved(sweep, 2)
    ranked = sorted(range(8), key=lambda number: abs(drawn[number]["training.learning_rate"] - 0.01))
    for member in range(8):
        parent = proposer.parent(8 + member)
        child = drawn[8 + member]
        if member in ranked[-2:]:
            assert parent in ranked[:2]
            [change] = child["training.schedule"]
            assert change["after"] == 5
            assert child | {"training.schedule": ()} == drawn[parent] | {"training.schedule": ()}
        else:
            assert parent == member
            assert child == drawn[member]


@given(seed=st.integers(0, 2**31), quantile=st.floats(0.05, 0.5))
@settings(max_examples=15, deadline=None)
def test_every_member_is_a_valid_configuration_within_its_bounds_and_drawn_alike_again(
    seed: int, quantile: float
) -> None:
    sweep = population(seed=seed, quantile=quantile)
    _, drawn = evolved(sweep, 4)
    assert evolved(sweep, 4)[1] == drawn
    for values in drawn:
        config = apply(sweep, values)
        for change in config.training.schedule:
            assert change.after in (5, 10, 15)
            assert change.learning_rate is not None
            assert 1e-4 <= change.learning_rate <= 1e-1
            assert change.decay is not None
            assert 0.5 <= change.decay <= 1.0
            assert change.weight_decay in (0.0, 0.01, 0.1)


def test_a_resumed_population_draws_what_it_would_have_drawn() -> None:
    sweep = population()
    _, drawn = evolved(sweep, 3)
    resumed = PopulationProposer(sweep)
    for number in range(16):  # what the records hold
        resumed.learn(number, drawn[number], -abs(drawn[number]["training.learning_rate"] - 0.01))
    assert [resumed.propose(number) for number in range(16, 24)] == drawn[16:24]


def test_generations_end_with_the_training() -> None:
    assert generation_ends(population(epochs=12)) == (5, 10, 12)
    assert generation_ends(population(epochs=3)) == (3,)
    assert count_trials(population(epochs=12)) == 24


def test_a_failed_member_is_among_the_worst() -> None:
    proposer = PopulationProposer(population(size=4))
    drawn = [proposer.propose(number) for number in range(4)]
    for number, score in enumerate((0.5, None, 0.6, 0.7)):
        proposer.learn(number, drawn[number] or {}, score)
    assert proposer.parent(4 + 1) == 3
    assert [proposer.parent(4 + number) for number in (0, 2, 3)] == [0, 2, 3]


def test_values_outside_the_space_are_refused_as_before() -> None:
    with pytest.raises(ValueError, match=r"training\.epochs"):
        apply(population(), {"training.epochs": 3})
