"""What pages somebody: alert rules for Prometheus, as code; `duchenne grafana export` writes them into the chart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from duchenne.monitoring import catalogue as metrics
from duchenne.monitoring.queries import of_records, since_progress, while_running

GROUP: Final = "duchenne"


@dataclass(frozen=True)
class Alert:
    """One rule.

    Attributes:
        query: what is looked at; it has a value as long as there is something to look at.
        limit: the comparison that makes it an alert.
        hold: how long it must be so.
        summary, action: what is so, and what to do; Prometheus fills in the labels.
    """

    name: str
    query: str
    limit: str
    hold: str
    severity: Literal["warning", "critical"]
    summary: str
    action: str

    @property
    def expr(self) -> str:
        """The rule's expression."""
        return f"({self.query}) {self.limit}"

    def as_rule(self) -> dict[str, Any]:
        """The rule as Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.hold,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.action},
        }


_WHO: Final = "{{ $labels.sweep }} (team {{ $labels.team }})"

ALERTS: Final[tuple[Alert, ...]] = (
    Alert(
        "DuchenneBudgetAlmostUsed",
        while_running(of_records(metrics.USED)),
        ">= 0.8",
        "0m",
        "warning",
        f"{_WHO} has used {{{{ $value | humanizePercentage }}}} of its limit of {{{{ $labels.limit }}}}",
        "It ends by itself at 100 %, with the best so far entered. For more, stop it and resume it with a new limit.",
    ),
    Alert(
        "DuchenneTeamBudgetAlmostUsed",
        f"({of_records(metrics.MONTH_SPENT_USD)} + {of_records(metrics.MONTH_RESERVED_USD)})"
        f" / {of_records(metrics.MONTH_BUDGET_USD)}",
        ">= 0.8",
        "0m",
        "warning",
        "Team {{ $labels.team }} has used {{ $value | humanizePercentage }} of its month",
        "At 100 % its sweeps get no more leases. Raise the team's limit, or stop a sweep.",
    ),
    Alert(
        "DuchenneNoProgress",
        since_progress(),
        ">= 900",
        "0m",
        "critical",
        f"{_WHO} runs, but has filed nothing for {{{{ $value | humanizeDuration }}}}",
        "Look at `duchenne show ID` and the driver's log. A driver that is gone leaves its sweep to `duchenne resume`.",
    ),
    Alert(
        "DuchenneLeaseExpired",
        f"max by (sweep, team) (increase({metrics.EXPIRIES.name}[15m]))",
        "> 0",
        "0m",
        "warning",
        f"A lease of {_WHO} ran out unsettled: its holder vanished, and it counts in full",
        "Look for a driver or a node that died, at `duchenne show ID`. A resumed sweep goes on without loss.",
    ),
    Alert(
        "DuchenneS3Errors",
        f"sum by (sweep, team) (rate({metrics.S3_ERRORS.name}[5m]))",
        "> 0.1",
        "5m",
        "warning",
        f"{_WHO} sees {{{{ $value | humanize }}}} S3 errors a second",
        "Transfers are tried again for five minutes each. Look at their kind: `denied` is keys or throttling.",
    ),
    Alert(
        "DuchenneGpuIdle",
        f'sum by (sweep, team) ({metrics.GPUS.name}{{state="idle"}})',
        "> 0",
        "10m",
        "warning",
        f"{_WHO} holds {{{{ $value | humanize }}}} GPUs that have had no fold job for ten minutes",
        "Too few trials run at once, or rungs wait for the slowest fold: fewer workers would do.",
    ),
    Alert(
        "DuchenneRecordsUnreadable",
        f"min ({metrics.RECORDS_UP.name})",
        "< 1",
        "2m",
        "critical",
        "A server can't read the records",
        "Its log says why. Sweeps end as failed when their drivers can't write either; resume them then.",
    ),
)


def rules() -> dict[str, Any]:
    """The rule file."""
    return {"groups": [{"name": GROUP, "rules": [alert.as_rule() for alert in ALERTS]}]}
