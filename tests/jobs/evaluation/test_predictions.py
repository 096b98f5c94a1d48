"""Prediction files: what is written is what is read, or nothing is there."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from duchenne_jobs.evaluation import Predictions, evaluate, read_predictions, write_predictions


def predictions(rows: int = 5, tasks: tuple[str, ...] = ("AU1", "AU2, left", "AU4")) -> Predictions:
    random = np.random.default_rng(0)
    return Predictions(
        tasks=tasks,
        subjects=np.array([f"S{row // 2}" for row in range(rows)], dtype=object),
        sequences=np.array(["T1"] * rows, dtype=object),
        frames=np.arange(rows, dtype=np.int64),
        labels=random.integers(-1, 2, size=(rows, len(tasks))).astype(np.int8),
        probabilities=random.random((rows, len(tasks))).astype(np.float32),
    )


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_round_trip(tmp_path: Path, rows: int) -> None:
    written = predictions(rows)
    path = tmp_path / "deep" / "er" / "p.arrow"
    digest = write_predictions(path, written, {"job": "a job"})
    read = read_predictions(path)
    assert read.tasks == written.tasks
    for name in ("subjects", "sequences", "frames", "labels", "probabilities"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert (read.labels.dtype, read.probabilities.dtype) == (np.int8, np.float32)
    assert digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    with pa.memory_map(str(path)) as source:
        assert pa.ipc.open_file(source).schema.metadata[b"job"] == b"a job"


def test_metrics_come_from_the_rows(tmp_path: Path) -> None:
    written = predictions(40)
    write_predictions(tmp_path / "p.arrow", written, {})
    assert read_predictions(tmp_path / "p.arrow").metrics() == evaluate(written.labels, written.probabilities)


def test_the_same_predictions_give_the_same_digest(tmp_path: Path) -> None:
    digests = {write_predictions(tmp_path / name, predictions(), {"job": "a"}) for name in ("a", "b")}
    digests.add(write_predictions(tmp_path / "a", predictions(), {"job": "a"}))
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_rows_outlive_the_file(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.arrow", predictions(), {})
    read = read_predictions(tmp_path / "p.arrow")
    os.truncate(tmp_path / "p.arrow", 0)
    np.testing.assert_array_equal(read.probabilities, predictions().probabilities)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "p.arrow"
    before = write_predictions(path, predictions(), {})
    beside = tmp_path / f".p.arrow.{os.getpid()}"
    beside.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_predictions(path, predictions(7), {})
    assert caught.value.errno == errno.ENOSPC
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.arrow"]
    assert write_predictions(tmp_path / "again", read_predictions(path), {}) == before


def test_rows_that_do_not_belong_together_are_not_written(tmp_path: Path) -> None:
    good = predictions()
    for bad, message in (
        (replace(good, tasks=good.tasks[:2]), r"labels must be \(rows, tasks\) = \(5, 2\), but got \(5, 3\)"),
        (replace(good, probabilities=good.probabilities[:4]), r"probabilities must be .* = \(5, 3\), but got \(4, 3\)"),
        (replace(good, probabilities=good.probabilities * np.nan), "probabilities must lie in"),
        (replace(good, labels=good.labels + 9), "labels must be -1"),
    ):
        with pytest.raises(ValueError, match=message):
            write_predictions(tmp_path / "bad", bad, {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_prediction_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "p.arrow"
    with pytest.raises(FileNotFoundError):
        read_predictions(path)
    write_predictions(path, predictions(), {})
    whole = path.read_bytes()
    for data in (b"", b"not Arrow at all", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"p\.arrow: a prediction file must be an Arrow IPC file"):
            read_predictions(path)
    table = pa.table({"subject": ["S1"]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"p\.arrow: a prediction file has the columns"):
        read_predictions(path)
