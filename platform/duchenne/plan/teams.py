"""What a team may spend in a month, over all its sweeps: `teams.yaml` in the home."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, RootModel, model_validator

from duchenne.records import Amounts, RecordStore
from duchenne.spec.located import load_model
from duchenne.spec.sections import PositiveAmount, Slug
from duchenne_jobs.config import Config

TEAMS_NAME = "teams.yaml"
TEAMS_VARIABLE = "DUCHENNE_TEAMS_FILE"  # the submitter's limits, beside the spec, where a cluster runs the driver


class TeamBudgetSpent(Exception):  # noqa: N818 - reads as the fact it states
    """The team's month has no room for the sweep; the message is one line."""


class TeamBudget(Config):
    """Limits of a calendar month (UTC)."""

    usd_per_month: PositiveAmount | None = Field(None, description="US dollars a month; null for no limit.")
    gpu_hours_per_month: PositiveAmount | None = Field(None, description="GPU-hours a month; null for no limit.")

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.usd_per_month is None and self.gpu_hours_per_month is None:
            raise ValueError("a team must have a limit, but got none; set usd_per_month or gpu_hours_per_month")
        return self

    @property
    def amounts(self) -> Amounts:
        """The limits in the ledger's units."""
        hours = self.gpu_hours_per_month
        return Amounts(usd=self.usd_per_month, gpu_seconds=None if hours is None else hours * 3600)


class _Teams(RootModel[Annotated[dict[Slug, TeamBudget], Field()]]):
    """`team: {usd_per_month, gpu_hours_per_month}` for each team that has limits."""


def team_budget(path: Path, team: str) -> TeamBudget | None:
    """What a file of teams grants `team`; None without the file, or where it doesn't name the team.

    Raises:
        duchenne.spec.SpecError: the file is wrong, one line a problem.
    """
    if not path.exists():
        return None
    return load_model(path, _Teams, "write `team: {usd_per_month: 100}`").root.get(team)


def team_limits(home: Path, team: str, recorded: Amounts | None = None) -> Amounts | None:
    """The month's limits of `team`: the tightest of HOME's, the records' (`RecordStore.team_budget`) and, on a cluster,
    the submitter's; None where none has any.

    Raises:
        duchenne.spec.SpecError: a file is wrong, one line a problem.
    """
    shipped = os.environ.get(TEAMS_VARIABLE)
    paths = [home / TEAMS_NAME, *([Path(shipped)] if shipped else [])]
    found = [budget.amounts for path in paths if (budget := team_budget(path, team)) is not None]
    found += [recorded] if recorded is not None else []
    if not found:
        return None
    usd = [amounts.usd for amounts in found if amounts.usd is not None]
    gpu_seconds = [amounts.gpu_seconds for amounts in found if amounts.gpu_seconds is not None]
    return Amounts(usd=min(usd, default=None), gpu_seconds=min(gpu_seconds, default=None))


def require_room(
    store: RecordStore, team: str, limits: Amounts | None, wanted: Amounts, priced: bool, now: datetime | None = None
) -> None:
    """Refuse a sweep that could take more than its team has left this month.

    Args:
        limits: see `team_limits`.
        wanted: the most that the sweep may still spend; None where it has no limit of its own: then its leases are
            refused when the month's limit is reached.
        priced: whether its dollars are known.

    Raises:
        TeamBudgetSpent: it does not fit.
    """
    if limits is None:
        return
    if limits.usd is not None and not priced:
        raise TeamBudgetSpent(
            f"prices: team {team} has {limits.usd:g} USD a month, so that its sweeps need a price, but got none; "
            "set prices.cpu_hour_usd, or name a node type of a price file"
        )
    month = store.ledger.month(team, now)
    for unit, field, scale in (("usd", "usd", 1.0), ("gpu_seconds", "gpu_hours", 3600.0)):
        limit, most = getattr(limits, unit), getattr(wanted, unit)
        if limit is None:
            continue
        left = limit - sum(getattr(side, unit) or 0.0 for side in month.values())
        if left <= 0 or (most is not None and most > left):
            asks = "no limit" if most is None else f"{most / scale:g}"
            raise TeamBudgetSpent(
                f"budget.{field}: a sweep must fit what its team has left of the month, but it may spend {asks} and "
                f"team {team} has {max(left, 0.0) / scale:g} of {limit / scale:g} left; lower it, raise {TEAMS_NAME}, "
                "or wait for the next month"
            )
