"""Pieces of PromQL that dashboards and rules share.

Several servers may tell the same records: their series differ in `instance` alone, so `of_records` takes one of them.
"""

from __future__ import annotations

from typing import Final

from duchenne.monitoring.catalogue import PROGRESS, STATE, Metric

TEAM: Final = 'team=~"$team"'
SWEEP: Final = 'team=~"$team",sweep=~"$sweep"'


def of_records(metric: Metric, which: str = "") -> str:
    """The series of a metric of the records, each once."""
    by = f" by ({', '.join(metric.labels)})" if metric.labels else ""
    return f"max{by} ({metric.name}{{{which}}})" if which else f"max{by} ({metric.name})"


def while_running(query: str) -> str:
    """Those series of `query` whose sweep is running now."""
    return f'{query} and on (sweep) (max by (sweep) ({STATE.name}{{state="running"}}) == 1)'


def since_progress(which: str = "") -> str:
    """Seconds since a running sweep got further."""
    return while_running(f"(time() - {of_records(PROGRESS, which)})")


def rate(metric: Metric, which: str, window: str, *by: str) -> str:
    """What a counter grows by in a second, summed over what `by` does not name."""
    return f"sum by ({', '.join(by)}) (rate({metric.name}{{{which}}}[{window}]))"


def quantile(metric: Metric, q: float, which: str, window: str, *by: str) -> str:
    """A quantile of a histogram's recent values."""
    grouped = ", ".join(("le", *by))
    return f"histogram_quantile({q:g}, sum by ({grouped}) (rate({metric.name}_bucket{{{which}}}[{window}])))"
