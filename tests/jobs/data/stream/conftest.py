"""Datasets of real JPEGs, local and in a bucket."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from duchenne_jobs.data import Dataset, DatasetWriter, Description, LandmarkScheme, open_dataset
from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.s3 import Patience

HURRIED = Patience(deadline=60, stall=20, first_wait=0.02, longest_wait=0.1)
SIDE = 128


def jpeg_description() -> Description:
    return Description(
        name="jpegs",
        tasks=("AU1", "AU2"),
        columns=("subject", "sequence", "frame", "image", "landmarks", "labels"),
        landmark_scheme=LandmarkScheme(name="two", points=2),
        licence="drawn by a test",
        consent="no people",
    )


def jpeg_rows(count: int = 240) -> list[dict[str, Any]]:
    """Rows of 5 subjects in turns, noise of about 23 KB each; every 40th has no face."""
    random = np.random.default_rng(3)
    rows = []
    for number in range(count):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        image = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        rows.append(
            {
                "subject": f"S{number % 5}",
                "sequence": "T1",
                "frame": number,
                "image": None if number % 40 == 7 else image,
                "landmarks": [10.0, 20.0, 30.0, float(number)],
                "labels": [number % 2, -1],
            }
        )
    return rows


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1.5 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def rows_of_jpegs() -> list[dict[str, Any]]:
    return jpeg_rows()


@pytest.fixture
def jpegs(tmp_path: Path, rows_of_jpegs: list[dict[str, Any]]) -> Dataset:
    """240 rows in several local shards; its cache lies in the test's folder."""
    with DatasetWriter(tmp_path / "jpegs", jpeg_description(), shard_bytes=500_000) as writer:
        writer.write_rows(rows_of_jpegs)
    return open_dataset(tmp_path / "jpegs", cache=ShardCache(tmp_path / "cache"))


@pytest.fixture(scope="session")
def uploaded(s3_environment: dict[str, str], new_bucket: Callable[[], str], rows_of_jpegs: list[dict[str, Any]]) -> str:
    """The same rows in a bucket."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_environment.items():
            environment.setenv(name, value)
        uri = f"{new_bucket()}/jpegs"
        with DatasetWriter(uri, jpeg_description(), shard_bytes=500_000) as writer:
            writer.write_rows(rows_of_jpegs)
    return uri


@pytest.fixture
def remote(uploaded: str, proxy: Any, tmp_path: Path) -> Callable[..., Dataset]:
    """Opens them through the proxy, with a cache of the given size."""

    def opened(folder: Path = tmp_path / "cache", max_bytes: int = 10**9, patience: Patience = HURRIED) -> Dataset:
        return open_dataset(uploaded, cache=ShardCache(folder, max_bytes, patience))

    return opened
