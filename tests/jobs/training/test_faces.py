"""Faces from shards to batches: decoded once within a bound, read ahead, at the size that a network takes."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from duchenne_jobs.config import AugmentationConfig
from duchenne_jobs.data import Dataset, DatasetError, open_dataset
from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.faces.decoding import NO_CLASS, decode_face, decode_parsing, pixel_size
from duchenne_jobs.data.faces.images import MAX_IMAGE_PIXELS
from duchenne_jobs.data.stream import pixels as pixels_module
from duchenne_jobs.models import DataDescription
from duchenne_jobs.models.priors import ClassShares, mono_centres, prior_heatmap
from duchenne_jobs.training.augmentation import Augmentation
from duchenne_jobs.training.batches import Batches, as_floats
from duchenne_jobs.training.faces import FaceRows, FaceStore
from duchenne_jobs.training.split import Rows

Write = Callable[..., Dataset]
ALL = ("image", "landmarks", "parsing")
FACE_CLASSES = ("background", "skin", "l_eye", "r_eye")  # of write_faces
ROW_BYTES = 32 * 40 * 4


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def stored_pixels(dataset: Dataset, column: str, row: int) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(dataset.rows([column])[column][row].as_py())))


def rows_of(store: FaceStore, numbers: list[int]) -> Rows:
    count = len(numbers)
    return Rows(
        inputs=FaceRows(store, np.array(numbers)),
        labels=torch.zeros(count, 2, dtype=torch.int8),
        subjects=np.array([f"S{i}" for i in range(count)], dtype=object),
        sequences=np.full(count, "", dtype=object),
        frames=np.arange(count),
    )


def lose_some(index: int, row: dict[str, Any]) -> None:
    """Some frames are without a face, some faces without landmarks or a map."""
    row |= {"image": None, "landmarks": None, "parsing": None} if index % 7 == 0 else {}
    row |= {"landmarks": None} if index % 5 == 1 else {}
    row |= {"parsing": None} if index % 5 == 2 else {}


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a face that was decoded."""
    calls: list[int] = []

    def counted(data: memoryview, size: tuple[int, int]) -> Any:
        calls.append(1)
        return decode_face(data, size)

    monkeypatch.setattr(pixels_module, "decode_face", counted)
    return calls


def test_a_batch_holds_the_stored_pixels(write_faces: Write) -> None:
    dataset = write_faces(frames=8, size=(112, 128))
    assert len(dataset.manifest.shards) > 1
    store = FaceStore(dataset, ALL)
    assert store.size == (112, 128)
    for _ in range(2):  # decoded, then kept
        batch = store.batch(np.array([47, 3, 17, 3]))
        for index, row in enumerate([47, 3, 17, 3]):
            image = batch.require("images")[index].permute(1, 2, 0).numpy()
            assert np.array_equal(image, stored_pixels(dataset, "image", row))
            assert np.array_equal(batch.require("parsing")[index].numpy(), stored_pixels(dataset, "parsing", row))
            points = np.array(dataset.rows(["landmarks"])["landmarks"][row].as_py()).reshape(-1, 2)
            np.testing.assert_allclose(batch.require("landmarks")[index].numpy(), points, atol=1e-5)


def test_jpegs_come_as_the_decoder_gives_them(write_faces: Write) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)
    data = encoded(pixels, "JPEG", quality=95)
    store = FaceStore(write_faces(change=lambda index, row: row.update(image=data)))
    decoded = np.asarray(Image.open(BytesIO(data)))
    assert np.array_equal(store.batch(np.array([5])).require("images")[0].permute(1, 2, 0).numpy(), decoded)


def test_only_what_is_needed_is_read(write_faces: Write) -> None:
    batch = FaceStore(write_faces()).batch(np.arange(3))
    assert batch.landmarks is None
    assert batch.parsing is None


def test_what_was_decoded_is_kept_up_to_the_bound(write_faces: Write, decodes: list[int]) -> None:
    store = FaceStore(write_faces(), ALL, decoded_bytes=10 * ROW_BYTES + 5)
    first = store.batch(np.arange(30))
    assert len(decodes) == 30
    again = store.batch(np.arange(30))
    assert len(decodes) == 30 + 20
    for name in ("images", "landmarks", "parsing"):
        assert torch.equal(first.require(name), again.require(name))
    store.forget()
    store.batch(np.arange(30))
    assert len(decodes) == 30 + 20 + 30


