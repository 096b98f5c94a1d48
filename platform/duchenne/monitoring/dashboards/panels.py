"""The kinds of panels that the dashboards are made of. Widths are in Grafana's columns, 24 a row."""

from __future__ import annotations

from typing import Final, TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh, VariableSort

from duchenne.monitoring.catalogue import STATE

Query: TypeAlias = tuple[str, str]
"""(PromQL, legend); the legend's {{label}} are filled in by Grafana."""

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
WINDOW: Final = "$__rate_interval"
HEIGHT: Final = 8


def board(uid: str, title: str, description: str, *, sweeps: bool) -> Dashboard:
    """An empty dashboard with its choices: a data source, teams and, with `sweeps`, sweeps."""
    made = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["duchenne"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("datasource").type("prometheus").label("Data source"))
        .with_variable(_choice("team", "Team", f"label_values({STATE.name}, team)"))
    )
    if sweeps:
        made = made.with_variable(_choice("sweep", "Sweep", f'label_values({STATE.name}{{team=~"$team"}}, sweep)'))
    return made


def lines(title: str, unit: str, *queries: Query, width: int = 12, description: str = "") -> timeseries.Panel:
    """Values over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .datasource(SOURCE)
        .span(width)
        .height(HEIGHT)
        .legend(common.VizLegendOptions().placement(LegendPlacement.BOTTOM).show_legend(True))
    )
    for target in _targets(queries):
        panel = panel.with_target(target)
    return panel


def number(title: str, unit: str, *queries: Query, width: int = 6, description: str = "") -> stat.Panel:
    """The value now, large."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(width)
        .height(HEIGHT // 2)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.NONE)
    )
    for target in _targets(queries):
        panel = panel.with_target(target.instant())
    return panel


def bars(title: str, unit: str, *queries: Query, most: float, width: int = 12, description: str = "") -> bargauge.Panel:
    """A bar a series, up to `most`."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .max(most)
        .datasource(SOURCE)
        .span(width)
        .height(HEIGHT)
    )
    for target in _targets(queries):
        panel = panel.with_target(target.instant())
    return panel


def _targets(queries: tuple[Query, ...]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + index)).datasource(SOURCE)
        for index, (expr, legend) in enumerate(queries)
    ]


def _choice(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )
