"""Small real datasets for the tests of the data room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duchenne_jobs.data import Dataset, DatasetWriter, Description, LandmarkScheme, ingest, open_dataset


def face_description() -> Description:
    """Two AUs, three landmarks, and every optional column but `features` and `parsing`."""
    return Description(
        name="faces",
        tasks=("AU1", "AU2"),
        columns=("subject", "sequence", "frame", "image", "landmarks", "labels", "intensities"),
        landmark_scheme=LandmarkScheme(name="three", points=3),
        licence="drawn by a test",
        consent="no people",
    )


def face_rows(subjects: int = 4, frames: int = 6, image_bytes: int = 300_000) -> list[dict[str, Any]]:
    """Rows whose images are noise, so that a few of them fill record batches and shards. Frame 0 has no face."""
    random = np.random.default_rng(7)
    return [
        {
            "subject": f"S{subject}",
            "sequence": "T1",
            "frame": frame,
            "image": random.bytes(image_bytes) if frame else None,
            "landmarks": [float(frame + step) for step in range(6)] if frame else None,
            "labels": [(subject + frame) % 2, -1 if frame == 1 else frame % 2],
            "intensities": [frame % 6, -1],
        }
        for subject in range(subjects)
        for frame in range(frames)
    ]


@pytest.fixture
def description() -> Description:
    return face_description()


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return face_rows()


@pytest.fixture
def faces(tmp_path: Path, rows: list[dict[str, Any]]) -> Dataset:
    """24 rows in three or more shards."""
    with DatasetWriter(tmp_path / "faces", face_description(), shard_bytes=2_000_000) as writer:
        writer.write_rows(rows)
    return open_dataset(tmp_path / "faces")


@pytest.fixture
def toy(tmp_path: Path) -> Dataset:
    """200 rows of the toy dataset in one shard."""
    return ingest("toy", None, tmp_path / "toy", count=200, tasks=3, seed=1)


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a fresh process that sees the same packages."""

    def run(code: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
