"""The records' metrics: values and labels, how many series there can be, and a database that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from duchenne.monitoring import records as module
from duchenne.monitoring.catalogue import METRICS
from duchenne.monitoring.records import RecordsCollector
from duchenne.records import Amounts, NewSweep, RecordStore, open_home

SERIES_OF_A_SWEEP = 60  # at most; a hundred sweeps make six thousand


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


def new_sweep(store: RecordStore, name: str = "s", team: str = "t", budget: Amounts = Amounts(usd=10.0)) -> str:  # noqa: B008
    sweep = store.create_sweep(
        NewSweep(
            name=name,
            team=team,
            board="b",
            spec={},
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="nowhere",
            budget=budget,
        )
    )
    return sweep.id


def registry_of(store: RecordStore, **bounds: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(RecordsCollector(store, **bounds))  # type: ignore[arg-type]
    return registry


def test_an_empty_database_has_its_own_metrics_and_no_sweep(store: RecordStore) -> None:
    registry = registry_of(store)
    assert registry.get_sample_value("duchenne_records_up") == 1
    assert registry.get_sample_value("duchenne_sweeps", {"state": "running"}) == 0
    assert "sweep=" not in generate_latest(registry).decode()


def test_a_sweep_is_told_with_every_state_and_what_is_unknown_is_not(store: RecordStore) -> None:
    sweep = new_sweep(store)
    store.ledger.reserve(sweep, Amounts(usd=4.0), ttl=60, holder="h", kind="fold_job")
    registry = registry_of(store)
    who = {"sweep": sweep, "team": "t"}
    assert registry.get_sample_value("duchenne_sweep_state", {**who, "state": "queued"}) == 1
    assert registry.get_sample_value("duchenne_sweep_state", {**who, "state": "failed"}) == 0
    assert registry.get_sample_value("duchenne_sweep_attempts_total", {**who, "outcome": "lost"}) == 0
    assert registry.get_sample_value("duchenne_sweep_reserved_usd", who) == 4
    assert registry.get_sample_value("duchenne_sweep_budget_used_ratio", {**who, "limit": "usd"}) == 0.4
    assert registry.get_sample_value("duchenne_sweep_budget_used_ratio", {**who, "limit": "gpu_seconds"}) is None
    assert registry.get_sample_value("duchenne_sweep_spent_gpu_seconds", who) is None
    assert registry.get_sample_value("duchenne_sweep_last_progress_timestamp_seconds", who) is None


def test_names_and_labels_are_the_catalogues(store: RecordStore) -> None:
    sweep = new_sweep(store, budget=Amounts(usd=1.0, gpu_seconds=1.0, wall_seconds=1.0))
    amounts = Amounts(usd=0.1, gpu_seconds=0.1, wall_seconds=0.1)
    store.ledger.reserve(sweep, amounts, ttl=60, holder="h", kind="fold_job")
    store.acquire_lock(sweep, "h", 60)
    store.ensure_team("t")
    store.set_team_budget("t", usd_per_month=1.0, gpu_hours_per_month=1.0, actor="me")
    told = {
        (sample.name, frozenset(sample.labels)) for family in registry_of(store).collect() for sample in family.samples
    }
    assert told == {(metric.name, frozenset(metric.labels)) for metric in METRICS if metric.source == "records"}


def test_the_number_of_series_is_bounded_and_a_label_can_hold_anything(store: RecordStore) -> None:
    for number in range(5):
        new_sweep(store, f"s{number}", team=f'a"b\\\n{number}')
    registry = registry_of(store, max_sweeps=2, max_teams=1)
    lines = generate_latest(registry).decode().splitlines()
    assert len([line for line in lines if "sweep=" in line]) <= 2 * SERIES_OF_A_SWEEP
    assert registry.get_sample_value("duchenne_sweeps_left_out") == 3
    assert all(line.startswith(("#", "duchenne_")) for line in lines)


def test_the_tighter_of_the_records_and_the_file_limits_a_month(store: RecordStore, tmp_path: Path) -> None:
    store.ensure_team("t")
    store.set_team_budget("t", usd_per_month=9.0, gpu_hours_per_month=None, actor="me")
    (tmp_path / "teams.yaml").write_text("t: {usd_per_month: 5, gpu_hours_per_month: 2}\n")
    registry = registry_of(store)
    assert registry.get_sample_value("duchenne_team_month_budget_usd", {"team": "t"}) == 5
    assert registry.get_sample_value("duchenne_team_month_budget_gpu_seconds", {"team": "t"}) == 7200
    (tmp_path / "teams.yaml").write_text("t: {usd: 5}\n")
    assert registry.get_sample_value("duchenne_team_month_budget_usd", {"team": "t"}) == 9, (
        "a broken file is a log line"
    )


def test_scrapes_share_a_reading_for_a_while(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_of(store)
    assert registry.get_sample_value("duchenne_sweeps", {"state": "queued"}) == 0
    new_sweep(store)
    assert registry.get_sample_value("duchenne_sweeps", {"state": "queued"}) == 0
    monkeypatch.setattr(module, "FRESH_SECONDS", -1.0)
    assert registry.get_sample_value("duchenne_sweeps", {"state": "queued"}) == 1


def test_records_that_cannot_be_read_are_told_not_raised(
    store: RecordStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FRESH_SECONDS", -1.0)
    new_sweep(store)
    registry = registry_of(store)
    store.close()
    for path in tmp_path.glob("records.sqlite*"):
        path.unlink()
    (tmp_path / "records.sqlite").write_bytes(b"no database" * 1000)
    assert registry.get_sample_value("duchenne_records_up") == 0
    assert registry.get_sample_value("duchenne_sweeps", {"state": "queued"}) is None
    assert "damaged" in caplog.text
