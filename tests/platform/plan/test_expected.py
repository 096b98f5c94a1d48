"""`plan` learns from the jobs of a home: here those of a sweep that was played on a virtual clock into its records."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from duchenne.cli.main import call
from duchenne.plan.history import learned_here, stated_for
from duchenne.records import RecordStore
from duchenne.records.database import Database
from duchenne.records.migrate import migrate
from duchenne.simulation.cluster import cluster_of
from duchenne.simulation.sweep import Simulation
from duchenne.spec import Sweep, load_sweep_text

FIELDS: dict[str, Any] = {
    "apiVersion": "duchenne/v1",
    "kind": "Sweep",
    "metadata": {"name": "past"},
    "data": {"uri": "builtin://yeast"},
    "training": {"epochs": 6},
    "search": {"trials": 12, "space": {"model.orders.count": {"choice": [8, 32, 128]}}},
    "comparators": ["vmnc"],
    "folds": {"count": 2, "inner": 2},
    "seeds": 1,
    "prices": {"cpu_hour_usd": 3.6},
    "budget": {"usd": 100.0},
}


class Counted(RecordStore):
    def made(self) -> int:
        return 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a sweep whose epochs took 2 s at 32 orders, and as STATED says at others."""
    folder = tmp_path_factory.mktemp("home")
    spec: Sweep = load_sweep_text(yaml.safe_dump(FIELDS))
    model = stated_for(spec, 2.0)
    assert model is not None

    def records(clock: Callable[[], datetime]) -> Counted:
        store = Counted(Database(folder / "records.sqlite", clock=clock))
        migrate(store.database)
        return store

    out = Simulation(spec, cluster_of(spec, model, 4), 0, records).play()
    assert out.state == "succeeded"
    return folder


def test_a_home_without_records_teaches_nothing_and_is_left_alone(tmp_path: Path) -> None:
    assert learned_here(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_plan_says_what_it_expects_with_an_interval(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(FIELDS))
    before = (home / "records.sqlite").stat().st_mtime_ns
    assert call(["plan", str(path), "--home", str(home), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["expected"]
    assert "learned from" in expected["learned_from"]
    assert expected["level"] == 0.8
    assert 0 < expected["low"]["usd"] <= expected["usd"] <= expected["high"]["usd"]
    model = learned_here(home)
    spec = load_sweep_text(yaml.safe_dump(FIELDS))
    # 48 jobs of the search of 6 epochs of about 2 s, 2 of the evaluation on twice the rows, 2 of vmnc.
    assert expected["usd"] == pytest.approx(0.001 * (48 * 12 + 2 * 24), rel=0.4)
    assert model is not None
    assert spec.base.model.orders.count == 32
    assert (home / "records.sqlite").stat().st_mtime_ns == before, "a plan writes nothing"
    assert call(["plan", str(path), "--home", str(home)]) == 0
    assert "80% of sweeps like this one" in capsys.readouterr().out


def test_stated_seconds_win_over_what_was_learned(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(FIELDS))
    assert call(["plan", str(path), "--home", str(home), "--epoch-seconds", "20", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["expected"]
    assert expected["learned_from"] == "stated: 20 s an epoch of the configuration"
    assert "low" not in expected
    assert expected["usd"] > 4.0
