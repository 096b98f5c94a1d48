"""Whole searches on a virtual clock, with the queue, the ledger and the records of a real one; drivers are killed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from duchenne.plan.cost_model import Setting, stated_model
from duchenne.search.on_record import RUNG_REACHED
from duchenne.search.rung_costs import level
from duchenne.simulation.model import Cluster, Durations, Failures, Nodes
from duchenne.simulation.sweep import Played, Simulation
from duchenne.spec import Asha, Sweep

SPACE = {
    "model.orders.count": {"choice": [32, 64, 128, 512]},
    "training.learning_rate": {"loguniform": [1e-4, 1e-1]},
}
HALVING = {"name": "asha", "grace_epochs": 3, "reduction_factor": 3}
DOLLARS = {"name": "asha", "rungs": "usd", "grace": 0.004, "reduction_factor": 3}
SETTING = Setting(rows=1000.0, tasks=14, gpu=False)


def sweep_of(**search: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s"},
            "data": {"uri": "builtin://yeast"},
            "training": {"epochs": 12},
            "search": {"space": SPACE, "trials": 12} | search,
            "folds": {"count": 3, "inner": 2},
            "prices": {"cpu_hour_usd": 1.0},
            "budget": {"wall_seconds": 1e7},
        }
    )


def play(sweep: Sweep, deaths: float = 0.0, seed: int = 0) -> Played:
    durations = Durations(model=stated_model(2.0, sweep.base, SETTING), setting=SETTING)
    failures = Failures(driver_deaths_per_hour=deaths)
    return Simulation(sweep, Cluster(Nodes(count=3), durations, failures), seed).play()


def trials_of(played: Played) -> list[tuple[int, str, float | None, int]]:
    return [(trial.number, trial.state, trial.value, trial.rung) for trial in played.records.trials(played.sweep)]


def jobs_of(played: Played) -> int:
    return len(played.records.fold_jobs(played.sweep, phase="search"))


def results_of(played: Played) -> Counter[tuple[Any, ...]]:
    return Counter(
        (row.trial, row.fold, row.inner, row.epoch) for row in played.records.results(played.sweep, phase="search")
    )


def test_racing_saves_folds_and_selects_the_same_trial() -> None:
    whole, raced = play(sweep_of(trials=24)), play(sweep_of(trials=24, racing={}))
    assert raced.state == "succeeded"
    assert raced.selected == whole.selected
    assert jobs_of(raced) <= 0.6 * jobs_of(whole) == 0.6 * 144
    stopped = [trial for trial in raced.records.trials(raced.sweep) if trial.state == "stopped"]
    assert stopped
    assert all(trial.error is not None and trial.error.startswith("raced out after") for trial in stopped)


def test_racing_by_rank_runs_a_third_of_the_folds_or_little_more() -> None:
    raced = play(sweep_of(trials=24, racing={"rule": "rank"}))
    assert raced.state == "succeeded"
    folds = Counter(job.key.trial for job in raced.records.fold_jobs(raced.sweep, phase="search"))
    assert set(folds.values()) == {1, 3, 6}
    assert jobs_of(raced) <= 0.45 * 144
    reasons = {trial.error for trial in raced.records.trials(raced.sweep) if trial.state == "stopped"}
    assert all(reason is not None and reason.startswith("raced out after") for reason in reasons)


@pytest.mark.parametrize(
    "search",
    [
        {"racing": {}},
        {"racing": {}, "scheduler": HALVING},
        {"racing": {"wave": 2}, "scheduler": DOLLARS},
        {"racing": {"rule": "rank"}},
    ],
    ids=["racing", "racing and halving", "racing in waves and dollars", "racing by rank"],
)
def test_a_search_whose_drivers_are_killed_writes_every_result_once(search: dict[str, Any]) -> None:
    played = play(sweep_of(**search), deaths=40.0)
    assert played.truth.events["driver killed"] >= 2
    assert played.state == "succeeded"
    assert {state for _, state, _, _ in trials_of(played)} <= {"succeeded", "stopped"}
    assert set(results_of(played).values()) == {1}
    assert any(state == "succeeded" for _, state, _, _ in trials_of(played))


def rungs_of(played: Played) -> list[dict[str, Any]]:
    return [event.detail for event in played.records.events(played.sweep) if event.what == RUNG_REACHED]


def test_rungs_in_dollars_are_reached_at_equal_spend_by_dear_trials_after_fewer_epochs() -> None:
    sweep = sweep_of(scheduler=DOLLARS)
    assert isinstance(sweep.search.scheduler, Asha)
    played = play(sweep)
    orders = {trial.number: trial.config["model.orders.count"] for trial in played.records.trials(played.sweep)}
    second: dict[int, list[int]] = {count: [] for count in orders.values()}
    for rung in rungs_of(played):
        if 2 < rung["epoch"] < 12:
            pace = rung["spent"] / rung["epoch"]
            # Half an epoch, and what epochs differ by.
            assert rung["spent"] == pytest.approx(level(sweep.search.scheduler, rung["rung"]), abs=0.8 * pace)
        if rung["rung"] == 2:
            second[orders[rung["trial"]]].append(rung["epoch"])
    assert min(second[32]) > max(second[512])


def test_where_rungs_in_dollars_lay_is_on_record_once_however_often_drivers_die() -> None:
    played = play(sweep_of(scheduler=DOLLARS), deaths=40.0)
    assert played.truth.events["driver killed"] >= 2
    reached = [(rung["trial"], rung["rung"]) for rung in rungs_of(played)]
    assert len(set(reached)) == len(reached)
    ends = {trial: max(epoch for other, _, _, epoch in results_of(played) if other == trial) for trial, _ in reached}
    assert all(rung["epoch"] <= ends[rung["trial"]] for rung in rungs_of(played))


def test_a_population_evolves_generation_by_generation_and_survives_its_driver() -> None:
    space = {"training.learning_rate": {"loguniform": [1e-4, 1e-1]}}
    sweep = sweep_of(algorithm="pbt", space=space, trials=4, population={"generation_epochs": 4})
    undisturbed, killed = play(sweep), play(sweep, deaths=40.0)
    assert killed.truth.events["driver killed"] >= 1
    for played in (undisturbed, killed):
        assert played.state == "succeeded"
        assert [trial.state for trial in played.records.trials(played.sweep)] == ["stopped"] * 8 + ["succeeded"] * 4
        assert min(played.selected) >= 8
        generations = {number // 4: set() for number in range(12)}
        for trial, _, _, epoch in results_of(played):
            generations[trial // 4].add(epoch)
        assert generations == {0: {1, 2, 3, 4}, 1: {5, 6, 7, 8}, 2: {9, 10, 11, 12}}
    configs = [[trial.config for trial in played.records.trials(played.sweep)] for played in (undisturbed, killed)]
    assert configs[0] == configs[1]
    assert any(config.get("training.schedule") for config in configs[0])


def test_a_learning_algorithm_hears_of_raced_trials_what_they_would_have_had() -> None:
    played = play(sweep_of(algorithm="tpe", trials=14, racing={}, scheduler=HALVING), deaths=20.0)
    assert played.state == "succeeded"
    assert len(trials_of(played)) == 14
