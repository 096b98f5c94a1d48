"""The sweeps under jobs/sweeps/thesis that look at faces train: the selected model and every comparator, made small.

Nothing is stubbed: the rows are drawn faces, read, augmented and learned from as a fold job does it. Only sizes shrink.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from duchenne.search.jobs import folds_request
from duchenne.spec import Sweep, load_sweep, overlay
from duchenne.spec.search import Grid
from duchenne_jobs.config import ATTENTION_NAMES, ORDER_NAMES, RunConfig
from duchenne_jobs.data import Dataset, DatasetWriter, Description, materialise, open_dataset
from duchenne_jobs.data.ingesters.rafdb import EMOTIONS
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.split import load_split
from duchenne_jobs.training.trainer import Trainer

SWEEPS = Path(__file__).parents[2] / "jobs" / "sweeps" / "thesis"
OF_FACES = ("table_2_4", "table_2_5", "table_3_1", "table_3_4", "table_3_5", "table_3_6", "table_4_1_*")
FILES = sorted(path for pattern in OF_FACES for path in SWEEPS.glob(f"{pattern}.yaml"))
FOLDS = FoldsRequest(count=3, inner=2, seed=0)
Train = Callable[[Dataset, RunConfig, FoldsRequest], torch.Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """36 drawn faces like each of the two datasets."""
    home = tmp_path_factory.mktemp("home")
    uri = "builtin://faces?like={}&subjects=6&frames=6&size=32"
    return {like: open_dataset(materialise(uri.format(like), home)) for like in ("bp4d", "disfa")}


@pytest.fixture(scope="module")
def emotions(faces: dict[str, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same faces with one of seven emotions each, every image its own subject, as RAF-DB has them."""
    drawn = faces["disfa"]
    description = Description(
        name="rafdb",
        tasks=EMOTIONS,
        columns=("subject", "image", "landmarks", "labels"),
        landmark_scheme=drawn.manifest.landmark_scheme,
        licence="drawn by a test",
        consent="no people",
    )
    rows = drawn.rows(["image", "landmarks"]).to_pylist()
    for index, row in enumerate(rows):
        row |= {"subject": f"train_{index:05d}", "labels": [int(task == index % 7) for task in range(7)]}
    place = tmp_path_factory.mktemp("data") / "rafdb"
    with DatasetWriter(place, description) as writer:
        writer.write_rows(rows)
    return open_dataset(place)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """`trained(dataset, config, folds)`: held-out probabilities after an epoch; variants that shrink alike run once."""
    known: dict[tuple[str, str], torch.Tensor] = {}
    folder = tmp_path_factory.mktemp("run")

    def train(dataset: Dataset, config: RunConfig, folds: FoldsRequest) -> torch.Tensor:
        key = (dataset.digest, config.model_dump_json())
        if key not in known:
            place = JobKey(0, "evaluation", config.model.name, 0, None, 0)
            split = load_split(FoldJob(place, config, dataset.uri, dataset.digest, folds, str(folder), epochs=1))
            trainer = Trainer(config, split.train, split.data, 0, torch.device("cpu"))
            assert math.isfinite(trainer.run_epoch(lambda: None))
            known[key] = trainer.predict(split.held_out)
            assert len(known[key]) == len(split.held_out) > 0
        return known[key]

    return train


def variants(sweep: Sweep) -> dict[str, RunConfig]:
    """What the sweep trains: the model, each point of a grid over it, each comparator that is a network."""
    found = {sweep.model.name: sweep.base}
    for path, dimension in sweep.search.space.items():
        assert isinstance(dimension, Grid)
        found |= {f"{path}={value}": overlay(sweep.base, {path: value}) for value in dimension.grid}
    networks = [comparator for comparator in sweep.comparators if not comparator.is_baseline]
    return found | {comparator.name: overlay(sweep.base, comparator.changes) for comparator in networks}


def shrunk(config: RunConfig) -> RunConfig:
    """The same on a tiny encoder, with narrow attention, few orders and small batches; one epoch."""
    small: dict[str, object] = {
        "model.encoder": {"name": "conv", "layers": 1, "width": 16},
        "training.epochs": 1,
        "training.batch_size": 8,
    }
    if config.model.name in ATTENTION_NAMES:
        small |= {"model.attention.width": 48, "model.attention.heads": 12}
    if config.model.name in ORDER_NAMES:
        small |= {"model.orders.count": 8, "model.orders.active": 4}
    return overlay(config, small)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variant_of_a_face_sweep_trains(path: Path, faces: dict[str, Dataset], trained: Train) -> None:
    sweep = load_sweep(path)
    dataset = faces[str(sweep.data.protocol)]
    configs = variants(sweep)
    assert len(configs) >= 5
    for name, config in configs.items():
        probabilities = trained(dataset, shrunk(config), FOLDS)
        assert probabilities.shape[1] == len(dataset.tasks), name
        assert ((probabilities >= 0) & (probabilities <= 1)).all(), name
        assert probabilities.std(dim=0).max() > 0, name  # it looks at the faces


def test_every_variant_of_the_sweep_of_exclusive_labels_trains(emotions: Dataset, trained: Train) -> None:
    sweep = load_sweep(SWEEPS / "table_3_3.yaml")
    for name, config in variants(sweep).items():
        assert config.model.labels == "exclusive", name
        probabilities = trained(emotions, shrunk(config), folds_request(sweep))
        assert ((probabilities >= 0) & (probabilities <= 1)).all(), name
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(probabilities)), msg=name)
