"""A dataset that lacks what an encoder, a comparator or a flip looks at is refused with the field's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duchenne.spec import SpecError, Sweep, load_sweep, notes
from duchenne.spec.inputs import DataColumns, input_faults
from duchenne_jobs.data import DatasetWriter, Description, LandmarkScheme
from duchenne_jobs.data.manifest import Crop, Partitions

TABLE = DataColumns(("subject", "labels", "features"), None)
FACES = DataColumns(("subject", "image", "landmarks", "labels"), 49)


def sweep(**sections: Any) -> Sweep:
    head = {"apiVersion": "duchenne/v1", "kind": "Sweep", "metadata": {"name": "s"}, "budget": {"wall_seconds": 60}}
    return Sweep.model_validate(head | {"data": {"uri": "some/folder"}} | sections)


def refusals(data: DataColumns, **sections: Any) -> list[str]:
    return [fault.located for fault in input_faults(sweep(**sections), data)]


def conv(**encoder: Any) -> dict[str, Any]:
    return {"name": "vmnc", "encoder": {"name": "conv"} | encoder}


def test_data_that_has_everything_passes() -> None:
    assert refusals(TABLE, comparators=["classifier_chain"]) == []
    assert refusals(FACES, model=conv(), training={"augmentation": {"flip": 0.5}}) == []


def test_an_encoder_of_faces_on_a_table() -> None:
    assert refusals(TABLE, model=conv()) == [
        "model.encoder.name: encoder conv needs a dataset with a column 'image', and this one has subject, labels, "
        "features, got conv, choose another encoder or dataset"
    ]


def test_an_encoder_of_features_and_a_comparator_on_faces() -> None:
    encoder, comparator = refusals(FACES, comparators=["vmns", "logistic_regression"])
    assert encoder.startswith("model.encoder.name: encoder features needs a dataset with a column 'features', and this")
    assert comparator.startswith("comparators[1]: logistic_regression needs a dataset with a column 'features', and")


def test_an_encoder_that_the_search_draws() -> None:
    drawn = {"space": {"model.encoder": {"choice": [{"name": "features"}, {"name": "conv"}]}}, "trials": 2}
    (said,) = refusals(TABLE, model={"name": "vmnc"}, search=drawn)
    assert said.startswith("search.space.model.encoder: encoder conv needs a dataset with a column 'image'")


def test_images_that_an_encoder_can_not_take() -> None:
    small = DataColumns(FACES.names, 49, (64, 60))
    (said,) = refusals(small, model=conv())
    assert said == (
        "model.encoder: the encoder takes sides of 8 pixels or more, multiples of 8, and this dataset's images are "
        "64 x 60, got conv, set its image_size"
    )
    assert refusals(small, model=conv(image_size=56)) == []
    drawn = {"space": {"model.encoder.stride": {"choice": [4, 32]}}, "trials": 2}
    (said,) = refusals(small, model=conv(stride=4), search=drawn)
    assert said.startswith("search.space.model.encoder.stride.choice[1]: the encoder takes sides of 32 pixels or more")
    variant = [{"name": "deep", "change": {"model.encoder": {"name": "inception_v3"}}}]
    (said,) = refusals(small, model=conv(stride=4), comparators=variant)
    assert said.startswith("comparators[0]: the encoder takes sides of 75 pixels or more, and this dataset's images")


def test_a_builtin_says_how_large_its_images_are(tmp_path: Path) -> None:
    path = tmp_path / "S.yaml"
    head = "apiVersion: duchenne/v1\nkind: Sweep\nmetadata: {name: s}\nbudget: {wall_seconds: 60}\n"
    path.write_text(
        f"{head}data: {{uri: 'builtin://faces?size=64'}}\nmodel: {{name: vmnc, encoder: {{name: inception_v3}}}}\n"
    )
    with pytest.raises(
        SpecError, match=r"S\.yaml:6: model\.encoder: the encoder takes sides of 75 pixels or more, and"
    ):
        load_sweep(path)


def test_a_flip_of_landmarks_that_nobody_can_mirror() -> None:
    guided = conv() | {"guidance": [{"kind": "pal", "prior": "landmarks_mono"}]}
    odd = DataColumns(FACES.names, 21)
    augmented = {"augmentation": {"flip": 0.5}}
    assert refusals(odd, model=guided) == []
    assert refusals(odd, model=conv(), training=augmented) == []  # a network that looks at no landmarks
    assert refusals(odd, model=guided, training=augmented) == [
        "training.augmentation.flip: landmarks can be mirrored where they are 5, 49, 68 points, got 21 points, set "
        "flip to 0"
    ]


@pytest.mark.parametrize("there", [True, False])
def test_validate_looks_at_a_manifest_that_is_there(there: bool, tmp_path: Path) -> None:
    description = Description(
        name="faces",
        tasks=("AU1",),
        columns=("subject", "image", "landmarks", "labels"),
        landmark_scheme=LandmarkScheme(name="ibug-49", points=49),
        licence="none",
        consent="none",
    )
    if there:
        with DatasetWriter(tmp_path / "data", description) as writer:
            writer.write_rows([{"subject": f"S{i}", "image": None, "landmarks": None, "labels": [1]} for i in range(9)])
    path = tmp_path / "S.yaml"
    path.write_text(
        "apiVersion: duchenne/v1\nkind: Sweep\nmetadata: {name: s}\n"
        f"data: {{uri: {tmp_path / 'data'}}}\nbudget: {{wall_seconds: 60}}\n"
    )
    if not there:
        load_sweep(path)
        return
    with pytest.raises(SpecError, match=r"model\.encoder\.name: encoder features needs a dataset with a column"):
        load_sweep(path)


@pytest.mark.parametrize(
    ("partitions", "folds", "message"),
    [
        (Partitions(train="train", validation="valid", test="test"), "", None),
        (Partitions(train="train", test="test"), ", validation: 0.1", None),
        (None, "", r"S\.yaml:6: folds\.method: a partition is that of a dataset's owners, and this one has none"),
        (
            Partitions(train="train", validation="valid", test="test"),
            ", validation: 0.1",
            r"S\.yaml:6: folds\.validation: a share validates where the owners have no validation partition, and",
        ),
        (
            Partitions(train="train", test="test"),
            "",
            r"folds\.validation: the owners of faces have no validation partition, add the share of the training",
        ),
    ],
)
def test_a_partition_is_that_of_the_manifest(
    partitions: Partitions | None, folds: str, message: str | None, tmp_path: Path
) -> None:
    description = Description(
        name="faces",
        tasks=("AU1",),
        columns=("subject", "sequence", "image", "labels"),
        partitions=partitions,
        crop=Crop(size=1000, enlarge=1.3, aligned_by="source"),
        licence="none",
        consent="none",
    )
    with DatasetWriter(tmp_path / "data", description) as writer:
        writer.write_rows([{"subject": f"S{i}", "sequence": "train", "image": None, "labels": [1]} for i in range(9)])
    path = tmp_path / "S.yaml"
    path.write_text(
        "apiVersion: duchenne/v1\nkind: Sweep\nmetadata: {name: s}\nmodel: {name: vmnc, encoder: {name: conv}}\n"
        f"data: {{uri: {tmp_path / 'data'}, cache: decoded, cache_gb: 0.02}}\nfolds: {{method: partition{folds}}}\n"
        "budget: {wall_seconds: 60}\n"
    )
    if message is None:
        said = [note for note in notes(load_sweep(path)) if note.startswith("data.")]
        assert said == [
            "data.cache_gb: the decoded faces take 0.0 GB and 0.02 are allowed; those that don't fit are decoded each "
            "time"
        ]
        return
    with pytest.raises(SpecError, match=message):
        load_sweep(path)
