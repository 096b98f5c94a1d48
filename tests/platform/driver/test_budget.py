"""What the budget decides about a sweep's steps, on real records: refusals before the start, and a search cut short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duchenne.driver import run_sweep
from duchenne.driver.budget import (
    budget_of,
    close_search,
    require_prices,
    require_team_budget,
    search_was_cut,
    too_small,
)
from duchenne.driver.progress import Unobserved
from duchenne.plan import BudgetRefused
from duchenne.plan.teams import TeamBudgetSpent
from duchenne.records import Amounts, FoldJobKey, NewSweep, RecordStore, holder_name, open_home
from duchenne.records import Sweep as SweepRecord
from duchenne.records.rows import SEARCH_CUT
from duchenne.search import select
from duchenne.spec import Sweep


def spec(**sections: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s", "team": "faces"},
            "data": {"uri": "builtin://toy?count=30"},
            "search": {"space": {"training.learning_rate": {"loguniform": [0.001, 0.1]}}, "trials": 4},
            "prices": {"cpu_hour_usd": 3.6},
            "budget": {"usd": 5.0},
            **sections,
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


def record_of(store: RecordStore, sweep: Sweep) -> SweepRecord:
    new = NewSweep(
        name="s",
        team="faces",
        board="b",
        spec={},
        spec_text="",
        spec_digest="",
        dataset_uri="",
        budget=budget_of(sweep),
    )
    return store.create_sweep(new)


def test_a_limit_in_dollars_on_what_has_no_price_starts_nothing(tmp_path: Path) -> None:
    unpriced = spec(prices={})
    with pytest.raises(BudgetRefused, match=r"^prices\.cpu_hour_usd: budget\.usd of 5 needs a price above 0"):
        run_sweep(unpriced, "", tmp_path / "home", Unobserved())
    assert not (tmp_path / "home").exists()
    with pytest.raises(BudgetRefused, match=r"^prices\.gpu_hour_usd: "):
        require_prices(spec(folds={"resources": {"gpu": 1}}, prices={}))
    require_prices(spec(prices={}, budget={"gpu_hours": 1}))


def test_a_sweep_beyond_its_teams_month_is_never_recorded(tmp_path: Path) -> None:
    (tmp_path / "teams.yaml").write_text("faces: {usd_per_month: 4}\n")
    with pytest.raises(TeamBudgetSpent, match=r"^budget\.usd: .* may spend 5 and team faces has 4 of 4 left"):
        run_sweep(spec(), "", tmp_path, Unobserved())
    with open_home(tmp_path) as store:
        assert store.list_sweeps() == []


def test_going_on_asks_for_what_is_left_of_the_budget_alone(store: RecordStore, tmp_path: Path) -> None:
    (tmp_path / "teams.yaml").write_text("faces: {usd_per_month: 5}\n")
    record = record_of(store, spec())
    lease = store.ledger.reserve(record.id, Amounts(usd=3.0), ttl=60, holder="w", kind="fold_job")
    store.ledger.settle(lease.id, Amounts(usd=3.0))  # type: ignore[union-attr]
    require_team_budget(store, spec(), tmp_path, record.budget, record)
    with pytest.raises(TeamBudgetSpent):
        require_team_budget(store, spec(), tmp_path, record.budget)


def test_a_new_sweep_that_can_not_reach_an_entry_ends_before_anything_starts(store: RecordStore) -> None:
    small = spec(budget={"usd": 0.001})
    line = too_small(store, record_of(store, small), small)
    assert line is not None
    assert line.startswith("budget: budget.usd: one trial and its evaluation need at least")
    assert too_small(store, record_of(store, spec()), spec()) is None
    raised = record_of(store, spec())
    assert too_small(store, raised, small) is None, "the budget was raised since"


def test_a_search_that_is_cut_selects_among_what_got_furthest(store: RecordStore) -> None:
    record = record_of(store, spec())
    token = store.acquire_lock(record.id, holder_name(), 60).token
    for number, (state, value) in enumerate([("running", 0.4), ("running", 0.6), ("queued", None)]):
        store.record_trial(record.id, number, {"training.learning_rate": 0.01}, state="queued", token=token)
        store.set_trial_state(record.id, number, state, value=value, rung=1 if value else None, token=token)
    key = FoldJobKey(sweep=record.id, trial=2, phase="search", method="monet", fold=0, inner=0, seed=0)
    store.ensure_fold_jobs([key], token=token)
    assert not search_was_cut(store, record.id)
    assert close_search(store, record.id, token, "budget: no room")
    assert search_was_cut(store, record.id)
    assert {trial.state for trial in store.trials(record.id)} == {"stopped"}
    assert store.fold_jobs(record.id)[0].state == "stopped"
    assert select(spec(), store.trials(record.id), []).trials == (1,)
    (event,) = [event for event in store.events(record.id) if event.what == SEARCH_CUT]
    assert event.detail == {"reason": "budget: no room", "trials": 3, "finished": 0}


def test_a_search_without_a_value_stays_open_for_a_larger_budget(store: RecordStore) -> None:
    record = record_of(store, spec())
    token = store.acquire_lock(record.id, holder_name(), 60).token
    store.record_trial(record.id, 0, {}, token=token)
    assert not close_search(store, record.id, token, "budget: no room")
    assert not search_was_cut(store, record.id)
    assert [trial.state for trial in store.trials(record.id)] == ["queued"]
