"""Real networks in real checkpoints: fold jobs on drawn faces and on the toy, run to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from duchenne_jobs.config import RunConfig
from duchenne_jobs.data import Dataset, DatasetWriter, Description, materialise, open_dataset
from duchenne_jobs.data.manifest import Crop
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.runner import FoldJobRunner, checkpoint_path

TASKS = ("AU1", "AU12", "AU25")
CONV = {"name": "conv", "layers": 1, "width": 16, "stride": 8}


class Obedient:
    """A scheduler that never stops a job."""

    def tick(self) -> None:
        pass

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        pass


def face(labels: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """A third of the picture for each label: bright where it is on."""
    image = np.full((side, side, 3), 60, np.uint8) + random.integers(0, 60, (side, side, 3), np.uint8)
    for index, label in enumerate(labels):
        image[index * side // 3 : (index + 1) * side // 3] += np.uint8(100 * label)
    return image


def write_faces(folder: Path, crop: Crop | None, side: int = 32) -> Dataset:
    """4 subjects of 8 frames; the fifth frame of each is without a face."""
    random = np.random.default_rng(0)
    description = Description(
        name="faces",
        tasks=TASKS,
        columns=("subject", "sequence", "frame", "image", "labels"),
        crop=crop,
        licence="drawn by a test",
        consent="no people",
    )
    with DatasetWriter(folder, description) as writer:
        for subject in range(4):
            for frame in range(8):
                labels = random.integers(0, 2, 3)
                buffer = BytesIO()
                Image.fromarray(face(labels, side, random)).save(buffer, "PNG")
                image = None if frame == 4 else buffer.getvalue()
                row = {"subject": f"S{subject}", "sequence": "T1", "frame": frame, "image": image, "labels": labels}
                writer.write_rows([row])
    return open_dataset(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_faces(tmp_path_factory.mktemp("data") / "faces", crop=None)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(materialise("builtin://toy?count=60&tasks=3&seed=0", tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """`trained(dataset, model, folds=..., epochs=...)`: the checkpoints of an evaluation."""
    runner = FoldJobRunner()

    def make(dataset: Dataset, model: dict[str, Any], folds: tuple[int, ...] = (0,), epochs: int = 2) -> list[Path]:
        config = RunConfig.model_validate(
            {"model": model, "training": {"epochs": epochs, "batch_size": 8, "learning_rate": 1e-2}}
        )
        folder = tmp_path_factory.mktemp("run")
        paths = []
        for fold in folds:
            key = JobKey(0, "evaluation", config.model.name, fold, None, 0)
            request = FoldsRequest(count=2, inner=2, seed=0)
            job = FoldJob(key, config, dataset.uri, dataset.digest, request, str(folder), epochs)
            runner.run(job, epochs, Obedient())
            paths.append(checkpoint_path(job))
        return paths

    return make


@pytest.fixture
def conv() -> dict[str, Any]:
    return dict(CONV)
