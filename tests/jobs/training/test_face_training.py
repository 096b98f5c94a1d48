"""Fold jobs on faces: learned, augmented and resumed exactly; frames without a face are predicted as frequencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duchenne_jobs.data import Dataset
from duchenne_jobs.data.cache import CacheChoice
from duchenne_jobs.evaluation import read_predictions
from duchenne_jobs.training import FoldJob, JobFailed
from duchenne_jobs.training.checkpoint import load_checkpoint
from duchenne_jobs.training.runner import FoldJobRunner, checkpoint_path
from duchenne_jobs.training.split import load_split
from duchenne_jobs.training.trainer import Trainer

MakeJob = Callable[..., FoldJob]
Write = Callable[..., Dataset]
CONV = {"name": "conv", "layers": 1, "width": 16, "stride": 8}
AUGMENTED = {"rotation_degrees": 10, "flip": 0.5, "crop": 0.1, "brightness": 0.1, "contrast": 0.1, "saturation": 0.1}


def on_faces(**training: Any) -> dict[str, Any]:
    return {
        "model": {"encoder": CONV, "hidden_size": 16, "orders": {"count": 2}},
        "training": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2} | training,
    }


def lose(index: int, row: dict[str, Any]) -> None:
    """Every fourth frame is without a face."""
    if index % 4 == 1:
        row |= {"image": None, "landmarks": None, "parsing": None}


@pytest.mark.parametrize("method", ["vmnc", "monet"])
def test_a_network_learns_from_faces(method: str, write_faces: Write, job: MakeJob, scheduler: Any) -> None:
    dataset = write_faces(subjects=9, frames=10)
    subject = job(method, "evaluation", dataset, **on_faces(epochs=12))
    result = FoldJobRunner().run(subject, 12, scheduler())
    assert result.metrics["accuracy"] > 0.9
    predictions = read_predictions(Path(str(result.predictions)))
    assert predictions.tasks == dataset.tasks
    assert len(predictions.labels) == 30


def test_frames_without_a_face_are_predicted_as_the_training_frequency(
    write_faces: Write, job: MakeJob, scheduler: Any
) -> None:
    dataset = write_faces(change=lose)
    subject = job("vmnc", "evaluation", dataset, **on_faces())
    runner = FoldJobRunner()
    predictions = read_predictions(Path(str(runner.run(subject, 3, scheduler()).predictions)))
    split = load_split(subject)
    trained = split.train.labels[split.train.has_face].float().mean(0).numpy()
    without = ~split.held_out.has_face.numpy()
    assert 0 < without.sum() < len(without)
    np.testing.assert_allclose(predictions.probabilities[without], np.tile(trained, (without.sum(), 1)), atol=1e-6)
    assert np.ptp(predictions.probabilities[~without], axis=0).min() > 0


def test_a_face_without_landmarks_is_learned_from_all_the_same(write_faces: Write, job: MakeJob) -> None:
    """Its guidance is 0; the networks, and what they learn, stay finite."""

    def lose_landmarks(index: int, row: dict[str, Any]) -> None:
        if index % 2:
            row |= {"landmarks": None, "parsing": None}

    sections = on_faces(augmentation=AUGMENTED)
    sections["model"] |= {
        "name": "mtts",
        "attention": {"width": 16, "heads": 2, "self_layers": 1, "cross_layers": 1},
        "guidance": [
            {"kind": "pattel", "prior": "landmarks_mono", "fraction": 0.5},
            {
                "kind": "head_to_prior",
                "prior": "parsing",
                "classes": ["l_eye", "r_eye"],
                "heads": [["l_eye"], ["r_eye"]],
            },
        ],
    }
    split = load_split(job("vmnc", "evaluation", write_faces(change=lose_landmarks), **sections))
    assert split.train.has_face.all()
    trainer = Trainer(job("monet", **sections).config, split.train, split.data, 0, torch.device("cpu"))
    assert np.isfinite(trainer.run_epoch(lambda: None))
    assert torch.isfinite(trainer.predict(split.held_out)).all()


def test_a_job_on_augmented_faces_resumes_exactly(write_faces: Write, job: MakeJob, scheduler: Any) -> None:
    dataset = write_faces(change=lose)
    straight = job("vmnc", "evaluation", dataset, "straight", **on_faces(augmentation=AUGMENTED))
    stopped = job("vmnc", "evaluation", dataset, "stopped", **on_faces(augmentation=AUGMENTED))
    FoldJobRunner().run(straight, 3, scheduler())
    FoldJobRunner().run(stopped, 1, scheduler())
    torch.rand(11)
    FoldJobRunner().run(stopped, 3, scheduler())  # another worker
    one, other = (load_checkpoint(checkpoint_path(which)) for which in (straight, stopped))
    for name, value in one["network"].items():
        assert torch.equal(value, other["network"][name]), name


@pytest.mark.parametrize("method", ["vmnc", "monet"])
def test_the_cache_changes_no_bit_of_what_is_learned(
    method: str, write_faces: Write, job: MakeJob, scheduler: Any, tmp_path: Path
) -> None:
    dataset = write_faces(change=lose)
    sections = on_faces(augmentation=AUGMENTED)
    sections["model"] |= {"encoder": CONV | {"image_size": 24}}
    states, predicted = [], []
    for kept in ("encoded", "decoded"):
        cache = CacheChoice(kept, str(tmp_path / "cache"))  # type: ignore[arg-type]
        subject = replace(job(method, "evaluation", dataset, kept, **sections), cache=cache)
        result = FoldJobRunner().run(subject, 3, scheduler())
        states.append(load_checkpoint(checkpoint_path(subject))["network"])
        predicted.append(read_predictions(Path(str(result.predictions))).probabilities)
    assert list((tmp_path / "cache").glob("*-24x24.arrow"))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert np.array_equal(*predicted)


def test_augmentation_changes_what_is_learned_but_not_what_is_predicted(write_faces: Write, job: MakeJob) -> None:
    split = load_split(job("vmnc", "evaluation", write_faces(), **on_faces()))
    cpu = torch.device("cpu")
    plain, augmented = (
        Trainer(job("vmnc", **on_faces(augmentation=settings)).config, split.train, split.data, 0, cpu)
        for settings in ({}, AUGMENTED)
    )
    assert torch.equal(plain.predict(split.held_out), augmented.predict(split.held_out))
    assert plain.run_epoch(lambda: None) != augmented.run_epoch(lambda: None)


def test_a_split_is_not_shared_between_sizes(write_faces: Write, job: MakeJob) -> None:
    dataset = write_faces()
    runner = FoldJobRunner()
    sizes, stores = [], []
    for side in (None, 16, None):
        sections = on_faces()
        sections["model"] |= {"encoder": CONV | {"image_size": side}}
        split = runner._split_of(job("vmnc", "evaluation", dataset, **sections))
        sizes.append((split.data.image_size, split.train.batch(torch.arange(2)).require("images").shape[-2:]))
        stores.append(split.train.inputs.store)
    assert sizes == [((32, 40), (32, 40)), ((16, 16), (16, 16)), ((32, 40), (32, 40))]
    assert stores[0] is stores[2]
    assert [store._used for store in stores[:2]] == [2, 0]  # the faces in use alone are kept decoded


def test_a_set_whose_training_faces_are_all_missing_fails(write_faces: Write, job: MakeJob, scheduler: Any) -> None:
    def keep_one_subject(index: int, row: dict[str, Any]) -> None:
        if row["subject"] != held_out:
            row["image"] = None

    held_out = str(load_split(job("vmnc", "evaluation", write_faces("whole"), **on_faces())).held_out.subjects[0])
    dataset = write_faces(change=keep_one_subject)
    with pytest.raises(JobFailed, match=r"^no face was found in any of the 20 training rows; look at"):
        FoldJobRunner().run(job("vmnc", "evaluation", dataset, **on_faces()), 3, scheduler())


def test_an_encoder_of_faces_on_a_table_is_refused(job: MakeJob, scheduler: Any) -> None:
    with pytest.raises(JobFailed, match=r"^data\.uri: encoder conv needs a dataset with a column 'image', but"):
        FoldJobRunner().run(job("vmnc", "evaluation", **on_faces()), 3, scheduler())
    with pytest.raises(JobFailed, match=r"model\.encoder|column 'image'"):
        load_split(job("vmnc", **on_faces()))


def test_a_flip_that_nobody_can_mirror_is_refused(write_faces: Write, job: MakeJob) -> None:
    split = load_split(job("vmnc", "evaluation", write_faces(), **on_faces()))
    config = job("vmnc", **on_faces(augmentation={"flip": 0.5})).config
    odd = replace(split.data, landmark_points=7)
    with pytest.raises(JobFailed, match=r"^training\.augmentation\.flip: landmarks must be 68, 49 or 5 points"):
        Trainer(config, split.train, odd, 0, torch.device("cpu"))
