"""What is refused before anything is spent, and what the records keep of the data."""

from __future__ import annotations

import hashlib
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from duchenne.clusters.local import TooSmall
from duchenne.driver.prepare import prepare_data
from duchenne.spec import Sweep
from duchenne_jobs.data import DatasetError, DatasetWriter, Description, FoldError, ingest, make_folds

TASKS = ("AU1", "AU2")


def sweep_on(uri: str, **sections: Any) -> Sweep:
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s"},
            "data": {"uri": uri},
            "budget": {"wall_seconds": 60},
            **sections,
        }
    )


def write(place: Path, subjects: list[str], labels: list[list[int]], features: bool = True) -> None:
    columns = ("subject", "labels", "features") if features else ("subject", "labels")
    description = Description(
        name="d",
        tasks=TASKS,
        columns=columns,
        feature_names=("x",) if features else None,
        licence="none",
        consent="none",
    )
    with DatasetWriter(place, description) as writer:
        writer.write_rows(
            [
                {"subject": subject, "labels": row} | ({"features": [0.5]} if features else {})
                for subject, row in zip(subjects, labels, strict=True)
            ]
        )


def test_the_same_data_and_folds_have_the_same_digests(tmp_path: Path) -> None:
    ingest("toy", None, tmp_path / "a", count=30)
    ingest("toy", None, tmp_path / "b", count=30)
    first = prepare_data(sweep_on(str(tmp_path / "a")), tmp_path)
    second = prepare_data(sweep_on(str(tmp_path / "b")), tmp_path)
    assert first.dataset_digest == second.dataset_digest
    assert first.folds_digest == second.folds_digest
    assert first.uri == str(tmp_path / "a")


@pytest.mark.parametrize("folds", [{"seed": 1}, {"count": 4}, {"inner": 2}])
def test_other_folds_have_another_digest(tmp_path: Path, folds: dict[str, int]) -> None:
    ingest("toy", None, tmp_path / "a", count=30)
    usual = prepare_data(sweep_on(str(tmp_path / "a")), tmp_path)
    other = prepare_data(sweep_on(str(tmp_path / "a"), folds=folds), tmp_path)
    assert usual.folds_digest != other.folds_digest


def test_a_builtin_is_made_once_below_the_home(tmp_path: Path) -> None:
    data = prepare_data(sweep_on("builtin://toy?count=30"), tmp_path)
    assert Path(data.uri).is_relative_to(tmp_path / "datasets")
    assert prepare_data(sweep_on("builtin://toy?count=30"), tmp_path) == data


def test_a_relative_path_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest("toy", None, tmp_path / "a", count=30)
    monkeypatch.chdir(tmp_path)
    assert prepare_data(sweep_on("a"), tmp_path).uri == str(tmp_path / "a")


def test_more_folds_than_subjects_are_refused_with_both_numbers(tmp_path: Path) -> None:
    write(tmp_path / "d", ["a", "a", "b"], [[0, 1]] * 3)
    with pytest.raises(FoldError, match=r"3.*2|2.*3"):
        prepare_data(sweep_on(str(tmp_path / "d")), tmp_path)


def test_too_few_subjects_for_the_inner_folds_are_refused_too(tmp_path: Path) -> None:
    write(tmp_path / "d", ["a", "b", "c"], [[0, 1]] * 3)
    with pytest.raises(FoldError, match="inner"):
        prepare_data(sweep_on(str(tmp_path / "d")), tmp_path)


def test_a_dataset_without_features_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d", ["a", "b", "c", "d"], [[0, 1]] * 4, features=False)
    with pytest.raises(DatasetError, match=r"features"):
        prepare_data(sweep_on(str(tmp_path / "d")), tmp_path)


