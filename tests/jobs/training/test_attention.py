"""What an evaluation keeps of a network's attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from duchenne_jobs.config import ModelConfig, RunConfig
from duchenne_jobs.data import Dataset, open_dataset
from duchenne_jobs.data.synth.crops import write_crops
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.evaluation.attention import read_attention
from duchenne_jobs.models import TrainingStatistics, build_network
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.attention import FACES, attention_path, save_attention, shown_rows
from duchenne_jobs.training.runner import FoldJobRunner
from duchenne_jobs.training.split import Split, load_split

CPU = torch.device("cpu")
MODEL = {
    "name": "mtts",
    "encoder": {"name": "conv", "width": 8, "layers": 1},
    "attention": {"width": 8, "heads": 2, "cross_layers": 2, "self_layers": 0, "mlp_ratio": 1},
    "guidance": [
        {"kind": "soft_prior", "prior": "parsing", "layers": "first"},
        {"kind": "head_to_prior", "prior": "landmarks_multi", "layers": "last"},
    ],
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_crops(SynthOptions("disfa", subjects=4, frames=6, size=48), folder)
    return open_dataset(folder)


def job_on(faces: Dataset, folder: Path, model: dict[str, object], epochs: int = 1) -> FoldJob:
    config = RunConfig.model_validate({"model": model, "training": {"epochs": epochs, "batch_size": 8}})
    key = JobKey(0, "evaluation", config.model.name, 0, None, 0)
    return FoldJob(key, config, str(faces.uri), faces.digest, FoldsRequest(2, 2, 0), str(folder), epochs)


class Context:
    def tick(self) -> None: ...

    def report(self, epoch: int, metrics: dict[str, float]) -> None: ...


def split_of(faces: Dataset, tmp_path: Path) -> Split:
    return load_split(job_on(faces, tmp_path, MODEL), faces)


def test_a_guided_evaluation_leaves_the_attention_of_each_held_out_subject(faces: Dataset, tmp_path: Path) -> None:
    job = job_on(faces, tmp_path, MODEL)
    FoldJobRunner().run(job, 1, Context())
    sample = read_attention(attention_path(tmp_path, job.key))
    assert sample.attention.shape == (2, 2, 2, 8, 6, 6)  # subjects, layers, heads, tasks, patches
    np.testing.assert_allclose(sample.attention.astype(np.float64).sum(axis=(-2, -1)), 1, atol=5e-3)
    assert tuple(sample.tasks) == faces.tasks
    assert len(set(sample.subjects)) == 2
    assert RunConfig.model_validate_json(sample.config) == job.config
    rows = {
        (row["subject"], row["sequence"], row["frame"]): row["labels"]
        for row in faces.rows(["subject", "sequence", "frame", "labels"]).to_pylist()
    }
    places = zip(sample.subjects, sample.sequences, sample.frames, strict=True)
    assert [rows[place] for place in places] == sample.labels.tolist()


def test_the_file_holds_what_the_network_attends_to(faces: Dataset, tmp_path: Path) -> None:
    split = split_of(faces, tmp_path)
    config = RunConfig(model=ModelConfig.model_validate(MODEL))
    torch.manual_seed(0)
    statistics = TrainingStatistics.of(None, split.train.labels)
    network = build_network(config.model, split.data, statistics)
    save_attention(tmp_path / "a.npz", network, split.held_out, split.data.tasks, config, CPU)
    chosen = shown_rows(split.held_out)
    inputs = split.held_out.batch(chosen)
    assert inputs.images is not None
    floats = type(inputs)(**{**vars(inputs), "images": inputs.images.float() / 255})
    with torch.no_grad():
        scores = network.attend(floats).scores[1]  # type: ignore[attr-defined]
    expected = torch.softmax(scores.flatten(-2), dim=-1).unflatten(-1, (6, 6))
    np.testing.assert_allclose(read_attention(tmp_path / "a.npz").attention[:, 1], expected.numpy(), atol=1e-3)


def test_a_network_without_attention_leaves_nothing(faces: Dataset, tmp_path: Path) -> None:
    job = job_on(faces, tmp_path, {"name": "vmnc", "encoder": MODEL["encoder"]})
    FoldJobRunner().run(job, 1, Context())
    assert not (tmp_path / "attention").exists()


def test_one_row_a_subject_is_shown_the_one_with_the_most_positives(faces: Dataset, tmp_path: Path) -> None:
    rows = split_of(faces, tmp_path).train
    chosen = shown_rows(rows)
    assert len(chosen) == len(set(rows.subjects)) == 2 <= FACES
    positives = (rows.labels == 1).sum(dim=1)
    for index in chosen.tolist():
        own = torch.from_numpy(rows.subjects == rows.subjects[index])
        assert positives[index] == positives[own].max()
