"""`builtin://faces`: drawn crops as Arrow shards, for anyone's sweep."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duchenne_jobs.data import builtin_subject_count, builtin_tasks, load_protocol, materialise, open_dataset
from duchenne_jobs.data.builtin import builtin_subjects, parse_builtin
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.align import square_of_anchors
from duchenne_jobs.data.faces.landmarks import anchors
from duchenne_jobs.data.manifest import Crop
from duchenne_jobs.data.synth.anatomy import LIKES, subject_names
from duchenne_jobs.data.synth.paint import CLASSES

SMALL = "builtin://faces?subjects=2&frames=9&size=48"


def test_the_crops_of_disfa(tmp_path: Path) -> None:
    path = materialise(SMALL, tmp_path)
    assert Path(path).name == "faces-likedisfa-subjects2-frames9-seed0-size48-noise0"
    dataset = open_dataset(path)
    dataset.verify()
    assert dataset.tasks == ("AU1", "AU2", "AU4", "AU6", "AU9", "AU12", "AU25", "AU26")
    assert tuple(sorted(dataset.subjects)) == ("SN001", "SN002")
    columns = ("subject", "sequence", "frame", "image", "landmarks", "parsing", "labels", "intensities")
    assert dataset.manifest.columns == columns
    assert dataset.manifest.parsing_classes == tuple(CLASSES)
    rows = dataset.rows(list(columns)).to_pylist()
    assert [row["frame"] for row in rows[:9]] == list(range(1, 10))
    for row in rows:
        image, ids = (np.asarray(Image.open(BytesIO(row[column]))) for column in ("image", "parsing"))
        assert image.shape == (48, 48, 3)
        assert ids.shape == (48, 48)
        assert row["labels"] == [int(value >= 2) for value in row["intensities"]]
        x, y = np.round(np.reshape(row["landmarks"], (49, 2))[13]).astype(int)  # the tip of the nose
        assert CLASSES[ids[y, x]] == "nose"
    inode = (tmp_path / "datasets" / Path(path).name / "manifest.json").stat().st_ino
    assert materialise(SMALL + "&noise=0.0", tmp_path) == path
    assert (tmp_path / "datasets" / Path(path).name / "manifest.json").stat().st_ino == inode


@pytest.mark.parametrize("like", LIKES)
def test_the_manifest_says_how_an_ingester_would_cut_such_faces(like: str, tmp_path: Path) -> None:
    dataset = open_dataset(materialise(f"builtin://faces?like={like}&subjects=12&frames=3&size=64", tmp_path))
    assert dataset.manifest.crop == Crop(size=64, enlarge=1.3, aligned_by="landmarks", parsed_by="source")
    points = np.reshape(dataset.rows(["landmarks"])["landmarks"].to_pylist(), (-1, 49, 2))
    squares = [square_of_anchors(anchors(face)) for face in points]
    found = np.array([(64 / square.side, square.x, square.y, square.angle) for square in squares if square is not None])
    assert len(found) == len(points)
    assert found[:, 0].mean() == pytest.approx(1.3, rel=0.03)
    np.testing.assert_allclose(found[:, 1:3].mean(axis=0), 31.5, atol=1)  # the middle
    np.testing.assert_allclose(found[:, 3], 0, atol=0.08)


def test_the_crops_of_bp4d_have_unknown_labels_and_noise_changes_labels_alone(tmp_path: Path) -> None:
    uri = "builtin://faces?like=bp4d&subjects=3&frames=24&size=32"
    clean, noisy = (open_dataset(materialise(text, tmp_path)) for text in (uri, f"{uri}&noise=0.25"))
    assert clean.tasks == builtin_tasks(uri)
    first, second = (np.array(one.rows(["labels"])["labels"].to_pylist()) for one in (clean, noisy))
    known = (first >= 0) & (second >= 0)
    assert (first == -1).any()
    assert 0.15 < (first != second)[known].mean() < 0.35
    assert clean.rows(["image"]).equals(noisy.rows(["image"]))
    assert set(clean.rows(["sequence"])["sequence"].to_pylist()) == {f"T{trial}" for trial in range(1, 9)}


def test_the_same_uri_gives_the_same_digest(tmp_path: Path) -> None:
    first, second = (open_dataset(materialise(SMALL, tmp_path / home)).digest for home in ("one", "two"))
    assert first == second


def test_facts_are_known_without_drawing() -> None:
    assert parse_builtin("builtin://faces") == (
        "faces",
        {"like": "disfa", "subjects": 27, "frames": 100, "seed": 0, "size": 96, "noise": 0.0},
    )
    for like in LIKES:
        assert builtin_subject_count(f"builtin://faces?like={like}") == len(subject_names(like))
        assert builtin_tasks(f"builtin://faces?like={like}") == load_protocol(like).tasks
        load_protocol(like).plan(set(builtin_subjects(f"builtin://faces?like={like}") or ()))
    assert builtin_subjects("builtin://faces?like=bp4d&subjects=2") == ("F001", "F002")
    assert builtin_subjects("builtin://toy") is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("like=celeba", "like must be disfa or bp4d, but got 'celeba'; choose one of them"),
        ("subjects=28", "1 <= subjects <= 27 must hold for faces like disfa, but got 28; lower subjects"),
        ("like=bp4d&subjects=42", "1 <= subjects <= 41 must hold, but got '42'"),
        ("subjects=0", "1 <= subjects <= 41 must hold, but got '0'"),
        ("noise=0.9", "0 <= noise <= 0.5 must hold, but got '0.9'; write it as 0.1"),
        ("noise=-1", "but got '-1'; write it as 0.1"),
        ("noise=nan", "but got 'nan'; write it as 0.1"),
        ("size=1e9", "32 <= size <= 512 must hold, but got '1e9'"),
        ("count=3", "option 'count' is unknown; faces has the options: like, subjects, frames, seed, size, noise"),
    ],
)
def test_a_wrong_uri_is_refused(query: str, message: str) -> None:
    with pytest.raises(DatasetError) as refusal:
        parse_builtin(f"builtin://faces?{query}")
    assert message in str(refusal.value)


def test_facts_load_neither_opencv_nor_a_video_library(run_python: Any) -> None:
    code = (
        "import sys\nfrom duchenne_jobs.data import builtin_subject_count, builtin_tasks\n"
        "uri = 'builtin://faces'\nprint(builtin_subject_count(uri), len(builtin_tasks(uri)))\n"
        "print([name for name in ('cv2', 'av', 'pyarrow', 'torch', 'PIL') if name in sys.modules])"
    )
    done = run_python(code)
    assert done.stdout.splitlines() == ["27 8", "[]"], done.stderr
