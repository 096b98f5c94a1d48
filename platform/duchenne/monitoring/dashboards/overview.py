"""All sweeps at a glance: what runs, what it has used of its budget, what stands still."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from duchenne.monitoring import catalogue as metrics
from duchenne.monitoring.dashboards.panels import bars, board, lines, number
from duchenne.monitoring.queries import TEAM, of_records, since_progress

UID: Final = "duchenne-overview"


def dashboard() -> Dashboard:
    """The overview."""
    trials = f"sum by (state) ({of_records(metrics.TRIALS, TEAM)})"
    return (
        board(UID, "Duchenne: sweeps", "Every sweep that is active or ended within a day.", sweeps=False)
        .with_panel(number("Running", "none", (of_records(metrics.SWEEPS, 'state="running"'), "running")))
        .with_panel(number("Queued", "none", (of_records(metrics.SWEEPS, 'state="queued"'), "queued")))
        .with_panel(number("Entries on the boards", "none", (of_records(metrics.ENTRIES), "entries")))
        .with_panel(number("Not shown one by one", "none", (of_records(metrics.LEFT_OUT), "left out")))
        .with_panel(
            bars(
                "Budget used",
                "percentunit",
                (of_records(metrics.USED, TEAM), "{{sweep}} {{limit}}"),
                most=1,
                description="Spent and reserved, over each limit that is set. No sweep gets past 100 %.",
            )
        )
        .with_panel(
            lines("Since the last epoch or fold job", "s", (since_progress(TEAM), "{{sweep}}"), description="Running.")
        )
        .with_panel(lines("Trials", "none", (trials, "{{state}}")))
        .with_panel(lines("Sweeps on record", "none", (of_records(metrics.SWEEPS), "{{state}}")))
        .with_panel(lines("Expired leases", "none", (of_records(metrics.EXPIRIES, TEAM), "{{sweep}}")))
        .with_panel(lines("Notifications not delivered", "none", (of_records(metrics.UNDELIVERED, TEAM), "{{sweep}}")))
    )
