"""Writing a dataset: shard sizes, a digest that depends on the rows alone, and failures that leave nothing behind."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duchenne_jobs.data import Dataset, DatasetError, DatasetWriter, Description, open_dataset
from duchenne_jobs.data.manifest import MANIFEST_NAME
from duchenne_jobs.data.staging import staging_folder


def test_shards_are_50_to_100_megabytes(tmp_path: Path, description: Description) -> None:
    random = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "big", description) as writer:
        for frame in range(150):
            row = {"subject": "S", "sequence": "T", "frame": frame, "image": random.bytes(10**6)}
            writer.write_rows([{**row, "landmarks": [0.0] * 6, "labels": [0, 1], "intensities": [0, 5]}])
    sizes = [shard.bytes for shard in open_dataset(tmp_path / "big").manifest.shards]
    assert len(sizes) == 3
    assert all(50e6 <= size <= 100e6 for size in sizes[:-1])
    assert sorted(path.name for path in (tmp_path / "big").iterdir()) == [
        MANIFEST_NAME,
        *(f"shard-{index:05d}.arrow" for index in range(3)),
    ]


def test_a_batch_holds_about_a_megabyte(faces: Dataset) -> None:
    for shard in faces.manifest.shards:
        with pa.memory_map(str(Path(faces.uri) / shard.path)) as source:
            reader = pa.ipc.open_file(source)
            sizes = [reader.get_batch(index).nbytes for index in range(reader.num_record_batches)]
        assert max(sizes) < 2**20 + 301_000  # a batch is closed by the row that crosses the line


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 24), max_size=6))
def test_the_digest_depends_on_the_rows_not_on_how_they_came(faces: Dataset, cuts: list[int]) -> None:
    table = faces.rows()
    edges = [0, *sorted(cuts), table.num_rows]
    with DatasetWriter("memory://unused", faces.manifest, keep=False, shard_bytes=2_000_000) as writer:
        for start, stop in pairwise(edges):
            writer.write(table.slice(start, stop - start))
    assert writer.manifest == faces.manifest


def test_another_row_gives_another_digest(tmp_path: Path, description: Description, rows: list[dict[str, Any]]) -> None:
    digests = set()
    for index, changed in enumerate(({}, {"labels": [0, 0]}, {"frame": 99}, {"subject": "S9"}, {"image": None})):
        with DatasetWriter(tmp_path / str(index), description) as writer:
            writer.write_rows([{**rows[5], **changed}])
        digests.add(open_dataset(tmp_path / str(index)).digest)
    assert len(digests) == 5


def test_a_failure_leaves_no_manifest_and_no_shard(
    tmp_path: Path, description: Description, rows: list[dict[str, Any]]
) -> None:
    target = tmp_path / "broken"

    def source_breaks() -> None:
        with DatasetWriter(target, description, shard_bytes=2_000_000) as writer:
            writer.write_rows(rows)
            assert list(target.glob("shard-*.arrow"))  # some were in place already
            raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        source_breaks()
    assert list(target.iterdir()) == []
    with DatasetWriter(target, description) as writer:
        writer.write_rows(rows)
    open_dataset(target).verify()


def test_what_a_killed_writer_left_is_replaced(
    tmp_path: Path, description: Description, rows: list[dict[str, Any]]
) -> None:
    target = tmp_path / "killed"
    (target / ".duchenne-writing-abc").mkdir(parents=True)
    for index in range(3):
        (target / f"shard-{index:05d}.arrow").write_bytes(b"half")
    with DatasetWriter(target, description) as writer:
        writer.write_rows(rows)
    assert [path.name for path in sorted(target.iterdir())] == [MANIFEST_NAME, "shard-00000.arrow"]
    open_dataset(target).verify()


def test_a_destination_in_use_is_refused(faces: Dataset, description: Description, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="already holds a dataset"), DatasetWriter(faces.uri, description):
        pass
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"must be empty for a new dataset, but holds"):
        DatasetWriter(tmp_path, description).__enter__()
    assert (tmp_path / "notes.txt").exists()
    faces.verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 2]}, r"labels must lie in -1\.\.1, but task AU2 of row 0 \(subject S0\) has 2"),
        ({"labels": [0, -2]}, r"labels must lie in -1\.\.1"),
        ({"labels": [0]}, "don't fit the columns|doesn't fit the columns"),
        ({"labels": [0, 300]}, "doesn't fit the columns"),
        ({"labels": None}, "column 'labels' must not be null"),
        ({"labels": [0, None]}, "values inside column 'labels' must not be null, but 1 are"),
        ({"intensities": [6, 0]}, r"intensities must lie in -1\.\.5, but task AU1"),
        ({"landmarks": [0.0] * 5}, "doesn't fit the columns"),
        ({"landmarks": [0.0] * 5 + [None]}, "values inside column 'landmarks' must not be null"),
        ({"subject": ""}, "every row needs a subject"),
        ({"subject": None}, "column 'subject' must not be null"),
        ({"frame": "one"}, "doesn't fit the columns"),
    ],
)
def test_rows_that_break_a_rule(
    tmp_path: Path, description: Description, rows: list[dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message), DatasetWriter(tmp_path / "x", description) as writer:
        writer.write_rows([{**rows[0], **change}])
    assert not (tmp_path / "x" / MANIFEST_NAME).exists()


def test_other_columns_and_no_rows_are_refused(tmp_path: Path, description: Description, toy: Dataset) -> None:
    with (
        pytest.raises(DatasetError, match="rows must have the columns"),
        DatasetWriter(tmp_path / "x", description) as writer,
    ):
        writer.write(toy.rows())
    with (
        pytest.raises(DatasetError, match="needs at least one row"),
        DatasetWriter(tmp_path / "y", description) as writer,
    ):
        writer.write(pa.table({name: [] for name in writer.schema.names}, schema=writer.schema))


FULL = """
import resource, sys
from duchenne_jobs.data import DatasetError, DatasetWriter, ingest
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # every file ends there, as on a full disk
try:
    ingest("yeast", None, sys.argv[1])
except DatasetError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_ends_with_one_line_and_nothing_behind(tmp_path: Path, run_python: Any) -> None:
    done = run_python(FULL, str(tmp_path / "yeast"))
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.count("\n") == 1
    assert "cannot write" in done.stdout
    assert "free some space or choose another place, then run the same command again" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, description: Description) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DatasetError, match="Not a directory"):
        DatasetWriter(tmp_path / "file" / "x", description).__enter__()


def test_staging_folders_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    (tmp_path / ".work-dead").mkdir()
    (tmp_path / ".work-dead" / "file").write_text("x", encoding="utf-8")
    (tmp_path / ".other").mkdir()
    with staging_folder(tmp_path, ".work-") as first, staging_folder(tmp_path, ".work-") as second:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".other", first.name, second.name])
    assert os.listdir(tmp_path) == [".other"]  # noqa: PTH208
