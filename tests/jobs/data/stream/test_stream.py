"""The stream over real JPEGs: pixels, resuming, elasticity, the decoded cache, what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import duchenne_jobs.data
from duchenne_jobs.data import Dataset, DatasetError, DatasetWriter, Description, forget_subject, open_dataset
from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.faces.decoding import NO_CLASS
from duchenne_jobs.data.stream import FaceBatch, FaceStream

FACES = 234  # of 240 rows


def rows_of(batches: list[FaceBatch]) -> list[int]:
    return [row for batch in batches for row in batch.rows.tolist()]


def kept(stream: FaceStream, steps: int) -> list[FaceBatch]:
    """The first steps of an epoch, which is left then."""
    batches = []
    iterator = iter(stream)
    for _ in range(steps):
        batches.append(next(iterator))
    iterator.close()  # type: ignore[attr-defined]
    return batches


def test_pixels_labels_and_landmarks_are_those_of_the_rows(jpegs: Dataset, rows_of_jpegs: list[dict[str, Any]]) -> None:
    assert len(jpegs.manifest.shards) > 3
    batches = list(FaceStream(jpegs, columns=("image", "landmarks"), batch_size=50))
    assert len(set(rows_of(batches))) == FACES
    for batch in batches:
        assert batch.landmarks is not None
        for index, row in enumerate(batch.rows.tolist()):
            data = np.frombuffer(rows_of_jpegs[row]["image"], np.uint8)
            expected = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
            assert np.array_equal(batch.images[index].permute(1, 2, 0).numpy(), expected)  # type: ignore[union-attr]
            assert batch.labels[index].tolist() == rows_of_jpegs[row]["labels"]
            assert batch.landmarks[index].flatten().tolist() == rows_of_jpegs[row]["landmarks"]


def test_resizing_moves_landmarks_along(jpegs: Dataset) -> None:
    batch = next(iter(FaceStream(jpegs, columns=("image", "landmarks"), size=(48, 32), window=None)))
    assert batch.images.shape == (64, 3, 48, 32)  # type: ignore[union-attr]
    assert batch.landmarks is not None
    assert batch.landmarks[0, 0].tolist() == pytest.approx([10.5 * 32 / 128 - 0.5, 20.5 * 48 / 128 - 0.5])


def test_bytes_are_the_stored_ones(jpegs: Dataset, rows_of_jpegs: list[dict[str, Any]]) -> None:
    for batch in FaceStream(jpegs, cache="bytes"):
        assert batch.images == [rows_of_jpegs[row]["image"] for row in batch.rows.tolist()]


@pytest.mark.parametrize("cache", ["encoded", "decoded"])
def test_resuming_in_the_middle_gives_the_very_same_batches(jpegs: Dataset, cache: Any) -> None:
    options: dict[str, Any] = {"batch_size": 20, "seed": 4, "cache": cache}
    stream = FaceStream(jpegs, **options)
    list(stream)
    whole = list(stream)
    again = FaceStream(jpegs, **options)
    again.set_epoch(1)
    kept(again, 5)
    state = json.loads(json.dumps(again.state_dict()))
    resumed = FaceStream(jpegs, **options)
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert rows_of(rest) == rows_of(whole[5:])
    assert all(torch.equal(one.images, other.images) for one, other in zip(rest, whole[5:], strict=True))  # type: ignore[arg-type]
    assert resumed.epoch == 2


def test_two_workers_then_three_then_one_see_each_row_once(jpegs: Dataset) -> None:
    seen: list[int] = []
    state: dict[str, Any] | None = None
    for world, steps in ((2, 3), (3, 2), (1, 10**3)):
        streams = [FaceStream(jpegs, batch_size=16, rank=rank, world=world, cache="bytes") for rank in range(world)]
        for stream in streams:
            if state is not None:
                stream.load_state_dict(state)
        if world > 1:
            batches = [kept(stream, steps) for stream in streams]
            assert len({json.dumps(stream.state_dict()) for stream in streams}) == 1
            state = streams[0].state_dict()
        else:
            batches = [list(streams[0])]
        seen += [row for part in batches for row in rows_of(part)]
    assert len(seen) == len(set(seen)) == FACES


@pytest.mark.parametrize("processes", [0, 2])
def test_a_data_loader_takes_it_as_it_is(jpegs: Dataset, processes: int) -> None:
    stream = FaceStream(jpegs, batch_size=32)
    loaded = list(DataLoader(stream, batch_size=None, num_workers=processes))
    assert rows_of(loaded) == rows_of(list(FaceStream(jpegs, batch_size=32)))


def test_batches_that_are_kept_are_not_written_to_again(jpegs: Dataset) -> None:
    batches = list(FaceStream(jpegs, batch_size=4))
    assert len(batches) > 50
    later = FaceStream(jpegs, batch_size=4)
    assert all(torch.equal(batch.images, again.images) for batch, again in zip(batches, later, strict=True))  # type: ignore[arg-type]


def test_a_face_without_landmarks_or_a_map_stays(
    jpegs: Dataset, tmp_path: Path, rows_of_jpegs: list[dict[str, Any]]
) -> None:
    ids = cv2.imencode(".png", np.full((128, 128), 3, np.uint8))[1].tobytes()
    rows = [row | {"parsing": None if number % 3 == 0 else ids} for number, row in enumerate(rows_of_jpegs[:40])]
    for row in rows[::5]:
        row["landmarks"] = None
    columns = ("subject", "sequence", "frame", "image", "landmarks", "parsing", "labels")
    fields = jpegs.manifest.model_dump(include=set(Description.model_fields))
    description = Description(**fields | {"columns": columns, "parsing_classes": ("a", "b", "c", "d")})
    with DatasetWriter(tmp_path / "some", description) as writer:
        writer.write_rows(rows)
    dataset = open_dataset(tmp_path / "some", cache=ShardCache(tmp_path / "cache"))
    for cache in ("encoded", "decoded"):
        stream = FaceStream(dataset, columns=("image", "landmarks", "parsing"), cache=cache, batch_size=100)  # type: ignore[arg-type]
        (batch,) = stream
        numbers = batch.rows
        assert sorted(numbers.tolist()) == [number for number in range(40) if rows[number]["image"] is not None]
        assert batch.landmarks is not None
        assert batch.parsing is not None
        assert torch.equal(torch.isnan(batch.landmarks).all((1, 2)), numbers % 5 == 0)
        assert torch.equal((batch.parsing == NO_CLASS).all((1, 2)), numbers % 3 == 0)
        assert torch.equal((batch.parsing == 3).all((1, 2)), numbers % 3 != 0)


def test_only_rows_of_the_subjects_asked_for(jpegs: Dataset, rows_of_jpegs: list[dict[str, Any]]) -> None:
    rows = rows_of(list(FaceStream(jpegs, subjects={"S1", "S3"}, cache="bytes")))
    expected = [
        number
        for number, row in enumerate(rows_of_jpegs)
        if row["subject"] in ("S1", "S3") and row["image"] is not None
    ]
    assert sorted(rows) == expected


def test_the_decoded_cache_is_an_arrow_file_that_forgetting_purges(jpegs: Dataset, tmp_path: Path) -> None:
    first = {
        row: image
        for batch in FaceStream(jpegs, cache="decoded")
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True)
    }
    names = {path.name for path in (tmp_path / "cache").iterdir()}
    assert names == {f"{shard.sha256.removeprefix('sha256:')}-128x128.arrow" for shard in jpegs.manifest.shards}
    for batch in FaceStream(jpegs, cache="encoded"):
        for row, image in zip(batch.rows.tolist(), batch.images, strict=True):
            assert torch.equal(image, first[row])
    os.environ["DUCHENNE_CACHE"] = str(tmp_path / "cache")
    try:
        assert forget_subject(jpegs.uri, "S2").purged >= len(names)
    finally:
        del os.environ["DUCHENNE_CACHE"]
    assert not list((tmp_path / "cache").iterdir())


def test_a_decoded_cache_without_room_decodes_each_time(
    jpegs: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, small_disk: Path
) -> None:
    stream = FaceStream(open_dataset(jpegs.uri, cache=ShardCache(small_disk)), cache="decoded")
    assert len(rows_of(list(stream))) == FACES
    assert "no room in" in caplog.text


def test_a_truncated_jpeg_is_named(tmp_path: Path, jpegs: Dataset, rows_of_jpegs: list[dict[str, Any]]) -> None:
    broken = [dict(row) for row in rows_of_jpegs[:20]]
    broken[5]["image"] = broken[5]["image"][:-400]
    with DatasetWriter(tmp_path / "broken", jpegs.manifest) as writer:
        writer.write_rows(broken)
    dataset = open_dataset(tmp_path / "broken", cache=ShardCache(tmp_path / "cache"))
    for cache in ("encoded", "decoded"):
        with pytest.raises(DatasetError, match=r"shard-00000\.arrow, row 5: Premature end of JPEG file; ingest"):
            list(FaceStream(dataset, cache=cache))  # type: ignore[arg-type]
        others = FaceStream(dataset, cache=cache, subjects={"S1", "S2"})  # type: ignore[arg-type]
        assert sorted(rows_of(list(others))) == [1, 2, 6, 11, 12, 16, 17], "only who wants the row is told"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ("image", "parsing")}, "'parsing' was asked for"),
        ({"columns": ("landmarks",)}, "a stream is one of images"),
        ({"subjects": {"S9"}}, "has no subject 'S9'"),
        ({"cache": "gpu"}, "cache must be encoded, decoded or bytes"),
        ({"rank": 2, "world": 2}, "0 <= rank < world must hold, but got rank 2 and world 2"),
        ({"rank": 1}, "rank and world go together"),
        ({"batch_size": 0}, "batch_size >= 1"),
    ],
)
def test_what_a_stream_refuses(jpegs: Dataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        FaceStream(jpegs, **options)


def test_a_state_of_another_order_is_refused(jpegs: Dataset) -> None:
    state = FaceStream(jpegs, seed=1).state_dict()
    with pytest.raises(DatasetError, match="seed must be 2, but the state has 1"):
        FaceStream(jpegs, seed=2).load_state_dict(state)


def test_naming_the_package_costs_no_torch(run_python: Callable[..., CompletedProcess[str]]) -> None:
    code = (
        "import sys, duchenne_jobs.data.stream, duchenne_jobs.data.cache\n"
        "assert 'FaceStream' in dir(duchenne_jobs.data)\n"
        "assert not {'torch', 'ray', 'botocore', 'tenacity', 'cv2'} & set(sys.modules)"
    )
    assert run_python(code).returncode == 0
    assert duchenne_jobs.data.FaceStream is FaceStream
