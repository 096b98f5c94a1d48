"""Forgetting a subject, listing datasets, and the report of an ingest."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from duchenne_jobs.data import (
    Dataset,
    DatasetError,
    DatasetWriter,
    Description,
    face_report,
    find_datasets,
    forget_subject,
    ingest,
    open_dataset,
    save_contact_sheet,
    save_report_figure,
)
from duchenne_jobs.data.manifest import MANIFEST_NAME
from duchenne_jobs.data.storage import Location


def holds(folder: Path, content: bytes) -> bool:
    return any(content in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_nothing_of_a_forgotten_subject_stays(faces: Dataset, rows: list[dict[str, Any]]) -> None:
    theirs = [row["image"] for row in rows if row["subject"] == "S1" and row["image"]]
    assert all(holds(Path(faces.uri), image[:5000]) for image in theirs)
    untouched = {shard.path: shard.sha256 for shard in faces.manifest.shards if "S1" not in shard.subjects}
    calls: list[tuple[int, int]] = []
    done = forget_subject(faces.uri, "S1", lambda *now: calls.append(now))
    assert not any(holds(Path(faces.uri), image[:5000]) for image in theirs)
    after = open_dataset(faces.uri)
    after.verify()
    assert after.subjects == ("S0", "S2", "S3")
    assert after.rows().to_pylist() == [row for row in faces_rows(rows) if row["subject"] != "S1"]
    assert {shard.path: shard.sha256 for shard in after.manifest.shards}.items() >= untouched.items()
    assert calls[-1][0] == calls[-1][1] > 0
    assert (done.rows, done.digest, done.previous_digests) == (6, after.digest, (faces.digest,))
    assert after.digest != faces.digest
    assert sorted(path.name for path in Path(faces.uri).iterdir()) == sorted(
        [MANIFEST_NAME, *(shard.path for shard in after.manifest.shards)]
    )


def faces_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "labels": list(row["labels"]), "intensities": list(row["intensities"])} for row in rows]


def test_the_event_is_recorded_and_names_nobody(faces: Dataset) -> None:
    forget_subject(faces.uri, "S1")
    done = forget_subject(faces.uri, "S3")
    events = open_dataset(faces.uri).manifest.events
    assert [(event.what, event.rows) for event in events] == [("forgot a subject", 6)] * 2
    assert tuple(event.previous_digest for event in events) == done.previous_digests
    assert done.previous_digests[0] == faces.digest
    assert "S1" not in (Path(faces.uri) / MANIFEST_NAME).read_text(encoding="utf-8")


def test_whom_it_cannot_forget(faces: Dataset, toy: Dataset) -> None:
    with pytest.raises(DatasetError, match="has no subject 'S9'; it has 4 others"):
        forget_subject(faces.uri, "S9")
    for subject in ("S0", "S1", "S2"):
        forget_subject(faces.uri, subject)
    with pytest.raises(DatasetError, match="holds 'S3' alone, and a dataset needs a row; remove the whole folder"):
        forget_subject(faces.uri, "S3")
    assert forget_subject(toy.uri, "row-0007").rows == 1
    assert open_dataset(toy.uri).row_count == 199


@pytest.mark.parametrize("step", ["put", "remove"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_that_dies_leaves_the_old_dataset_or_the_new(
    faces: Dataset, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, step: str, after: int
) -> None:
    """Cut at each write: what is there opens, and the next run finishes the work."""
    real: Callable[..., None] = getattr(Location, step)
    count = 0

    def dying(self: Location, *arguments: Any) -> None:
        nonlocal count
        if count == after:
            raise KeyboardInterrupt
        count += 1
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Location, step, dying)
        with pytest.raises(KeyboardInterrupt):
            forget_subject(faces.uri, "S1")
    seen = open_dataset(faces.uri)
    assert seen.rows(["frame"]).num_rows == (24 if step == "put" else 18)
    done = forget_subject(faces.uri, "S1")
    assert done.rows == (6 if step == "put" else 0)
    assert done.previous_digests == (faces.digest,)
    open_dataset(faces.uri).verify()
    assert not any(
        holds(Path(faces.uri), row["image"][:5000]) for row in rows if row["subject"] == "S1" and row["frame"]
    )


def test_a_bucket_and_the_cache_are_cleaned(faces: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCHENNE_CACHE", str(tmp_path / "cache"))
    uri = f"memory://bucket-{uuid.uuid4()}/faces"
    with DatasetWriter(uri, faces.manifest, shard_bytes=2_000_000) as writer:
        writer.write(faces.rows())
    dataset = open_dataset(uri)
    dataset.rows()
    (tmp_path / "cache" / f"{dataset.digest.removeprefix('sha256:')}-decoded").mkdir()
    stale = [shard for shard in dataset.manifest.shards if "S1" in shard.subjects]
    done = forget_subject(uri, "S1")
    assert done.purged == len(stale) + 1
    cached = {path.stem for path in (tmp_path / "cache").iterdir()}
    assert cached.isdisjoint(shard.sha256.removeprefix("sha256:") for shard in stale)
    assert len(cached) == len(dataset.manifest.shards) - len(stale)
    open_dataset(uri).verify()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_forgetting_is_filtering(tmp_path: Path, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from("ABCDE"), min_size=2, max_size=40))
    gone = data.draw(st.sampled_from(sorted(set(names))))
    described = Description(name="x", tasks=("t",), columns=("subject", "labels"), licence="none", consent="none")
    place = tmp_path / str(uuid.uuid4())
    with DatasetWriter(place, described, shard_bytes=data.draw(st.integers(1, 40))) as writer:
        writer.write_rows([{"subject": name, "labels": [index % 2]} for index, name in enumerate(names)])
    if set(names) == {gone}:
        with pytest.raises(DatasetError, match="alone"):
            forget_subject(place, gone)
        return
    before = open_dataset(place).rows().to_pylist()
    forget_subject(place, gone)
    after = open_dataset(place)
    after.verify()
    assert after.rows().to_pylist() == [row for row in before if row["subject"] != gone]


def test_datasets_under_a_folder_are_listed(faces: Dataset, toy: Dataset, tmp_path: Path) -> None:
    ingest("toy", None, tmp_path / "deep" / "er" / "set", count=5)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / MANIFEST_NAME).write_text("{}", encoding="utf-8")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / MANIFEST_NAME).write_text("{}", encoding="utf-8")
    found = find_datasets(tmp_path)
    assert [one.uri for one in found] == [str(tmp_path / name) for name in ("broken", "deep/er/set", "faces", "toy")]
    assert found[0].error is not None
    assert "has schema version None" in found[0].error
    assert (found[2].rows, found[2].subjects, found[2].digest, found[2].licence) == (
        24, 4, faces.digest, "drawn by a test",
    )  # fmt: skip
    assert [one.name for one in find_datasets(toy.uri)] == ["toy-count200-tasks3-seed1"]
    assert find_datasets(tmp_path / "nothing") == []
    assert len(find_datasets(tmp_path, max_depth=1)) == 3
    with DatasetWriter(f"memory://ls-{toy.digest[-8:]}/a/b", toy.manifest) as writer:
        writer.write(toy.rows())
    assert [one.digest for one in find_datasets(f"memory://ls-{toy.digest[-8:]}")] == [toy.digest]


def test_the_report_counts(faces: Dataset, tmp_path: Path) -> None:
    report = face_report(faces)
    assert (report.frames, report.faces_not_found, report.not_parsed, report.unknown_labels) == (24, 4, None, 4)
    labels = np.array([[(subject + frame) % 2 for frame in range(6)] for subject in range(4)])
    for index, one in enumerate(report.per_subject):
        assert (one.subject, one.frames, one.faces_not_found, one.unknown_labels) == (f"S{index}", 6, 1, 1)
        assert one.frequencies == pytest.approx((labels[index].mean(), 2 / 5))  # AU2: frames 3, 5 of 0, 2, 3, 4, 5
    text = "\n".join(report.lines())
    assert "faces: 4 subjects, 24 frames, sha256:" in text
    assert "faces not found: 4 (16.7% of frames)" in text
    assert "unknown labels: 4 (8.3% of 48)" in text
    assert "S2            6       1       1  50.0  40.0" in text
    with Image.open(save_report_figure(report, tmp_path / "made" / "report.png")) as picture:
        assert min(picture.size) > 200


def test_a_task_that_nobody_knows_and_many_subjects(tmp_path: Path, toy: Dataset) -> None:
    described = Description(
        name="many", tasks=("a", "b"), columns=("subject", "image", "labels"), licence="none", consent="none"
    )
    with DatasetWriter(tmp_path / "many", described) as writer:
        writer.write_rows([{"subject": f"p{i:03d}", "image": b"x", "labels": [1, -1]} for i in range(70)])
    report = face_report(open_dataset(tmp_path / "many"))
    assert report.per_subject[0].frequencies == (1.0, None)
    assert list(report.lines())[-1] == "and 10 more subjects"
    assert save_report_figure(report, tmp_path / "many.png").stat().st_size > 0
    with pytest.raises(DatasetError, match="has no image column"):
        face_report(toy)


def png(pixels: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_contact_sheet_shows_the_parsing_beside_each_face(tmp_path: Path) -> None:
    described = Description(
        name="parsed", tasks=("a",), columns=("subject", "image", "parsing", "labels"),
        parsing_classes=("background", "skin", "hair"), licence="none", consent="none",
    )  # fmt: skip
    ids = np.zeros((64, 64), np.uint8)
    ids[:32] = 2
    face = png(np.full((64, 64, 3), 200, np.uint8))
    with DatasetWriter(tmp_path / "set", described) as writer:
        writer.write_rows(
            [{"subject": "s", "image": face, "parsing": map_, "labels": [0]} for map_ in (png(ids), None)]
        )
    with Image.open(save_contact_sheet(open_dataset(tmp_path / "set"), tmp_path / "sheet.png")) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    assert pixels.shape == (142 + 18, 2 * 2 * 128, 3)
    assert (pixels[20:50, 20:100] == 200).all()  # the face itself stays as it is
    above, below = pixels[30, 128 + 60], pixels[100, 128 + 60]
    assert above.tolist() != below.tolist()
    assert (pixels[20:120, 3 * 128 + 20 : 3 * 128 + 100] == 255).all()  # no map: nothing beside it
    (broken,) = [row | {"parsing": b"x"} for row in open_dataset(tmp_path / "set").rows().slice(0, 1).to_pylist()]
    with DatasetWriter(tmp_path / "broken", described) as writer:
        writer.write_rows([broken])
    with pytest.raises(DatasetError, match="its parsing is no readable JPEG or PNG"):
        save_contact_sheet(open_dataset(tmp_path / "broken"), tmp_path / "sheet.png")
