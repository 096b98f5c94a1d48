"""What the budget decides about a sweep's steps: whether it starts, and when its search is over."""

from __future__ import annotations

from pathlib import Path

from duchenne.plan.least import BudgetRefused, budget_faults, missing_price
from duchenne.plan.rates import worker_rate
from duchenne.plan.teams import require_room, team_limits
from duchenne.records import Amounts, RecordStore, holder_name
from duchenne.records import Sweep as SweepRecord
from duchenne.records.port import RunRecords
from duchenne.records.rows import FINISHED, SEARCH_CUT
from duchenne.spec import Sweep


def budget_of(sweep: Sweep) -> Amounts:
    """The limits of the file in the ledger's units."""
    hours = sweep.budget.gpu_hours
    return Amounts(
        usd=sweep.budget.usd,
        gpu_seconds=None if hours is None else hours * 3600,
        wall_seconds=sweep.budget.wall_seconds,
    )


def require_prices(sweep: Sweep) -> None:
    """Refuse a limit in dollars on what has no price.

    Raises:
        BudgetRefused: one line with the field's name.
    """
    for fault in missing_price(sweep):
        raise BudgetRefused(fault.located)


def require_team_budget(
    store: RecordStore, sweep: Sweep, home: Path, budget: Amounts, record: SweepRecord | None = None
) -> None:
    """Refuse to start or go on with what the team's month has no room for.

    Raises:
        duchenne.plan.teams.TeamBudgetSpent: one line; nothing has started.
    """
    spent = Amounts() if record is None else store.ledger.totals(record.id)["spent"]
    wanted = Amounts(
        usd=None if budget.usd is None else max(0.0, budget.usd - (spent.usd or 0.0)),
        gpu_seconds=None if budget.gpu_seconds is None else max(0.0, budget.gpu_seconds - (spent.gpu_seconds or 0.0)),
    )
    priced = worker_rate(sweep).usd_per_second > 0
    team = sweep.metadata.team
    require_room(store, team, team_limits(home, team, store.team_budget(team)), wanted, priced)


def too_small(store: RecordStore, record: SweepRecord, sweep: Sweep) -> str | None:
    """Why a sweep that never ran would end without an entry, whatever happens; None where it may not."""
    if store.trials(record.id) or record.budget != budget_of(sweep):
        return None
    return next((f"budget: {fault.located}" for fault in budget_faults(sweep)), None)


def search_was_cut(store: RunRecords, sweep: str) -> bool:
    """Whether an earlier driver closed the search."""
    return any(event.what == SEARCH_CUT for event in store.events(sweep))


def close_search(store: RunRecords, sweep: str, token: str, reason: str) -> bool:
    """End every trial that has not finished as stopped, with the value it reached.

    Returns:
        False where no trial has a value: then nothing is changed, and a larger budget may go on with the search.
    """
    trials = store.trials(sweep)
    if all(trial.value is None for trial in trials):
        return False
    for trial in trials:
        if trial.state not in FINISHED:
            store.stop_fold_jobs(sweep, trial.number, token=token)
            store.set_trial_state(sweep, trial.number, "stopped", token=token)
    finished = sum(trial.state == "succeeded" for trial in trials)
    detail = {"reason": reason, "trials": len(trials), "finished": finished}
    store.record_event(SEARCH_CUT, sweep=sweep, actor=holder_name(), detail=detail)
    return True
