"""Reading a dataset: round trip, and every kind of damage refused in one line before a row comes out."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

from duchenne_jobs.data import Dataset, DatasetError, DatasetWriter, Description, open_dataset
from duchenne_jobs.data.digest import canonical_digest, file_digest
from duchenne_jobs.data.manifest import MANIFEST_NAME


def shard_file(dataset: Dataset, index: int = 0) -> Path:
    return Path(dataset.uri) / dataset.manifest.shards[index].path


def edit_manifest(dataset: Dataset, change: Callable[[dict[str, Any]], None], *, sign: bool = True) -> None:
    """Change the manifest on disk; `sign` recomputes the digest, as whoever fakes a manifest would."""
    path = Path(dataset.uri) / MANIFEST_NAME
    fields = json.loads(path.read_text(encoding="utf-8"))
    change(fields)
    if sign:
        fields["digest"] = canonical_digest({key: value for key, value in fields.items() if key != "digest"})
    path.write_text(json.dumps(fields), encoding="utf-8")


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(DatasetError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_was_written_comes_back_in_order(faces: Dataset, rows: list[dict[str, Any]]) -> None:
    assert len(faces.manifest.shards) >= 3
    assert faces.rows().to_pylist() == rows
    assert (faces.row_count, faces.tasks, faces.subjects) == (24, ("AU1", "AU2"), ("S0", "S1", "S2", "S3"))
    faces.verify()


def test_rows_takes_columns_and_subjects(faces: Dataset, rows: list[dict[str, Any]]) -> None:
    table = faces.rows(["frame", "subject"], ["S3", "S1"])
    assert table.column_names == ["frame", "subject"]
    expected = [{"frame": row["frame"], "subject": row["subject"]} for row in rows if row["subject"] in ("S1", "S3")]
    assert table.to_pylist() == expected
    assert faces.rows(["labels"], []).num_rows == 0
    assert faces.rows(["labels"], []).schema.equals(faces.rows(["labels"]).schema)


def test_an_unknown_column_or_subject_is_named(faces: Dataset) -> None:
    assert "has no column 'label'; it has subject, sequence, frame" in refusal(lambda: faces.rows(["label"]))
    assert "has no subject 'S9'" in refusal(lambda: faces.rows(subjects=["S1", "S9"]))


def test_only_the_shards_of_the_wanted_subjects_are_opened(faces: Dataset) -> None:
    shards = faces.manifest.shards
    last = next(index for index, shard in enumerate(shards) if "S0" not in shard.subjects)
    shard_file(faces, last).unlink()
    assert faces.rows(["frame"], ["S0"]).num_rows == 6
    assert "is missing, but the manifest lists it" in refusal(faces.rows)


def test_label_counts_keep_unknown_apart(faces: Dataset, rows: list[dict[str, Any]]) -> None:
    for index, task in enumerate(faces.tasks):
        column = [row["labels"][index] for row in rows]
        assert faces.label_counts()[task] == {value: column.count(value) for value in (-1, 0, 1)}
    assert faces.label_counts()["AU2"][-1] == 4


def test_other_readers_open_the_shards(faces: Dataset, rows: list[dict[str, Any]]) -> None:
    files = [str(path) for path in sorted(Path(faces.uri).glob("*.arrow"))]
    table = pyarrow.dataset.dataset(files, format="ipc").to_table()
    assert table.schema.equals(faces.rows().schema)
    assert table.to_pylist() == rows


def test_rows_are_memory_mapped(toy: Dataset) -> None:
    before = pa.total_allocated_bytes()
    table = toy.rows(["features"])
    assert pa.total_allocated_bytes() - before < table.nbytes / 4
    assert np.isfinite(table["features"].combine_chunks().flatten().to_numpy()).all()


def test_a_dataset_travels_to_another_process(faces: Dataset) -> None:
    copy = pickle.loads(pickle.dumps(faces))  # noqa: S301
    assert copy == faces
    assert copy.rows().equals(faces.rows())


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_byte_is_refused_before_a_row_comes_out(faces: Dataset, place: str) -> None:
    file = shard_file(faces, 1)
    data = bytearray(file.read_bytes())
    position = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[place]
    data[position] ^= 1
    file.write_bytes(data)
    for action in (faces.rows, faces.label_counts, faces.verify):
        message = refusal(action)
        assert str(file) in message
        assert f"expected {faces.manifest.shards[1].sha256}, saw {file_digest(file)}" in message
        assert "restore it from a copy, or remove the dataset and ingest it again" in message


def test_a_shard_that_is_damaged_after_its_first_use_is_noticed(toy: Dataset) -> None:
    toy.rows()
    file = shard_file(toy)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(1, 1))  # any other modification time
    assert "is damaged" in refusal(toy.rows)


def test_verify_hashes_again_even_when_size_and_time_are_the_same(toy: Dataset) -> None:
    toy.rows()
    file = shard_file(toy)
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "is damaged" in refusal(toy.verify)


def test_a_truncated_shard_says_both_sizes(toy: Dataset) -> None:
    file = shard_file(toy)
    size = file.stat().st_size
    os.truncate(file, size - 10)
    assert f"expected {size} bytes, saw {size - 10}" in refusal(toy.rows)
    os.truncate(file, 0)
    assert f"expected {size} bytes, saw 0" in refusal(toy.rows)


def test_nothing_there_names_the_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = (
        f"no dataset at {tmp_path / 'gone'}; make one with `duchenne data ingest NAME SOURCE {tmp_path / 'gone'}`"
    )
    assert refusal(lambda: open_dataset("gone")) == expected
    assert refusal(lambda: open_dataset(f"file://{tmp_path}/gone")) == expected


def test_a_half_written_dataset_has_no_manifest(faces: Dataset) -> None:
    (Path(faces.uri) / MANIFEST_NAME).unlink()
    assert "files but no manifest.json: it is half-written or no dataset; remove it" in refusal(
        lambda: open_dataset(faces.uri)
    )


def test_a_file_is_no_dataset(faces: Dataset) -> None:
    assert "is a file, but a dataset is a folder" in refusal(lambda: open_dataset(shard_file(faces)))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://bucket/x", "the scheme is 'gs'"),
        ("s3://", "names no bucket; write s3://bucket/prefix"),
        ("builtin://yeast", "call materialise"),
        ("file://host/x", "names the host 'host'; write file:///absolute/path"),
    ],
)
def test_other_places_are_refused(uri: str, message: str) -> None:
    assert message in refusal(lambda: open_dataset(uri))


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_an_unknown_schema_version(toy: Dataset, version: object) -> None:
    edit_manifest(toy, lambda fields: fields.update(schema_version=version))
    assert f"has schema version {version!r}, but this program reads version 1" in refusal(lambda: open_dataset(toy.uri))


def test_an_edited_manifest_gives_itself_away(toy: Dataset) -> None:
    edit_manifest(toy, lambda fields: fields.update(licence="anything goes"), sign=False)
    message = refusal(lambda: open_dataset(toy.uri))
    assert f"its digest is {toy.digest}, but its contents give sha256:" in message


@pytest.mark.parametrize(
    "path",
    [
        "../secret.arrow",
        "/etc/secret.arrow",
        "a/../../secret.arrow",
        "",
        "..",
        "a\\b.arrow",
        "c:x.arrow",
        "manifest.json",
    ],
)
def test_a_shard_cannot_leave_the_dataset(toy: Dataset, path: str) -> None:
    edit_manifest(toy, lambda fields: fields["shards"][0].update(path=path))
    message = refusal(lambda: open_dataset(toy.uri))
    assert f"shards.0.path: a shard's path must stay inside the dataset and end in .arrow, but got {path!r}" in message


def test_a_link_cannot_leave_the_dataset_either(toy: Dataset, tmp_path: Path) -> None:
    file = shard_file(toy)
    outside = tmp_path / "outside.arrow"
    file.rename(outside)
    file.symlink_to(outside)
    assert f"leads to {outside}, outside the dataset" in refusal(toy.rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.update(row_count=7), "hold 200 rows of 200 subjects, but the manifest says 7 rows"),
        (lambda fields: fields.update(subject_count=7), "but the manifest says 200 rows of 7 subjects"),
        (lambda fields: fields.update(tasks=["a", "a", "b"]), "names must be unique, but 'a' comes twice"),
        (lambda fields: fields.update(columns=["labels", "subject"]), "in that order"),
        (lambda fields: fields.update(feature_names=None), "column 'features' and its description"),
        (lambda fields: fields.update(shards=[]), "shards:"),
        (lambda fields: fields.update(surprise=1), "surprise:"),
        (lambda fields: fields.pop("licence"), "licence:"),
    ],
)
def test_a_manifest_that_contradicts_itself(
    toy: Dataset, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit_manifest(toy, change)
    assert message in refusal(lambda: open_dataset(toy.uri))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_a_manifest_that_is_none(toy: Dataset, text: str) -> None:
    path = Path(toy.uri) / MANIFEST_NAME
    path.write_bytes(text.encode(errors="surrogateescape"))
    message = refusal(lambda: open_dataset(toy.uri))
    assert str(path) in message


def resigned(dataset: Dataset, table: pa.Table, **shard: object) -> Dataset:
    """The dataset with its first shard replaced by `table`, and a manifest that vouches for its bytes."""
    file = shard_file(dataset)
    with pa.ipc.new_file(str(file), table.schema) as sink:
        sink.write_table(table)

    def change(fields: dict[str, Any]) -> None:
        fields["shards"][0].update(bytes=file.stat().st_size, sha256=file_digest(file), **shard)

    edit_manifest(dataset, change)
    return open_dataset(dataset.uri)


def test_verify_looks_into_shards_whose_checksum_is_right(toy: Dataset) -> None:
    table = toy.rows()
    copy = table.take(list(range(200)))

    def with_labels(values: np.ndarray[Any, Any]) -> pa.Table:
        column = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.int8()), type=table.schema.field("labels").type)
        return copy.set_column(1, table.schema.field("labels"), column)

    labels = np.zeros(600, np.int8)
    labels[7] = 9
    message = refusal(resigned(toy, with_labels(labels)).verify)
    assert "labels must lie in -1..1, but task task2 of row 2 (subject row-0002) has 9" in message
    assert "expected 200 rows, saw 199" in refusal(resigned(toy, copy.slice(0, 199)).verify)
    assert "expected the columns subject: string" in refusal(resigned(toy, copy.drop_columns("features")).verify)
    renamed = copy.set_column(0, table.schema.field("subject"), pa.array([f"x-{index}" for index in range(200)]))
    assert "subject 'row-0000' is only in the manifest" in refusal(resigned(toy, renamed).verify)


def test_verify_reports_a_shard_that_only_other_tools_would_read(faces: Dataset) -> None:
    (Path(faces.uri) / "extra.arrow").write_bytes(shard_file(faces).read_bytes())
    assert "extra.arrow is not in the manifest, yet other tools would read it" in refusal(faces.verify)


def test_verify_tells_how_far_it_is(faces: Dataset) -> None:
    calls: list[tuple[int, int]] = []
    faces.verify(lambda done, total: calls.append((done, total)))
    total = sum(shard.bytes for shard in faces.manifest.shards)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (total, total)


def test_a_folder_in_the_place_of_a_shard(faces: Dataset) -> None:
    file = shard_file(faces)
    file.unlink()
    file.mkdir()
    assert f"{file} is damaged: expected {faces.manifest.shards[0].bytes} bytes" in refusal(faces.rows)


def test_the_smallest_dataset(tmp_path: Path) -> None:
    described = Description(name="one", tasks=("t",), columns=("subject", "labels"), licence="none", consent="none")
    with DatasetWriter(tmp_path / "one", described) as writer:
        writer.write_rows([{"subject": "s", "labels": [-1]}])
    dataset = open_dataset(tmp_path / "one")
    dataset.verify()
    assert dataset.label_counts() == {"t": {-1: 1, 0: 0, 1: 0}}
