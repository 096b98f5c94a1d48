"""A real toy dataset, fold jobs on it, and schedulers that stop where a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from duchenne_jobs.config import RunConfig
from duchenne_jobs.data import Dataset, DatasetWriter, Description, LandmarkScheme, materialise, open_dataset
from duchenne_jobs.models import DataDescription, Inputs
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey, JobStopped
from duchenne_jobs.training.split import Rows
from duchenne_jobs.training.trainer import Trainer

TOY = "builtin://toy?count=60&tasks=3&seed=0"


def run_config(name: str = "monet", **changes: Any) -> RunConfig:
    """A small configuration; `changes` are sections."""
    sections: dict[str, Any] = {
        "model": {
            "name": name,
            "encoder": {"layers": 1, "width": 8, "dropout": 0.1},
            "hidden_size": 8,
            "orders": {"count": 6, "active": 3},
            "trajectories": 4,
        },
        "training": {"epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "decay": 0.9, "weight_decay": 1e-2},
    }
    for section, values in changes.items():
        sections[section] = sections.get(section, {}) | values
    return RunConfig.model_validate(sections)


@dataclass
class Scheduler:
    """A `JobContext` that remembers what was reported and ends the job at a step or at an epoch."""

    stop_at_tick: int | None = None
    stop_at_epoch: int | None = None
    ticks: int = 0
    reports: dict[int, dict[str, float]] = field(default_factory=dict)

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == self.stop_at_tick:
            raise JobStopped

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        self.reports[epoch] = metrics
        if epoch == self.stop_at_epoch:
            raise JobStopped


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of eight units gain nothing from more threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(materialise(TOY, tmp_path_factory.mktemp("home")))


@pytest.fixture
def config() -> Callable[..., RunConfig]:
    return run_config


@pytest.fixture
def scheduler() -> type[Scheduler]:
    return Scheduler


@pytest.fixture
def job(toy: Dataset, tmp_path: Path) -> Callable[..., FoldJob]:
    """`job(name, phase=..., dataset=..., folder=..., **sections)`."""

    def make(
        name: str = "monet",
        phase: str = "search",
        dataset: Dataset | None = None,
        folder: str = "run",
        fold: int = 0,
        seed: int = 0,
        **sections: Any,
    ) -> FoldJob:
        data = dataset or toy
        settings = run_config(name if name in ("vmnc", "vmns", "mrnn", "monet") else "monet", **sections)
        return FoldJob(
            key=JobKey(0, phase, name, fold, 0 if phase == "search" else None, seed),  # type: ignore[arg-type]
            config=settings,
            dataset_uri=data.uri,
            dataset_digest=data.digest,
            folds=FoldsRequest(count=3, inner=2, seed=0),
            folder=str(tmp_path / folder),
            epochs=settings.training.epochs,
        )

    return make


@pytest.fixture
def rewritten(toy: Dataset, tmp_path: Path) -> Callable[..., Dataset]:
    """`rewritten(name, change)`: the toy dataset after `change(row)` on each of its rows."""

    def make(name: str, change: Callable[[dict[str, Any]], None]) -> Dataset:
        rows = toy.rows().to_pylist()
        for row in rows:
            change(row)
        with DatasetWriter(tmp_path / name, toy.manifest) as writer:
            writer.write_rows(rows)
        return open_dataset(tmp_path / name)

    return make


DESCRIPTION = DataDescription(tasks=("a", "b", "c"), features=4)


@pytest.fixture
def rows() -> Rows:
    """40 rows of 4 features in odd units and 3 tasks, one label in ten unknown."""
    random = np.random.default_rng(3)
    features = random.normal(size=(40, 4)).astype(np.float32) * [1, 10, 100, 1] + [0, 5, -5, 7]
    labels = (features[:, :3] > [0, 5, -5]).astype(np.int8)
    labels[random.random((40, 3)) < 0.1] = -1
    return Rows(
        inputs=Inputs(features=torch.from_numpy(features.astype(np.float32))),
        labels=torch.from_numpy(labels),
        subjects=np.array([f"S{i:02d}" for i in range(40)], dtype=object),
        sequences=np.array(["T1"] * 20 + [""] * 20, dtype=object),
        frames=np.arange(40),
    )


@pytest.fixture
def trainer(rows: Rows) -> Callable[..., Trainer]:
    """`trainer(name, seed=..., rows=..., **sections)`."""

    def make(name: str = "monet", seed: int = 0, data: Rows | None = None, **sections: Any) -> Trainer:
        return Trainer(run_config(name, **sections), data or rows, DESCRIPTION, seed, torch.device("cpu"))

    return make


FACE_TASKS = ("AU1", "AU12")
FACE_CLASSES = ("background", "skin", "l_eye", "r_eye")


def face_row(subject: int, frame: int, size: tuple[int, int], random: np.random.Generator) -> dict[str, Any]:
    """A grey square whose upper half is bright where AU1 is on and whose lower half is red where AU12 is."""
    height, width = size
    labels = random.integers(0, 2, 2)
    image = np.full((height, width, 3), 90, np.uint8) + random.integers(0, 40, (height, width, 3), np.uint8)
    image[: height // 2] += np.uint8(80 * labels[0])
    image[height // 2 :, :, 0] += np.uint8(80 * labels[1])
    parsing = np.ones((height, width), np.uint8)
    parsing[4:8, 4:8], parsing[4:8, width - 8 : width - 4] = 2, 3
    points = np.array([[6, 6], [width - 6, 6], [width / 2, 12], [8, 20], [width - 8, 20]], np.float32)
    return {
        "subject": f"S{subject:02d}",
        "sequence": "T1",
        "frame": frame,
        "image": png(image),
        "landmarks": points.ravel(),
        "parsing": png(parsing),
        "labels": labels,
    }


def png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 as the bytes of a PNG."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def write_faces(tmp_path: Path) -> Callable[..., Dataset]:
    """`write_faces(name, change, subjects=..., frames=..., size=...)`: a small set of faces; `change(index, row)`."""

    def make(
        name: str = "faces",
        change: Callable[[int, dict[str, Any]], object] = lambda index, row: None,
        subjects: int = 6,
        frames: int = 5,
        size: tuple[int, int] = (32, 40),
    ) -> Dataset:
        random = np.random.default_rng(0)
        rows = [face_row(subject, frame, size, random) for subject in range(subjects) for frame in range(frames)]
        for index, row in enumerate(rows):
            change(index, row)
        description = Description(
            name="faces",
            tasks=FACE_TASKS,
            columns=("subject", "sequence", "frame", "image", "landmarks", "parsing", "labels"),
            parsing_classes=FACE_CLASSES,
            landmark_scheme=LandmarkScheme(name="five-points", points=5),
            licence="drawn by a test",
            consent="no people",
        )
        with DatasetWriter(tmp_path / name, description, shard_bytes=20_000) as writer:
            writer.write_rows(rows)
        return open_dataset(tmp_path / name)

    return make
