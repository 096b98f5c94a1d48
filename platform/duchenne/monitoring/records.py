"""Metrics of the records: all sweeps and teams, from one reading of the database a scrape."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from duchenne.monitoring import catalogue
from duchenne.monitoring.catalogue import Metric
from duchenne.monitoring.families import Families
from duchenne.plan.teams import team_limits
from duchenne.records import Amounts, RecordsError, RecordStore
from duchenne.records.gauges import Gauges, SweepGauges, TeamGauges, read_gauges
from duchenne.records.rows import JOB_STATES, OUTCOMES, PHASES, SWEEP_STATES, TRIAL_STATES
from duchenne.spec.errors import SpecError

LOGGER = logging.getLogger("duchenne.monitoring")
FRESH_SECONDS: Final = 5.0
"""Scrapes within this time share one reading, however many ask."""

_BY_UNIT: Final[dict[str, tuple[Metric, Metric, Metric]]] = {
    "usd": (catalogue.SPENT_USD, catalogue.RESERVED_USD, catalogue.BUDGET_USD),
    "gpu_seconds": (catalogue.SPENT_GPU, catalogue.RESERVED_GPU, catalogue.BUDGET_GPU),
    "wall_seconds": (catalogue.SPENT_WALL, catalogue.RESERVED_WALL, catalogue.BUDGET_WALL),
}
_OF_MONTH: Final[dict[str, tuple[Metric, Metric, Metric]]] = {
    "usd": (catalogue.MONTH_SPENT_USD, catalogue.MONTH_RESERVED_USD, catalogue.MONTH_BUDGET_USD),
    "gpu_seconds": (catalogue.MONTH_SPENT_GPU, catalogue.MONTH_RESERVED_GPU, catalogue.MONTH_BUDGET_GPU),
}


class RecordsCollector(Collector):
    """Metrics of one database. Records out of reach are told by `duchenne_records_up` 0, never by an error.

    Args:
        home: the folder whose `teams.yaml` limits the month of a team, beside what the records grant; None has none.
        max_sweeps, max_teams: how many are told one by one; the others are counted.
    """

    def __init__(
        self, store: RecordStore, *, home: Path | None = None, max_sweeps: int = 100, max_teams: int = 200
    ) -> None:
        self._store = store
        self._home = home or store.home
        self._most = {"max_sweeps": max_sweeps, "max_teams": max_teams}
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._reading: tuple[Gauges | None, float] = (None, 0.0)

    def describe(self) -> list[Family]:
        """Nothing: registering must not wait for the database."""
        return []

    def collect(self) -> Iterator[Family]:
        """Every family of the catalogue's source `records`."""
        gauges, took = self._read()
        families = Families()
        families.put(catalogue.RECORDS_UP, float(gauges is not None))
        families.put(catalogue.RECORDS_SECONDS, took)
        if gauges is not None:
            for sweep in gauges.sweeps:
                _tell_sweep(families, sweep)
            for team in gauges.teams:
                _tell_team(families, team, self._limits(team))
            for state in SWEEP_STATES:
                families.put(catalogue.SWEEPS, gauges.sweeps_by_state.get(state, 0), state)
            families.put(catalogue.LEFT_OUT, gauges.left_out)
            families.put(catalogue.ENTRIES, gauges.entries)
        return iter(families)

    def _read(self) -> tuple[Gauges | None, float]:
        with self._lock:
            began = time.monotonic()
            if began - self._read_at > FRESH_SECONDS:
                gauges = None
                try:
                    gauges = read_gauges(self._store.database, **self._most)
                except RecordsError as error:
                    LOGGER.warning("metrics: %s", error)
                self._read_at = time.monotonic()
                self._reading = (gauges, self._read_at - began)
            return self._reading

    def _limits(self, team: TeamGauges) -> Amounts:
        """The tighter of what the records and the file grant."""
        filed: Amounts | None = None
        if self._home is not None:
            try:
                filed = team_limits(self._home, team.name)
            except SpecError as error:
                LOGGER.warning("metrics: %s", error)
        if filed is None:
            return team.budget

        def tighter(unit: str) -> float | None:
            limits = (getattr(team.budget, unit), getattr(filed, unit))
            return min((limit for limit in limits if limit is not None), default=None)

        return Amounts(usd=tighter("usd"), gpu_seconds=tighter("gpu_seconds"))


def _tell_sweep(families: Families, sweep: SweepGauges) -> None:
    who = (sweep.id, sweep.team)
    for state in SWEEP_STATES:
        families.put(catalogue.STATE, float(state == sweep.state), *who, state)
    for state in TRIAL_STATES:
        families.put(catalogue.TRIALS, sweep.trials.get(state, 0), *who, state)
    for phase in PHASES:
        for state in JOB_STATES:
            families.put(catalogue.FOLD_JOBS, sweep.fold_jobs.get((phase, state), 0), *who, phase, state)
    for outcome in OUTCOMES:
        families.put(catalogue.ATTEMPTS, sweep.attempts.get(outcome, 0), *who, outcome)
    for unit, metrics in _BY_UNIT.items():
        sides = [getattr(side, unit) for side in (sweep.spent, sweep.reserved, sweep.budget)]
        for metric, value in zip(metrics, sides, strict=True):
            families.put(metric, value, *who)
        spent, reserved, limit = sides
        if limit:
            families.put(catalogue.USED, ((spent or 0.0) + (reserved or 0.0)) / limit, *who, unit)
    families.put(catalogue.OPEN_LEASES, sweep.open_leases, *who)
    families.put(catalogue.EXPIRIES, sweep.lease_expiries, *who)
    families.put(catalogue.UNDELIVERED, sweep.notification_failures, *who)
    families.put(catalogue.PROGRESS, None if sweep.progress_at is None else sweep.progress_at.timestamp(), *who)


def _tell_team(families: Families, team: TeamGauges, limits: Amounts) -> None:
    for unit, metrics in _OF_MONTH.items():
        for metric, side in zip(metrics, (team.spent, team.reserved, limits), strict=True):
            families.put(metric, getattr(side, unit), team.name)
