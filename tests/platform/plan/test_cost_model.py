"""Seconds of an epoch learned from finished jobs: the interval covers, nothing is negative, more is never cheaper."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.plan.cost_model import (
    LEVEL,
    MIN_CONFIGURATIONS,
    SIZES,
    STATED,
    CostModel,
    Observation,
    Setting,
    facts,
    fit,
    stated_model,
)
from duchenne_jobs.config import RunConfig

SETTING = Setting(1000.0, 12)


def config(active: int | None = None, orders: int = 64, hidden: int = 64, model: str = "monet") -> RunConfig:
    return RunConfig.model_validate(
        {"model": {"name": model, "hidden_size": hidden, "orders": {"count": orders, "active": active}}}
    )


def world(chance: random.Random, noise: float) -> tuple[dict[str, float], float]:
    """True powers, which are not the stated ones."""
    powers = {name: chance.uniform(0.0, 1.2) for name in SIZES} | {"epochs": chance.uniform(-0.5, 0.0)}
    return powers | {"model=vmnc": chance.uniform(-2.0, 0.0)}, noise


def observed(chance: random.Random, powers: dict[str, float], noise: float) -> Observation:
    orders = chance.choice([8, 16, 32, 64, 128])
    drawn = config(
        chance.choice([k for k in (2, 4, 8, 16) if k <= orders]),
        orders,
        chance.choice([16, 32, 64]),
        chance.choice(["monet", "monet", "vmnc"]),
    )
    setting = Setting(
        chance.choice([500.0, 1000.0, 1500.0]), chance.choice([5, 12, 14]), epochs=chance.choice([5, 20, 60])
    )
    log = sum(powers.get(name, 0.0) * value for name, value in facts(drawn, setting).items()) - 8.0
    return Observation(drawn, setting, math.exp(log + chance.gauss(0.0, noise)))


def test_the_interval_covers_new_configurations_at_about_its_level() -> None:
    chance, hits, count = random.Random(0), 0, 0
    for _ in range(80):
        powers, noise = world(chance, chance.uniform(0.05, 0.5))
        model = fit([observed(chance, powers, noise) for _ in range(chance.choice([10, 15, 30, 60]))])
        assert model is not None
        for _ in range(20):
            new = observed(chance, powers, noise)
            predicted = model.predict(new.config, new.setting)
            assert predicted.low is not None
            assert predicted.high is not None
            hits += predicted.low <= new.seconds <= predicted.high
            count += 1
    assert LEVEL - 0.06 <= hits / count <= LEVEL + 0.1


def test_powers_are_found_again_from_many_records() -> None:
    chance = random.Random(1)
    powers, noise = world(chance, 0.05)
    model = fit([observed(chance, powers, noise) for _ in range(200)])
    assert model is not None
    assert {name: model.slopes[name] for name in powers} == pytest.approx(powers, abs=0.1)


drawn = st.builds(
    lambda seed, noise, count: (random.Random(seed), noise, count),
    st.integers(0, 10**6),
    st.floats(0.0, 1.0),
    st.integers(MIN_CONFIGURATIONS, 30),
)


@given(case=drawn)
@settings(max_examples=30, deadline=None)
def test_more_is_never_cheaper_and_nothing_is_negative(case: tuple[random.Random, float, int]) -> None:
    """Whatever was recorded, even dear jobs that were small: a slope never turns against its size."""
    chance, noise, count = case
    powers = {name: chance.uniform(-1.0, 1.0) for name in SIZES}
    model = fit([observed(chance, powers, noise) for _ in range(count)])
    assert model is not None

    def seconds(drawn: RunConfig, setting: Setting = SETTING) -> float:
        predicted = model.predict(drawn, setting)
        assert predicted.low is not None
        assert predicted.high is not None
        assert 0.0 < predicted.low <= predicted.seconds <= predicted.high
        return predicted.seconds

    for small, large in ((2, 4), (4, 32), (32, 64)):
        assert seconds(config(small)) <= seconds(config(large)) * (1 + 1e-12)
    assert seconds(config(8, 16)) <= seconds(config(8, 128)) * (1 + 1e-12)
    assert seconds(config(hidden=16)) <= seconds(config(hidden=64)) * (1 + 1e-12)
    assert seconds(config(), Setting(500.0, 12)) <= seconds(config(), Setting(900.0, 12)) * (1 + 1e-12)
    short, long = (epochs * seconds(config(), Setting(1000.0, 12, epochs=epochs)) for epochs in (5, 50))
    assert short <= long * (1 + 1e-12), "more epochs are never cheaper in all"


def test_too_few_records_teach_nothing() -> None:
    chance = random.Random(2)
    powers, noise = world(chance, 0.1)
    few = [observed(chance, powers, noise) for _ in range(MIN_CONFIGURATIONS)]
    assert fit(few[:-1]) is None
    assert fit(few) is not None


def test_a_stated_model_says_what_was_stated_and_scales_the_rest() -> None:
    model = stated_model(3.0, config(8), SETTING)
    assert model.predict(config(8), SETTING).seconds == pytest.approx(3.0)
    assert model.predict(config(16), SETTING).seconds == pytest.approx(3.0 * 2 ** STATED["active"])
    assert model.predict(config(8), SETTING).low is None
    with pytest.raises(ValueError, match="more than 0 seconds"):
        stated_model(0.0, config(8), SETTING)


def test_what_the_records_do_not_vary_keeps_its_stated_power() -> None:
    same = [Observation(config(8), SETTING, 2.0)] * MIN_CONFIGURATIONS
    model = fit(same)
    assert isinstance(model, CostModel)
    assert model.slopes == pytest.approx(STATED)
    assert model.predict(config(32), SETTING).seconds == pytest.approx(2.0 * 4 ** STATED["active"])