def test_pixels_in_the_cache_are_decoded_once_and_shared(
    write_faces: Write, decodes: list[int], tmp_path: Path
) -> None:
    dataset = open_dataset(write_faces(change=lose_some).uri, cache=ShardCache(tmp_path / "cache"))
    rows = np.flatnonzero(FaceStore(dataset).has_face)
    decodes.clear()
    plain = FaceStore(dataset, ALL, size=(24, 24), decoded_bytes=0).batch(rows)
    assert len(decodes) == len(rows)
    for _ in range(2):  # the second store stands for another process
        store = FaceStore(dataset, ALL, size=(24, 24), kept="decoded")
        for _ in range(2):
            batch = store.batch(rows)
            for name in ("images", "landmarks", "parsing"):
                torch.testing.assert_close(batch.require(name), plain.require(name), rtol=0, atol=0, equal_nan=True)
            store.forget()
    assert len(decodes) == 2 * len(rows)
    assert len(list((tmp_path / "cache").glob("*-24x24-parsing.arrow"))) == len(dataset.manifest.shards)


def test_pixels_beyond_the_limit_of_the_cache_are_decoded_each_time(
    write_faces: Write, decodes: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write_faces(frames=8, size=(112, 128))
    first = whole.manifest.shards[0].rows
    assert first < 48
    row_bytes = 112 * 128 * 4
    cache = ShardCache(tmp_path / "cache", max_bytes=first * row_bytes + row_bytes // 2)
    store = FaceStore(open_dataset(whole.uri, cache=cache), ALL, kept="decoded")
    store.batch(np.arange(48))
    decodes.clear()
    store.batch(np.arange(48))
    assert len(decodes) == 48 - first
    assert caplog.text.count("raise data.cache_gb") == 1


def test_faces_of_another_size_are_scaled_with_landmarks_and_parsing(write_faces: Write) -> None:
    store = FaceStore(write_faces(), ALL, size=(64, 64))
    batch = store.batch(np.array([0]))
    assert batch.require("images").shape == (1, 3, 64, 64)
    parsing = batch.require("parsing")[0]
    assert set(parsing.unique().tolist()) == {1, 2, 3}
    # Pixel (4, 4) to (8, 8) of 32 x 40 is class 2; scaled by 2 in y and 1.6 in x.
    rows, columns = (parsing == 2).nonzero(as_tuple=True)
    assert (rows.min(), rows.max()) == (8, 15)
    assert (columns.min(), columns.max()) == (6, 12)
    x, y = batch.require("landmarks")[0, 0].tolist()
    assert (x, y) == pytest.approx((6.5 * 1.6 - 0.5, 6.5 * 2 - 0.5))


def test_a_row_without_a_face_is_known_and_refused(write_faces: Write) -> None:
    def lose(index: int, row: dict[str, Any]) -> None:
        if index % 7 == 0:
            row |= {"image": None, "landmarks": None, "parsing": None}

    store = FaceStore(write_faces(change=lose), ALL)
    assert {int(row) for row in np.flatnonzero(~store.has_face)} == {0, 7, 14, 21, 28}
    rows = rows_of(store, [6, 7, 8, 9])
    assert rows.has_face.tolist() == [True, False, True, True]
    with pytest.raises(DatasetError, match=r"row 7 has no face$"):
        rows.batch(torch.tensor([0, 1]))


def test_a_face_without_landmarks_or_parsing_is_seen_and_guides_nothing(write_faces: Write) -> None:
    def lose(index: int, row: dict[str, Any]) -> None:
        if index in (3, 5):
            row["landmarks"] = None
        if index in (4, 5):
            row["parsing"] = None

    dataset = write_faces(change=lose)
    store = FaceStore(dataset, ALL)
    assert store.has_face.all()
    for _ in range(2):  # decoded, then kept
        batch = store.batch(np.arange(2, 7))
        lost = torch.isnan(batch.require("landmarks"))
        assert lost.flatten(1).any(dim=1).tolist() == [False, True, False, True, False]
        assert torch.equal(lost.flatten(1).all(dim=1), lost.flatten(1).any(dim=1))
        assert [NO_CLASS in ids for ids in batch.require("parsing")] == [False, False, True, True, False]
        assert np.array_equal(batch.require("images")[2].permute(1, 2, 0).numpy(), stored_pixels(dataset, "image", 4))
    moved = Augmentation(
        AugmentationConfig(rotation_degrees=20, flip=0.5, crop=0.2),
        DataDescription(tasks=("AU1", "AU12"), landmark_points=5, parsing_classes=FACE_CLASSES),
    )(as_floats(batch), seed=0)
    assert torch.equal(torch.isnan(moved.require("landmarks")), lost)
    assert (moved.require("parsing")[2:4] == NO_CLASS).all()
    assert torch.isfinite(moved.require("images")).all()
    priors = prior_heatmap(mono_centres(moved.require("landmarks")), store.size, (4, 5))
    assert priors.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1, 0, 1, 0, 1], abs=1e-5)
    shares = ClassShares(("l_eye",), FACE_CLASSES).priors(moved.require("parsing"), (4, 5))
    assert (shares.sum(dim=(1, 2, 3)) > 0).tolist() == [True, True, False, False, True]


