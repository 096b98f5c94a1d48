"""One list of metrics: its names follow Prometheus' conventions, and docs, dashboards and rules know no other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from duchenne.monitoring.catalogue import METRICS
from duchenne.monitoring.files import files
from duchenne.monitoring.rules import ALERTS

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm/duchenne"
PAGE = (ROOT / "docs/metrics.md").read_text()


def test_the_page_has_every_metric_and_no_other() -> None:
    rows = re.findall(r"^\| `(duchenne_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [
        (m.name, m.kind, ", ".join(f"`{label}`" for label in m.labels) or "-", m.help)
        for source in ("driver", "records", "server")
        for m in METRICS
        if m.source == source
    ]


def test_the_page_has_every_alert_and_no_other() -> None:
    rows = re.findall(r"^\| `(Duchenne\w+)` \| (\w+) \| `(.*)` (\S+ \S+) \| (\w+) \|$", PAGE, re.MULTILINE)
    assert rows == [(alert.name, alert.severity, alert.query, alert.limit, alert.hold) for alert in ALERTS]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: object) -> None:
    name, kind = metric.name, metric.kind  # type: ignore[attr-defined]
    assert re.fullmatch(r"duchenne_[a-z0-9]+(_[a-z0-9]+)*", name)
    assert name.endswith("_total") == (kind == "counter")
    assert kind != "histogram" or name.endswith("_seconds")
    assert not re.search(r"_(ms|minutes|hours|percent|kb|mb)(_|$)", name), "base units"
    assert len(set(metric.labels)) == len(metric.labels)  # type: ignore[attr-defined]


def test_names_are_distinct() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_what_the_chart_ships_is_up_to_date() -> None:
    shipped = {
        str(path.relative_to(CHART)): path.read_text()
        for folder in ("dashboards", "rules")
        for path in (CHART / folder).iterdir()
    }
    assert shipped == files(), "run `duchenne grafana export helm/duchenne`"


def test_every_metric_is_drawn_or_alerted_and_no_query_asks_for_another() -> None:
    asked = set(re.findall(r"\bduchenne_\w+", "\n".join(text for name, text in files().items())))
    histograms = {metric.name for metric in METRICS if metric.kind == "histogram"}
    names = {re.sub(r"_(bucket|count)$", "", name) if name.startswith(tuple(histograms)) else name for name in asked}
    assert names == {metric.name for metric in METRICS}


@pytest.mark.parametrize("path", sorted((CHART / "dashboards").glob("*.json")), ids=lambda path: path.stem)
def test_a_dashboard_is_one_that_grafana_takes(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == path.stem
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (column, row)
        for panel in panels
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(column for column, _ in cells) < 24
    choices = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= choices
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert all(re.search(rf"\b{label}\b", target["expr"]) for label in labels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed")
def test_rules_fire_when_they_should_and_only_then() -> None:
    folder = Path(__file__).parent
    done = subprocess.run(
        ["promtool", "test", "rules", "rules_test.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = re.findall(r"alertname: (\w+)", (folder / "rules_test.yaml").read_text())
    assert set(tested) == {alert.name for alert in ALERTS}
