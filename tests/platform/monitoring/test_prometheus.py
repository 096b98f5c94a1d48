"""A real Prometheus scrapes a real small sweep and a server; every query of every dashboard and rule has data there."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from duchenne.monitoring.asgi import TOKEN_VARIABLE
from duchenne.monitoring.catalogue import METRICS
from duchenne.monitoring.rules import ALERTS
from duchenne.records import open_home
from duchenne.records.gauges import NOTIFICATION_FAILED
from duchenne.server.app import create_app
from duchenne.server.settings import Settings

CHART = Path(__file__).parents[3] / "helm/duchenne"
TOKEN = "a-token-of-the-test"  # noqa: S105
SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: scraped, team: tests}
data: {uri: "builtin://faces?like=disfa&subjects=4&frames=8&seed=0&size=64&noise=0"}
model: {name: vmnc, encoder: {name: conv, layers: 1, width: 8, stride: 32}, hidden_size: 8}
training: {epochs: 2, batch_size: 8}
search: {space: {training.learning_rate: {grid: [0.01, 0.001]}}, algorithm: grid, metric: accuracy}
folds: {count: 2, inner: 2, without_positives: train}
seeds: 1
budget: {usd: 5, gpu_hours: 1, wall_seconds: 600}
prices: {cpu_hour_usd: 3.6}
notify: [ops, broken]
"""
# What `duchenne run` does, less the figures at its end; it ends when the file `seen` is there, or after two minutes.
DRIVE = """\
import sys, time
from pathlib import Path
from duchenne.driver import run_sweep
from duchenne.driver.progress import Unobserved
from duchenne.spec import load_sweep

path, home, seen = map(Path, sys.argv[1:])

class Patient(Unobserved):
    def ended(self):
        end = time.monotonic() + 120
        while not seen.exists() and time.monotonic() < end:
            time.sleep(0.1)

end = run_sweep(load_sweep(path), path.read_text(), home, Patient())
sys.exit(end.state != "succeeded" and end.reason)
"""