@pytest.mark.parametrize("place", ["model.encoder", "comparators[0]"])
def test_weights_that_are_missing_or_others_are_refused_before_any_training(tmp_path: Path, place: str) -> None:
    file = tmp_path / "weights.pt"

    def sweep(**more: str) -> Sweep:
        encoder = {"name": "inception_resnet_v1", "weights": str(file), **more}
        own = {"name": "vmnc", "encoder": encoder if place == "model.encoder" else {"name": "conv"}}
        variant = {"name": "other", "change": {"model.encoder": encoder}}
        faces = "builtin://faces?subjects=6&frames=4&size=80"
        sections = {
            "folds": {"without_positives": "train"},
            "comparators": [variant] if place != "model.encoder" else [],
        }
        return sweep_on(faces, model=own, **sections)

    with pytest.raises(
        DatasetError, match=rf"^{re.escape(place)}: .*weights\.pt: there is no such file of weights; co"
    ):
        prepare_data(sweep(), tmp_path)
    file.write_bytes(b"weights")
    with pytest.raises(DatasetError, match=rf"^{re.escape(place)}: .*weights\.pt: its SHA-256 must be model\.encoder"):
        prepare_data(sweep(weights_sha256="0" * 64), tmp_path)
    prepare_data(sweep(weights_sha256=hashlib.sha256(b"weights").hexdigest()), tmp_path)


def test_stored_images_that_the_encoder_can_not_take_are_refused(tmp_path: Path) -> None:
    """This manifest doesn't say how large the images are: the first of them does."""
    description = Description(
        name="d", tasks=TASKS, columns=("subject", "image", "labels"), licence="none", consent="none"
    )
    picture = BytesIO()
    Image.new("RGB", (60, 64)).save(picture, "PNG")
    with DatasetWriter(tmp_path / "d", description) as writer:
        writer.write_rows(
            [
                {"subject": name, "image": None if name == "a" else picture.getvalue(), "labels": [1, 1]}
                for name in "abcdef"
            ]
        )
    model = {"name": "vmnc", "encoder": {"name": "conv"}}
    with pytest.raises(
        DatasetError, match=r"^model\.encoder: the encoder takes .* of 8, and .* images are 64 x 60, got"
    ):
        prepare_data(sweep_on(str(tmp_path / "d"), model=model), tmp_path)
    model["encoder"] |= {"stride": 4}  # type: ignore[operator]
    prepare_data(sweep_on(str(tmp_path / "d"), model=model), tmp_path)


def test_a_chain_on_unknown_labels_is_refused_before_the_search(tmp_path: Path) -> None:
    write(tmp_path / "d", list("abcdefgh"), [[1, 1]] * 7 + [[-1, 1]])
    with pytest.raises(DatasetError, match=r"classifier_chain needs every label, but 1 are unknown"):
        prepare_data(sweep_on(str(tmp_path / "d"), comparators=["classifier_chain"]), tmp_path)
    prepare_data(sweep_on(str(tmp_path / "d"), comparators=["logistic_regression"]), tmp_path)


def test_a_task_without_a_positive_in_a_training_set_is_refused_by_name(tmp_path: Path) -> None:
    rare = [[1, 1]] + [[0, 1]] * 8
    write(tmp_path / "d", list("abcdefghi"), rare)
    place = next(
        fold.index for fold in make_folds("abcdefghi", 3, 0).folds if "a" in fold.test
    )  # whoever tests on the only subject with AU1 trains without it
    with pytest.raises(FoldError, match=rf"AU1 has none in that of fold {place}; .* folds\.without_positives to train"):
        prepare_data(sweep_on(str(tmp_path / "d")), tmp_path)
    prepare_data(sweep_on(str(tmp_path / "d"), folds={"without_positives": "train"}), tmp_path)


def test_balanced_folds_have_a_digest_of_their_own(tmp_path: Path) -> None:
    ingest("toy", None, tmp_path / "a", count=60)
    usual = prepare_data(sweep_on(str(tmp_path / "a")), tmp_path)
    balanced = prepare_data(sweep_on(str(tmp_path / "a"), folds={"method": "balanced"}), tmp_path)
    assert balanced == prepare_data(sweep_on(str(tmp_path / "a"), folds={"method": "balanced"}), tmp_path)
    assert balanced.folds_digest != usual.folds_digest


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"workers_per_fold": 1000}, r"folds\.workers_per_fold: .* got 1000; lower it"),
        ({"resources": {"gpu": 64}}, r"folds\.resources\.gpu: a worker needs 64 GPU, but this machine has"),
    ],
)
def test_what_this_machine_can_not_run_is_refused(tmp_path: Path, folds: dict[str, Any], message: str) -> None:
    with pytest.raises(TooSmall, match=message):
        prepare_data(sweep_on("builtin://toy?count=30", folds=folds), tmp_path)
