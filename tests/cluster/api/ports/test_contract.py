"""What every kind of cluster promises, on each of the three: see `duchenne.clusters.port`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duchenne.cli.main import call
from duchenne.clusters import background
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import ENDED, UNITS, Status
from duchenne.spec import Sweep, load_sweep_text

CONTRACT_STATES = {"queued", "running", "succeeded", "failed", "stopped", "exhausted"}
TEXT = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: small, team: faces}
data: {uri: "builtin://toy"}
folds: {count: 2, inner: 2}
budget: {wall_seconds: 3600}
"""


@pytest.fixture
def sweep() -> Sweep:
    return load_sweep_text(TEXT)


def until(statuses: Iterator[Status], state: str) -> list[str]:
    """The states up to that one."""
    seen = []
    for status in statuses:
        seen.append(status.state)
        if status.state == state:
            return seen
    raise AssertionError(f"never {state}: {seen}")


def refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_from_submission_to_the_end(place: Any, sweep: Sweep) -> None:
    port = place.port
    assert all(isinstance(item, dict) for item in port.preview(sweep))
    sweep_id = port.submit(sweep)
    assert sweep_id.startswith("small-")
    statuses = port.watch(sweep_id)
    first = next(statuses)
    assert first.state in ("queued", "starting", "running")
    place.begin(sweep_id)
    if first.state != "running":
        until(statuses, "running")
    (row,) = [row for row in port.sweeps() if row.id == sweep_id]
    assert (row.name, row.team, row.spent_usd) == ("small", "faces", None)
    assert row.state in CONTRACT_STATES
    cost = port.cost(sweep_id)
    assert {"budget", "spent", "reserved", "wasted"} <= set(cost)
    assert all(set(cost[side]) == set(UNITS) for side in ("budget", "spent", "reserved", "wasted"))
    assert cost["budget"] == {"usd": None, "gpu_hours": None, "wall_seconds": 3600}
    refused(lambda: port.resume(sweep_id, Limits()), "must have ended to go on")
    lines = port.logs(sweep_id, follow=True)
    assert any(line == f"sweep: {sweep_id}" for line in lines)
    place.finish(sweep_id)
    assert list(lines)[-1] == f"{sweep_id}: succeeded"  # it goes on to the end
    assert [status.state for status in statuses][-1] == "succeeded"
    assert f"sweep: {sweep_id}" in list(port.logs(sweep_id))


def test_what_is_stopped_goes_on_with_more(place: Any, sweep: Sweep) -> None:
    port = place.port
    sweep_id = port.submit(sweep)
    place.begin(sweep_id)
    until(port.watch(sweep_id), "running")
    port.stop(sweep_id)
    assert [status.state for status in port.watch(sweep_id)][-1] in ("stopped", "gone")
    refused(lambda: port.stop(sweep_id), f"must .* to be stopped, but .*{sweep_id}")
    port.resume(sweep_id, Limits(usd=50), sweep)
    place.begin(sweep_id)
    statuses = port.watch(sweep_id)
    until(statuses, "running")
    assert place.limits_given(sweep_id) == 50
    place.finish(sweep_id)
    assert [status.state for status in statuses][-1] == "succeeded"


def test_a_sweep_that_nobody_knows_is_one_line(place: Any, sweep: Sweep) -> None:
    port = place.port
    for verb in (port.stop, port.cost, lambda name: list(port.logs(name)), lambda name: port.resume(name, Limits())):
        refused(lambda verb=verb: verb("small-000000"), "small-000000")  # type: ignore[misc]


def test_the_verbs_print_one_json_document(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(background, "PROGRAM", (str(tmp_path / "driver"),))
    (tmp_path / "s.yaml").write_text(TEXT)
    text = place.section if "clusters:" in place.section else f"clusters: {{prod: {place.section}}}\n"
    (tmp_path / "c.yaml").write_text(text)
    there = ["--cluster", "prod", "--cluster-file", str(tmp_path / "c.yaml"), "--home", str(place.home)]
    assert call(["submit", str(tmp_path / "s.yaml"), *there]) == 0
    sweep_id = capsys.readouterr().out.splitlines()[0].removeprefix("sweep: ")
    place.begin(sweep_id)
    place.finish(sweep_id)
    assert call(["watch", sweep_id, *there, "--json"]) == 0
    statuses = json.loads(capsys.readouterr().out)
    assert statuses[-1]["state"] == "succeeded"
    assert set(statuses[-1]) == {"at", "state", "detail"}
    assert {status["state"] for status in statuses[:-1]}.isdisjoint(ENDED)
    assert call(["ls", *there, "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["id"] == sweep_id]
    assert set(row) == {"id", "name", "team", "state", "trials", "spent_usd"}
    assert row["state"] == "succeeded"
    assert call(["cost", sweep_id, *there, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["budget"]["wall_seconds"] == 3600
    assert call(["manifests", str(tmp_path / "s.yaml"), *there, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert call(["logs", sweep_id, *there]) == 0
    assert f"sweep: {sweep_id}\n" in capsys.readouterr().out
