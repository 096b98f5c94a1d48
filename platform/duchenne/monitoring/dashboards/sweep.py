"""One sweep: how far it is, what it spent, how long its fold jobs take, what was run again."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard

from duchenne.monitoring import catalogue as metrics
from duchenne.monitoring.catalogue import Metric
from duchenne.monitoring.dashboards.panels import WINDOW, Query, bars, board, lines
from duchenne.monitoring.queries import SWEEP, of_records, quantile, rate

UID: Final = "duchenne-sweep"


def dashboard() -> Dashboard:
    """One sweep, or several of the choice side by side."""
    made = (
        board(UID, "Duchenne: one sweep", "Trials, fold jobs, spend and progress of the chosen sweeps.", sweeps=True)
        .with_panel(lines("Trials", "none", (of_records(metrics.TRIALS, SWEEP), "{{sweep}} {{state}}")))
        .with_panel(lines("Fold jobs", "none", (of_records(metrics.FOLD_JOBS, SWEEP), "{{sweep}} {{phase}} {{state}}")))
        .with_panel(
            bars(
                "Budget used", "percentunit", (of_records(metrics.USED, SWEEP), "{{sweep}} {{limit}}"), most=1, width=6
            )
        )
        .with_panel(_money("Dollars", "currencyUSD", metrics.SPENT_USD, metrics.RESERVED_USD, metrics.BUDGET_USD))
        .with_panel(_money("GPU time", "s", metrics.SPENT_GPU, metrics.RESERVED_GPU, metrics.BUDGET_GPU))
        .with_panel(_money("Wall time", "s", metrics.SPENT_WALL, metrics.RESERVED_WALL, metrics.BUDGET_WALL))
        .with_panel(
            lines(
                "Fold jobs: worker-seconds",
                "s",
                *(_seconds(q, name) for q, name in ((0.5, "median"), (0.95, "95 %"))),
                description="Of the attempt that ended each.",
            )
        )
        .with_panel(
            lines("Epochs", "none", (rate(metrics.EPOCHS, SWEEP, WINDOW, "sweep", "phase"), "{{sweep}} {{phase}}/s"))
        )
        .with_panel(
            lines(
                "Run again",
                "none",
                (f"sum by (sweep, cause) ({metrics.RETRIES.name}{{{SWEEP}}})", "{{sweep}} {{cause}}"),
                description="`code`: the job raised; `eviction`: its worker or node went; `group`: another's death.",
            )
        )
        .with_panel(
            lines(
                "Fold jobs ended",
                "none",
                (f"sum by (sweep, phase, outcome) ({metrics.JOBS_ENDED.name}{{{SWEEP}}})", "{{phase}} {{outcome}}"),
            )
        )
    )
    return made.with_panel(
        lines("Attempts", "none", (of_records(metrics.ATTEMPTS, SWEEP), "{{sweep}} {{outcome}}"))
    ).with_panel(lines("Open leases", "none", (of_records(metrics.OPEN_LEASES, SWEEP), "{{sweep}}")))


def _money(title: str, unit: str, spent: Metric, reserved: Metric, budget: Metric) -> timeseries.Panel:
    sides = (("spent", spent), ("reserved", reserved), ("limit", budget))
    return lines(title, unit, *((of_records(side, SWEEP), f"{{{{sweep}}}} {name}") for name, side in sides), width=6)


def _seconds(q: float, name: str) -> Query:
    return quantile(metrics.JOB_SECONDS, q, SWEEP, WINDOW, "sweep", "phase"), f"{{{{sweep}}}} {{{{phase}}}} {name}"