def test_a_set_without_any_face_is_refused(write_faces: Write) -> None:
    dataset = write_faces(change=lambda index, row: row.update(image=None))
    with pytest.raises(DatasetError, match="not one of its 30 rows has a face to learn from"):
        FaceStore(dataset)


def test_a_damaged_image_is_named(write_faces: Write) -> None:
    def damage(index: int, row: dict[str, Any]) -> None:
        if index == 4:
            row["image"] = row["image"][:200]

    store = FaceStore(write_faces(change=damage))
    store.batch(np.arange(4))
    with pytest.raises(
        DatasetError,
        match=r"/shard-00000\.arrow, row 4: an image must be whole, but this one is cut or damaged; ingest",
    ):
        store.batch(np.arange(8))


@pytest.mark.parametrize("size", [(7, 9), (480, 640)])
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"optimize": True})]
)
def test_sizes_are_read_from_the_header(kind: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    data = encoded(np.zeros((*size, 3), np.uint8), kind, **options)
    assert pixel_size(data) == size
    assert decode_face(data, (8, 8))[1] == size


def test_a_bomb_is_not_decoded() -> None:
    data = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(ValueError, match=f"1 to {MAX_IMAGE_PIXELS} pixels, but this one claims 60000 x 60000"):
        decode_face(bytes(data), (8, 8))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 40])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(an image must be JPEG or PNG|a JPEG must hold)"):
        pixel_size(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_cut_image_is_refused(kind: str) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), kind)
    with pytest.raises(ValueError, match="must be whole"):
        decode_face(data[: len(data) * 2 // 3], (64, 64))


def test_a_palette_does_not_change_the_ids() -> None:
    ids = np.arange(48, dtype=np.uint8).reshape(6, 8)
    image = Image.fromarray(ids, mode="P")
    image.putpalette([value * 5 % 256 for value in range(768)])
    buffer = BytesIO()
    image.save(buffer, "PNG")
    assert np.array_equal(decode_parsing(buffer.getvalue(), (6, 8)).numpy(), ids)


def test_a_parsing_map_in_colours_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one channel of 8 bits, but this one is RGB"):
        decode_parsing(encoded(np.zeros((8, 8, 3), np.uint8), "PNG"), (8, 8))


def test_batches_come_in_order_as_floats(write_faces: Write) -> None:
    dataset = write_faces()
    rows = rows_of(FaceStore(dataset, ALL), list(range(30)))
    order = torch.split(torch.randperm(30, generator=torch.Generator().manual_seed(0)), 7)
    batches = list(Batches(rows, torch.device("cpu"))(order))
    assert [len(batch) for batch in batches] == [7, 7, 7, 7, 2]
    for indices, batch in zip(order, batches, strict=True):
        plain = rows.batch(indices)
        torch.testing.assert_close(batch.require("images"), plain.require("images").float() / 255)
        assert torch.equal(batch.require("parsing"), plain.require("parsing"))


def test_the_reader_ends_with_the_loop_and_hands_on_its_error(write_faces: Write) -> None:
    def damage(index: int, row: dict[str, Any]) -> None:
        if index == 20:
            row["image"] = b"no image"

    rows = rows_of(FaceStore(write_faces(change=damage)), list(range(30)))
    steps = torch.split(torch.arange(30), 4)
    with closing(Batches(rows, torch.device("cpu"))(steps)) as batches:
        next(batches)
    with closing(Batches(rows, torch.device("cpu"))(steps)) as batches:
        assert [len(next(batches)) for _ in range(5)] == [4] * 5  # all that come before the damaged one
        with pytest.raises(DatasetError, match=r"shard-00000\.arrow, row 20: an image must be JPEG or PNG"):
            next(batches)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_features_pass_as_they_are(rows: Rows) -> None:
    batch = next(Batches(rows, torch.device("cpu"))([torch.tensor([3, 1])]))
    assert torch.equal(batch.require("features"), rows.features[[3, 1]])  # type: ignore[index]
    assert rows.has_face.all()
    assert replace(rows).batch(torch.tensor([2])).features is not None
