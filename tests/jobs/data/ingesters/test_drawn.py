"""What `data synth` draws is what `data ingest` reads: both ends of the raw formats, and everything on the way."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duchenne_jobs.data import ingest
from duchenne_jobs.data.faces.align import crop_matrix, move_points, square_of_anchors
from duchenne_jobs.data.faces.landmarks import anchors, to_49
from duchenne_jobs.data.ingesters.people import SYNTHETIC_MARK
from duchenne_jobs.data.schema import matrix
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.data.synth.raw import ABOUT_FILE, synthesise


def decode(value: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(value)))


@pytest.mark.parametrize("like", ["disfa", "bp4d"])
def test_a_drawn_dataset_goes_in_with_eyes_level_and_maps_in_place(like: Any, tmp_path: Path) -> None:
    assert SYNTHETIC_MARK == ABOUT_FILE
    raw = synthesise(SynthOptions(like=like, subjects=2, frames=4, size=128), tmp_path / "raw", workers=1)
    dataset = ingest(like, raw, tmp_path / "set", workers=1, size=96)
    dataset.verify()
    assert dataset.manifest.name == f"{like}-synthetic"
    assert (dataset.row_count, len(dataset.subjects)) == (8, 2)
    assert dataset.manifest.parsing_classes is not None
    table = dataset.rows()
    assert table["image"].null_count == table["parsing"].null_count == 0
    points = matrix(table, "landmarks").reshape(8, 49, 2)
    assert np.abs(points[:, 19:25, 1].mean(1) - points[:, 25:31, 1].mean(1)).max() < 0.01
    for face, map_ in zip(points, table["parsing"].to_pylist(), strict=True):
        ids = decode(map_)
        x, y = face[13].round().astype(int)  # the tip of the nose
        assert dataset.manifest.parsing_classes[ids[y, x]] == "nose"


def test_the_right_view_of_a_drawn_disfa_takes_its_own_landmarks(tmp_path: Path) -> None:
    raw = synthesise(SynthOptions(like="disfa", subjects=1, frames=3, size=128), tmp_path / "raw", workers=1)
    told: list[str] = []
    dataset = ingest("disfa", raw, tmp_path / "set", workers=1, size=96, camera="right", note=told.append)
    assert len(told) == 1
    assert "parsing shows the left view" in told[0]
    assert dataset.manifest.parsing_classes is None
    assert dataset.manifest.crop is not None
    assert dataset.manifest.crop.parsed_by is None
    found = matrix(dataset.rows(), "landmarks").reshape(3, 49, 2)
    for stored, points in zip(found, np.load(raw / "landmarks" / "SN001_right.npy"), strict=True):
        own = to_49(points[None])[0]
        square = square_of_anchors(anchors(own))
        assert square is not None
        np.testing.assert_allclose(stored, move_points(own, crop_matrix(square, 96, 1.3)), atol=1e-3)
