"""The server and the money: how fast requests are answered, whether the records can be read, what teams spend."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from duchenne.monitoring import catalogue as metrics
from duchenne.monitoring.dashboards.panels import WINDOW, bars, board, lines, number
from duchenne.monitoring.queries import TEAM, of_records, quantile

UID: Final = "duchenne-server"


def dashboard() -> Dashboard:
    """Server and spend."""
    count = f"{metrics.REQUESTS.name}_count"
    month = (metrics.MONTH_SPENT_USD, metrics.MONTH_RESERVED_USD, metrics.MONTH_BUDGET_USD)
    spent, reserved, limit = (of_records(metric, TEAM) for metric in month)
    sides = zip((spent, reserved, limit), ("spent", "reserved", "limit"), strict=True)
    gpu = (metrics.MONTH_SPENT_GPU, metrics.MONTH_RESERVED_GPU, metrics.MONTH_BUDGET_GPU)
    return (
        board(UID, "Duchenne: server and spend", "Requests, records, and the month of each team.", sweeps=False)
        .with_panel(number("Records can be read", "bool_yes_no", (f"min ({metrics.RECORDS_UP.name})", "readable")))
        .with_panel(number("Reading them takes", "s", (of_records(metrics.RECORDS_SECONDS), "seconds")))
        .with_panel(number("Requests in progress", "none", (f"sum ({metrics.IN_PROGRESS.name})", "now")))
        .with_panel(number("Requests", "reqps", (f"sum (rate({count}[{WINDOW}]))", "a second")))
        .with_panel(
            lines(
                "Time to answer",
                "s",
                (quantile(metrics.REQUESTS, 0.5, "", WINDOW, "route"), "{{route}} median"),
                (quantile(metrics.REQUESTS, 0.99, "", WINDOW, "route"), "{{route}} 99 %"),
            )
        )
        .with_panel(lines("Answers", "reqps", (f"sum by (status) (rate({count}[{WINDOW}]))", "{{status}}")))
        .with_panel(
            bars(
                "Month used",
                "percentunit",
                (f"({spent} + {reserved}) / {limit}", "{{team}}"),
                most=1,
                description="Teams with a limit in dollars.",
            )
        )
        .with_panel(
            lines("Dollars this month", "currencyUSD", *((query, f"{{{{team}}}} {name}") for query, name in sides))
        )
        .with_panel(
            lines(
                "GPU time this month",
                "s",
                *(
                    (of_records(metric, TEAM), f"{{{{team}}}} {name}")
                    for metric, name in zip(gpu, ("spent", "reserved", "limit"), strict=True)
                ),
            )
        )
        .with_panel(
            lines(
                "Dollars of sweeps",
                "currencyUSD",
                (f"sum by (team) ({of_records(metrics.SPENT_USD, TEAM)})", "{{team}}"),
                description="Of those that are active or ended within a day.",
            )
        )
    )
