"""Whole sweeps on a virtual cluster: the real queue, leases, search and selection, with stated durations."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.cli.main import call
from duchenne.plan.cost_model import Setting, stated_model
from duchenne.records import RecordStore
from duchenne.records.costs import costs_of
from duchenne.records.database import Database
from duchenne.records.migrate import migrate
from duchenne.simulation.model import Cluster, Durations, Failures, Nodes, Services
from duchenne.simulation.report import report
from duchenne.simulation.sweep import Played, Simulation
from duchenne.spec import Sweep, load_sweep_text

FREE = Services(group_seconds=2.0, driver_seconds=20.0)
SETTING = Setting(1000.0, 14)
SPACE = {"model.orders.count": {"choice": [16, 64]}, "training.learning_rate": {"loguniform": [1e-4, 1e-2]}}
FIELDS: dict[str, Any] = {
    "apiVersion": "duchenne/v1",
    "kind": "Sweep",
    "metadata": {"name": "played"},
    "data": {"uri": "builtin://yeast"},
    "training": {"epochs": 9},
    "search": {"trials": 6, "space": SPACE},
    "folds": {"count": 2, "inner": 2},
    "seeds": 1,
    "prices": {"cpu_hour_usd": 3.6},
    "budget": {"usd": 100.0},
}


def sweep(**sections: Any) -> Sweep:
    return load_sweep_text(yaml.safe_dump(FIELDS | sections))


def cluster(
    spec: Sweep, nodes: int = 4, failures: Failures | None = None, services: Services = FREE, epoch: float = 4.0
) -> Cluster:
    model = stated_model(epoch, spec.base, SETTING)
    return Cluster(
        Nodes(nodes, startup_seconds=5.0, usd_per_hour=3.6),
        Durations(model, SETTING, growth=2.0),
        failures or Failures(),
        services,
    )


def played(spec: Sweep, seed: int = 0, **options: Any) -> Played:
    return Simulation(spec, cluster(spec, **options), seed).play()


class Counted(RecordStore):
    """A database that a sweep can be played in."""

    def made(self) -> int:
        return 0


def in_database(path: Path) -> Callable[[Callable[[], datetime]], Counted]:
    def make(clock: Callable[[], datetime]) -> Counted:
        store = Counted(Database(path, clock=clock))
        migrate(store.database)
        return store

    return make


WRONG = Failures(errors_per_hour=60.0, losses_per_hour=20.0, driver_deaths_per_hour=20.0, skew_seconds=5.0)


def test_a_sweep_runs_every_fold_job_once_to_its_end() -> None:
    spec = sweep()
    out = played(spec)
    assert (out.state, out.reason) == ("succeeded", None)
    jobs = out.records.fold_jobs(out.sweep)
    assert len(jobs) == 6 * 4 + 2
    assert {job.state for job in jobs} == {"succeeded"}
    assert len(out.records.results(out.sweep)) == 9 * len(jobs)
    best = max(range(6), key=out.curves.final)
    assert out.curves.final(out.selected[0]) >= out.curves.final(best) - 0.02
    summed = report(out, cluster(spec))
    assert summed.bottleneck == "nodes"
    assert summed.wasted_share == 0.0
    assert summed.spent_usd == pytest.approx(out.truth.usd)


def test_the_same_seed_plays_the_same_sweep_and_another_one_does_not() -> None:
    spec = sweep()
    one, same, other = (played(spec, seed, failures=WRONG) for seed in (3, 3, 4))
    assert one.truth.held == same.truth.held
    assert one.truth.held != other.truth.held


@pytest.mark.parametrize("search", [{"scheduler": "asha"}, {"scheduler": "fifo", "racing": {}}])
def test_a_database_decides_as_memory_does(tmp_path: Path, search: dict[str, Any]) -> None:
    """To the last segment: with failures, drivers that die, a clock that is wrong, and money that runs out."""
    spec = sweep(search={"trials": 4, "space": SPACE, **search}, budget={"usd": 0.9, "wall_seconds": 5000})
    memory = Simulation(spec, cluster(spec, 3, WRONG), 1).play()
    store = Simulation(spec, cluster(spec, 3, WRONG), 1, in_database(tmp_path / "records.sqlite")).play()
    assert memory.truth.held == store.truth.held
    assert (memory.state, memory.selected) == (store.state, store.selected)
    assert memory.records.ledger.totals(memory.sweep) == store.records.ledger.totals(store.sweep)
    assert [(trial.state, trial.value) for trial in memory.records.trials(memory.sweep)] == [
        (trial.state, trial.value) for trial in store.records.trials(store.sweep)
    ]


def test_what_is_spent_beyond_a_lease_is_on_the_ledger_and_ends_the_sweep() -> None:
    """Workers that stop up to a minute after they were told to: their leases run out before they report."""
    spec = sweep(budget={"usd": 0.6}, prices={"cpu_hour_usd": 36.0})
    late, over = 60.0, 0
    for seed in range(4):
        out = played(spec, seed, failures=Failures(late_seconds=late))
        assert out.state == "exhausted"
        totals = out.records.ledger.totals(out.sweep)
        assert totals["spent"].usd == pytest.approx(out.truth.usd)
        assert out.truth.usd <= 0.6 + 4 * 0.01 * (late - 9.0)
        over += out.truth.usd > 0.6
    assert over, "without a sweep over its limit nothing was tried"


def test_workers_of_a_fold_run_and_are_paid_together() -> None:
    """Two a fold, on twice the nodes: the same sweep for twice the money."""
    spec = sweep(search={"trials": 6, "space": SPACE, "concurrency": 3})
    double = sweep(
        search={"trials": 6, "space": SPACE, "concurrency": 3}, folds={"count": 2, "inner": 2, "workers_per_fold": 2}
    )
    one, two, odd = played(spec, nodes=4), played(double, nodes=8), played(double, nodes=9)
    assert one.truth.held == two.truth.held
    assert two.truth.usd == pytest.approx(2 * one.truth.usd)
    assert two.records.ledger.totals(two.sweep)["spent"].usd == pytest.approx(two.truth.usd)
    assert report(one, cluster(spec, 4)).idle_share == pytest.approx(report(two, cluster(double, 8)).idle_share)
    assert odd.truth.held == two.truth.held, "a rank without a partner idles"
    assert report(odd, cluster(double, 9)).idle_share > report(two, cluster(double, 8)).idle_share
    broken = Failures(errors_per_hour=30.0, losses_per_hour=5.0, driver_deaths_per_hour=10.0)
    mended = played(double, nodes=8, failures=broken)
    assert {"worker lost", "driver killed"} <= set(mended.truth.events)
    assert len(mended.records.results(mended.sweep)) == 9 * 26


def test_a_fold_that_does_not_fit_the_nodes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(FIELDS | {"folds": {"count": 2, "inner": 2, "workers_per_fold": 4}}))
    assert call(["simulate", str(path), "--nodes", "3"]) == 2
    assert "workers_per_fold" in capsys.readouterr().err


def test_early_stopping_and_racing_act() -> None:
    def segments(**search: Any) -> int:
        spec = sweep(search={"trials": 12, "space": SPACE, **search})
        return sum(held.phase == "search" for held in played(spec, nodes=8).truth.held)

    epochs = {
        name: played(sweep(search={"trials": 12, "space": SPACE, "scheduler": name}), nodes=8).truth.busy_seconds(
            "search"
        )
        for name in ("fifo", "asha")
    }
    assert epochs["asha"] < 0.7 * epochs["fifo"]
    assert segments(racing={"alpha": 0.2}) < segments()


def test_what_goes_wrong_is_run_again_and_counted() -> None:
    spec = sweep()
    out = played(spec, failures=Failures(errors_per_hour=30.0, losses_per_hour=10.0, driver_deaths_per_hour=10.0))
    assert out.state == "succeeded"
    assert {"job error", "worker lost", "driver killed"} <= set(out.truth.events)
    assert out.truth.wasted_seconds > 0
    assert len(out.records.results(out.sweep)) == 9 * 26, "every epoch is on record once"
    costs, totals = costs_of(out.records, out.sweep), out.records.ledger.totals(out.sweep)
    for parts in (costs.phases, costs.trials, costs.folds):
        assert sum(part.amounts.usd or 0.0 for part in parts) == pytest.approx(totals["spent"].usd), "over all drivers"
    assert costs.retries.usd == pytest.approx(totals["wasted"].usd)


def test_a_pool_whose_nodes_go_all_the_time_ends() -> None:
    spec = sweep()
    assumed = cluster(spec)
    evicted = Cluster(
        Nodes(4, startup_seconds=1.0, evictions_per_hour=200.0), assumed.durations, assumed.failures, assumed.services
    )
    out = Simulation(spec, evicted, 0).play()
    assert out.state == "failed"
    assert "Ray Train restarts its group no more" in (out.reason or "")


@pytest.mark.parametrize(
    ("services", "bottleneck"),
    [
        (Services(trial_seconds=200.0, group_seconds=2.0), "driver"),
        (Services(queue_seconds=2.0, group_seconds=2.0), "queue"),
        (Services(transaction_seconds=0.2, group_seconds=2.0), "database"),
    ],
)
def test_what_there_is_one_of_can_hold_the_rest_up(services: Services, bottleneck: str) -> None:
    spec = sweep(budget={"usd": 1000.0})  # whoever waits for an answer holds a worker, and pays for it
    summed = report(played(spec, nodes=16, services=services), cluster(spec, 16))
    assert summed.bottleneck == bottleneck


@given(
    seed=st.integers(0, 10**6),
    usd=st.floats(0.05, 1.5),
    quantum=st.sampled_from([0.001, 1.0, 60.0]),
    rates=st.tuples(st.sampled_from([0.0, 60.0]), st.sampled_from([0.0, 30.0]), st.sampled_from([0.0, 30.0])),
    late=st.floats(0.0, 8.0),
)
@settings(max_examples=10, deadline=None)
def test_no_budget_is_overrun_within_the_margin(
    seed: int, usd: float, quantum: float, rates: tuple[float, float, float], late: float
) -> None:
    node = {"cpu": 1, "memory_gib": 1, "on_demand_usd_per_hour": 3.6, "billing_quantum_seconds": quantum}
    spec = sweep(prices={"listed": node}, budget={"usd": usd}, search={"trials": 3, "space": SPACE})
    wrong = Failures(rates[0], rates[1], rates[2], skew_seconds=5.0, late_seconds=late)
    out = played(spec, seed, nodes=3, failures=wrong)
    assert out.truth.usd <= usd + 1e-9


def test_a_budget_that_binds_is_the_bottleneck(tmp_path: Path) -> None:
    spec = sweep(budget={"usd": 0.5}, search={"trials": 50, "space": SPACE})
    out = played(spec)
    summed = report(out, cluster(spec))
    assert summed.bottleneck == "budget"
    assert summed.trials < 50
    assert summed.overshoot_usd == 0.0


def test_the_verb_prints_one_document_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(FIELDS))
    arguments = ["simulate", str(path), "--nodes", "3", "--epoch-seconds", "2", "--home", str(tmp_path / "home")]
    assert call([*arguments, "--json", "--trials", "4", "--seed", "5", "--out", str(tmp_path / "out")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "succeeded"
    assert document["trials"] == 4
    assert set(document["utilisation"]) == {"nodes", "queue", "database", "driver"}
    assert document["durations"] == "stated: 2 s an epoch of the configuration"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"simulation.png", "simulation.svg"}
    assert not (tmp_path / "home").exists(), "nothing is recorded"
    assert call([*arguments]) == 0
    assert "bottleneck" in capsys.readouterr().out


def test_a_grid_keeps_its_number_of_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        yaml.safe_dump(FIELDS | {"search": {"algorithm": "grid", "space": {"model.orders.count": {"grid": [8, 16]}}}})
    )
    assert call(["simulate", str(path), "--nodes", "2", "--trials", "5"]) == 2
    assert "--trials" in capsys.readouterr().err
