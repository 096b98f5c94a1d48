"""The ranking of a board from records and files, and what is refused a rank."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from duchenne.boards import bootstrap_f1, rank, read_counts, verify
from duchenne.records import Entry, RecordStore
from duchenne_jobs.evaluation import Predictions, write_predictions

MakeEntry = Callable[..., Entry]
TASKS = ("AU1", "AU2")


@pytest.fixture
def make_files(make_predictions: Callable[..., Predictions]) -> Callable[..., dict[tuple[int, int], Predictions]]:
    """make_files(skill, draw) -> predictions of two folds and two seeds; labels are always the same."""

    def make(skill: float, draw: int, seeds: int = 2) -> dict[tuple[int, int], Predictions]:
        labels_from = np.random.default_rng(0)
        generator = np.random.default_rng(draw)
        files = {}
        for fold in range(2):
            subjects = [f"f{fold}s{index % 12:02d}" for index in range(240)]
            labels = labels_from.integers(0, 2, (240, 2))
            for seed in range(seeds):
                right = generator.random((240, 2)) < skill
                probabilities = np.where(right == (labels == 1), 0.8, 0.2)
                files[fold, seed] = make_predictions(subjects, labels, probabilities, TASKS)
        return files

    return make


MakeFiles = Callable[..., dict[tuple[int, int], Predictions]]


def test_a_board_is_ranked_by_what_the_files_say(
    store: RecordStore, tmp_path: Path, make_entry: MakeEntry, make_files: MakeFiles
) -> None:
    best = make_entry("best", make_files(0.95, 1), metrics={"log_loss": 0.3, "auc_macro": 0.9})
    twins = [make_entry(name, make_files(0.6, draw)) for name, draw in (("twin", 2), ("other", 3))]
    rows = rank(store, "b")
    assert rows[0].entry == best.id
    assert {row.entry for row in rows[1:]} == {twin.id for twin in twins}
    assert [(row.rank_low, row.rank_high) for row in rows] == [(1, 1), (2, 3), (2, 3)]
    assert [row.f1_mean for row in rows] == sorted((row.f1_mean for row in rows), reverse=True)  # type: ignore[type-var]
    counts = read_counts(best.predictions, tmp_path)
    assert rows[0].f1_mean == bootstrap_f1(counts).mean
    assert (rows[0].verified, rows[0].log_loss, rows[0].auc, rows[0].accuracy) == ("verified", 0.3, 0.9, None)
    assert (rows[0].subjects, rows[0].seeds, rows[0].group, rows[0].cost_usd, rows[0].trials) == (24, 2, 1, 1.5, 3)
    assert [task.task for task in rows[0].tasks] == ["AU1", "AU2"]
    assert rank(store, "b") == rows, "the same board, the same draws"
    assert rank(store, "empty") == []


def test_a_row_has_the_shape_of_the_contract(store: RecordStore, make_entry: MakeEntry, make_files: MakeFiles) -> None:
    make_entry("monet", make_files(0.8, 1))
    (row,) = rank(store, "b", resamples=50)
    shown = json.loads(json.dumps(dataclasses.asdict(row), allow_nan=False))
    contract = "entry method rank_low rank_high f1_mean ci_low ci_high verified cost_usd trials"
    assert " ".join(shown).startswith(contract)
    assert (shown["rank_low"], shown["rank_high"]) == (1, 1)


def test_entries_on_other_data_or_labels_are_not_compared(
    store: RecordStore, make_entry: MakeEntry, make_files: MakeFiles, make_predictions: Callable[..., Predictions]
) -> None:
    make_entry("here", make_files(0.6, 1))
    make_entry("elsewhere", make_files(0.95, 2), dataset="sha256:other")
    flipped = make_files(0.6, 3)
    flipped = {key: dataclasses.replace(file, labels=1 - file.labels) for key, file in flipped.items()}
    make_entry("relabelled", flipped)
    rows = rank(store, "b", resamples=50)
    assert len({row.group for row in rows}) == 3
    assert next(row for row in rows if row.method == "elsewhere").group == 1
    assert {(row.rank_low, row.rank_high) for row in rows} == {(1, 1)}


def test_changed_files_and_false_numbers_are_rejected(
    store: RecordStore, tmp_path: Path, make_entry: MakeEntry, make_files: MakeFiles
) -> None:
    make_entry("honest", make_files(0.7, 1))
    changed = make_entry("changed", make_files(0.7, 2), metrics={"log_loss": 0.1})
    make_entry("boast", make_files(0.7, 3), metrics={"f1_macro": 0.99})
    write_predictions(tmp_path / changed.predictions[0].path, make_files(0.99, 4)[0, 0], {})
    rows = {row.method: row for row in rank(store, "b", resamples=50)}
    assert rows["honest"].verified == "verified"
    assert (rows["honest"].rank_low, rows["honest"].rank_high) == (1, 1), "rejected entries take no rank from others"
    for name, note in (("changed", "must stay as it was recorded"), ("boast", "f1_macro is 0.99")):
        row = rows[name]
        assert (row.verified, row.f1_mean, row.rank_low, row.log_loss) == ("rejected", None, None, None)
        assert note in (row.note or "")
    assert next(iter(rows)) == "honest"


def test_entries_on_withdrawn_data_say_so(store: RecordStore, make_entry: MakeEntry, make_files: MakeFiles) -> None:
    make_entry("kept", make_files(0.9, 1))
    make_entry("left", make_files(0.8, 2), dataset="sha256:withdrawn")
    store.withdraw_dataset("sha256:withdrawn", replaced_by="sha256:next", actor="ann")
    notes = {row.method: (row.verified, row.note) for row in rank(store, "b", resamples=50)}
    assert notes == {
        "kept": ("verified", None),
        "left": ("verified", "its data was withdrawn: a subject was forgotten"),
    }


def test_missing_files_and_published_numbers_have_no_rank(
    store: RecordStore, tmp_path: Path, make_entry: MakeEntry, make_files: MakeFiles
) -> None:
    gone = make_entry("gone", make_files(0.7, 1), metrics={"f1_macro": 0.7})
    make_entry("paper", {}, metrics={"f1_macro": 0.671}, verified="published")
    (tmp_path / gone.predictions[0].path).unlink()
    rows = rank(store, "b")
    assert [(row.method, row.verified, row.f1_mean) for row in rows] == [
        ("gone", "missing", 0.7),
        ("paper", "published", 0.671),
    ]
    assert {row.rank_low for row in rows} == {row.ci_low for row in rows} == {row.group for row in rows} == {None}


def test_an_entry_is_verified_by_computing_every_metric_again(
    tmp_path: Path, make_entry: MakeEntry, make_files: MakeFiles
) -> None:
    files = make_files(0.7, 1)
    entry = make_entry("monet", files)
    found = verify({}, entry.predictions, tmp_path)
    by_hand = np.mean([np.mean([files[fold, seed].metrics()["log_loss"] for seed in (0, 1)]) for fold in (0, 1)])
    assert (found.status, found.reason) == ("verified", None)
    assert found.metrics["log_loss"] == pytest.approx(by_hand)
    assert verify(dict(found.metrics), entry.predictions, tmp_path).status == "verified"
    assert verify({"note": 3.0}, entry.predictions, tmp_path).status == "verified"
    for name in found.metrics:
        false = verify({**found.metrics, name: 0.123}, entry.predictions, tmp_path)
        assert false.status == "rejected"
        assert name in (false.reason or "")
    assert verify({"auc_macro": None}, entry.predictions, tmp_path).status == "rejected"
    assert verify({}, (), tmp_path).status == "missing"
    path = tmp_path / entry.predictions[0].path
    write_predictions(path, make_files(0.9, 5)[0, 0], {})
    assert verify({}, entry.predictions, tmp_path).status == "rejected"
    path.unlink()
    assert verify({}, entry.predictions, tmp_path).status == "missing"


def test_importing_the_leaderboard_is_light() -> None:
    heavy = ("torch", "ray", "pandas", "scipy", "sklearn", "matplotlib", "pyarrow")
    code = f"import sys, duchenne.boards; print([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]"