pytestmark = [
    pytest.mark.service,
    pytest.mark.timeout(600),  # on a machine that others use, a sweep takes minutes
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus (Debian's package) is not installed"),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(what: str, seconds: float, answer: Any) -> Any:
    """The first answer that is not None; a failure of the test after that many seconds without one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = answer()
        if found is not None:
            return found
        time.sleep(0.3)
    pytest.fail(f"{what}: not within {seconds} s")


@dataclass(frozen=True)
class Prometheus:
    """The server, and the moment (Unix time) at which everything was up; what the sweep's webhook heard."""

    url: str
    at: float = 0.0
    home: Path = Path()
    heard: tuple[dict[str, Any], ...] = ()

    def get(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}{path}", params=parameters, trust_env=False, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def values(self, query: str) -> list[float]:
        found = self.get("/api/v1/query", query=query, **({"time": self.at} if self.at else {}))
        assert found["resultType"] == "vector"
        return [float(series["value"][1]) for series in found["result"]]


@contextmanager
def server(home: Path, port: int) -> Iterator[None]:
    """What `duchenne serve` serves, in a thread."""
    with open_home(home) as store:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(TOKEN_VARIABLE, TOKEN)
            app = create_app(store, Settings.from_environment(home))
        running = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            running.should_exit = True
            thread.join(10)


@contextmanager
def prometheus(folder: Path, jobs: dict[str, dict[str, Any]]) -> Iterator[Prometheus]:
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(CHART / "rules/duchenne.yaml")],
        "scrape_configs": [{"job_name": name, **options} for name, options in jobs.items()],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = ["prometheus", "--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "db")]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--web.listen-address", f"127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until("Prometheus is ready", 20, lambda: _ready(url))
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Takes messages at `/ops`, and nothing elsewhere."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/ops":
                heard.append(json.loads(body))
            self.send_response(204 if self.path == "/ops" else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", heard
    finally:
        running.shutdown()
        running.server_close()
        thread.join(10)


def _ready(url: str) -> bool | None:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200 or None
    except httpx.TransportError:
        return None


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has watched a whole sweep."""
    folder = tmp_path_factory.mktemp("scraped")
    home = folder / "home"
    home.mkdir()
    (home / "teams.yaml").write_text("tests: {usd_per_month: 50, gpu_hours_per_month: 5}\n")
    (folder / "sweep.yaml").write_text(SWEEP)
    driver, web = free_port(), free_port()
    targets: dict[str, dict[str, Any]] = {
        "driver": {"static_configs": [{"targets": [f"127.0.0.1:{driver}"]}]},
        "server": {
            "static_configs": [{"targets": [f"127.0.0.1:{web}"]}],
            "authorization": {"credentials": TOKEN},
        },
    }
    command = [sys.executable, "-c", DRIVE, str(folder / "sweep.yaml"), str(home), str(folder / "seen")]
    with (
        server(home, web),
        receiver() as (hooks, heard),
        prometheus(folder, targets) as watching,
        (folder / "driver.log").open("wb") as log,
    ):
        environment = os.environ | {
            "DUCHENNE_METRICS_PORT": str(driver),
            "DUCHENNE_WEBHOOK_OPS_URL": f"{hooks}/ops",
            "DUCHENNE_WEBHOOK_BROKEN_URL": f"{hooks}/broken",
        }
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            at = until("both evaluations are scraped", 360, lambda: _seen(watching, running))
            (folder / "seen").touch()
            assert running.wait(120) == 0, (folder / "driver.log").read_text()
        finally:
            running.kill()
        yield Prometheus(watching.url, at, home, tuple(heard))


def _seen(watching: Prometheus, running: subprocess.Popen[bytes]) -> float | None:
    """When the last fold job was scraped, from the driver and from the records, and what workers tell now and then."""
    assert running.poll() is None, "the driver ended before its time: see driver.log"
    told = (
        watching.values('duchenne_fold_jobs_ended_total{phase="evaluation", outcome="succeeded"}'),
        watching.values('duchenne_sweep_fold_jobs{phase="evaluation", state="succeeded"}'),
    )
    images = watching.values("duchenne_stream_images_total")
    return time.time() if told == ([2], [2]) and sum(images) > 0 else None


def filled(query: str) -> str:
    """A dashboard's query with its choices made: everything, over five minutes."""
    return query.replace("$team", ".*").replace("$sweep", ".*").replace("$__rate_interval", "5m")


def dashboard_queries() -> list[Any]:
    found = []
    for path in sorted((CHART / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                found.append(pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}"))
    return found


@pytest.mark.parametrize("query", dashboard_queries())
def test_a_query_of_a_dashboard_has_data(scraped: Prometheus, query: str) -> None:
    values = scraped.values(filled(query))
    assert values, query
    assert not any(math.isnan(value) for value in values), (query, values)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_what_a_rule_looks_at_has_data_and_a_healthy_sweep_pages_nobody(scraped: Prometheus, alert: Any) -> None:
    assert scraped.values(alert.query), alert.query
    assert scraped.values(alert.expr) == []


def test_prometheus_evaluates_every_rule(scraped: Prometheus) -> None:
    (group,) = scraped.get("/api/v1/rules")["groups"]
    assert [(rule["name"], rule["health"], rule["state"]) for rule in group["rules"]] == [
        (alert.name, "ok", "inactive") for alert in ALERTS
    ]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_of_the_catalogue_is_scraped(scraped: Prometheus, metric: Any) -> None:
    name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
    (series, *_) = scraped.get("/api/v1/query", query=name, time=scraped.at)["result"]
    assert set(series["metric"]) - {"__name__", "job", "instance"} == set(metric.labels)
    assert series["metric"]["job"] == ("driver" if metric.source == "driver" else "server")


def test_no_metric_is_scraped_that_the_catalogue_lacks(scraped: Prometheus) -> None:
    names = {name for name in scraped.get("/api/v1/label/__name__/values") if name.startswith("duchenne_")}
    known = {metric.name for metric in METRICS}
    histograms = {metric.name for metric in METRICS if metric.kind == "histogram"}
    assert {re.sub(r"_(bucket|count|sum|created)$", "", name) if any(name.startswith(h) for h in histograms) else name
            for name in names} == known  # fmt: skip


def test_the_choices_of_the_dashboards_offer_the_sweep(scraped: Prometheus) -> None:
    for path in (CHART / "dashboards").glob("*.json"):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
                assert found is not None
                values = scraped.get(f"/api/v1/label/{found[2]}/values", **{"match[]": filled(found[1])})
                assert values, variable["query"]


def test_what_was_scraped_is_what_happened(scraped: Prometheus) -> None:
    """Figures of the sweep file: 2 trials x 4 inner folds of 2 epochs, 2 evaluations of the selected configuration."""
    assert scraped.values('duchenne_sweep_trials{state="succeeded"}') == [2]
    assert scraped.values('duchenne_fold_jobs_ended_total{phase="search", outcome="succeeded"}') == [8]
    assert scraped.values('duchenne_epochs_total{phase="search"}') == [16]
    assert scraped.values('duchenne_fold_job_duration_seconds_count{phase="evaluation"}') == [2]
    assert scraped.values("sum(duchenne_pool_workers)")[0] >= 1
    assert 0 < scraped.values("duchenne_sweep_spent_usd")[0] < 5
    assert scraped.values("duchenne_team_month_budget_usd") == [50]
    assert scraped.values("duchenne_stream_images_total")[0] > 0
    assert scraped.values("sum(duchenne_fold_job_retries_total) + sum(duchenne_s3_errors_total)") == [0]


def test_webhooks_were_told_and_a_broken_one_changed_nothing(scraped: Prometheus) -> None:
    best, end = scraped.heard
    assert (best["event"], end["event"]) == ("new_best", "succeeded")
    assert best["detail"]["before"] is None
    assert end["sweep"]["team"] == "tests"
    assert 0 < end["detail"]["spent_usd"] < 5
    with open_home(scraped.home) as store:
        (sweep,) = store.list_sweeps()
        failures = [event.detail for event in store.events(sweep.id) if event.what == NOTIFICATION_FAILED]
    assert sweep.state == "succeeded"
    assert [(failure["webhook"], failure["event"], failure["reason"]) for failure in failures] == [
        ("broken", "new_best", "answered 404"),
        ("broken", "succeeded", "answered 404"),
    ]
