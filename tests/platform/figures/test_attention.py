"""Attention on faces and the priors that guide it: what is drawn is what the file and the dataset hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duchenne.figures import NoData, SweepData, attention_by_head, attention_by_task, priors, read_sweep
from duchenne.figures.attention import Faces, prior_rows
from duchenne.figures.overlays import HEAT, half_area, overlap, overlay, resized
from duchenne.figures.style import save
from duchenne_jobs.config import ModelConfig, RunConfig
from duchenne_jobs.config.action_units import MULTI_PRIORS
from duchenne_jobs.data import open_dataset
from duchenne_jobs.data.synth.crops import write_crops
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.evaluation.attention import AttentionSample, write_attention

FACES, LAYERS, HEADS, TASKS, GRID = 3, 2, 4, 8, (6, 6)
GUIDANCE = [
    {"kind": "soft_prior", "prior": "parsing", "layers": "first", "heads": [["nose"], [], ["other"]]},
    {"kind": "head_to_prior", "prior": "landmarks_multi", "layers": "last"},
]


@dataclass(frozen=True)
class Drawn:
    """A finished sweep whose mtts kept its attention on drawn faces."""

    data: SweepData
    sample: AttentionSample
    file: Path


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_crops(SynthOptions("disfa", subjects=FACES, frames=9, size=48), folder)
    return open_dataset(folder)


def attention_of(queries: int) -> np.ndarray:
    scores = np.random.default_rng(0).normal(size=(FACES, LAYERS, HEADS, queries, *GRID))
    weights = np.exp(2 * scores)
    return (weights / weights.sum(axis=(-2, -1), keepdims=True)).astype(np.float16)


@pytest.fixture
def drawn(make_home: Callable[..., Any], faces: Any) -> Callable[..., Drawn]:
    def make(queries: int = TASKS, **changes: Any) -> Drawn:
        home = make_home(
            data={"uri": str(faces.uri)},
            model={"name": "mtts", "encoder": {"name": "conv"}},
            comparators=[],
            search={"trials": 1},
            folds={"count": 2, "inner": 2, "without_positives": "train"},
        )
        home.evaluate(methods=("mtts",))
        rows = faces.rows(["subject", "sequence", "frame", "labels"]).to_pylist()[:: 27 // FACES]
        config = RunConfig(model=ModelConfig.model_validate({**MTTS, "guidance": GUIDANCE}))
        fields = {
            "attention": attention_of(queries),
            "tasks": np.array(faces.tasks),
            "subjects": np.array([row["subject"] for row in rows]),
            "sequences": np.array([row["sequence"] for row in rows]),
            "frames": np.array([row["frame"] for row in rows]),
            "labels": np.array([row["labels"] for row in rows], dtype=np.int8),
            "config": config.model_dump_json(),
        }
        sample = AttentionSample(**{**fields, **changes})
        key = "evaluation-mtts-fold0-seed0"
        file = home.path / "sweeps" / home.sweep / "attention" / f"{key}.npz"
        write_attention(file, sample)
        data = read_sweep(home.store, home.sweep, home.path)
        record = replace(data.record, dataset_uri=str(faces.uri), dataset_digest=faces.digest)
        return Drawn(replace(data, record=record), sample, file)

    return make


MTTS: dict[str, Any] = {
    "name": "mtts",
    "encoder": {"name": "conv"},
    "attention": {"width": 16, "heads": HEADS, "cross_layers": LAYERS},
}


def shown(axes: Any) -> np.ndarray:
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def test_each_tile_is_the_mean_attention_of_a_task_over_its_face(drawn: Callable[..., Drawn], faces: Any) -> None:
    made = drawn()
    figure = attention_by_task(made.data)
    tiles = [axes for axes in figure.axes if axes.get_images()]
    assert len(tiles) == FACES * TASKS
    assert [axes.get_title(loc="center") for axes in tiles[:TASKS]] == list(faces.tasks)
    assert [axes.get_ylabel() for axes in tiles[::TASKS]] == [
        f"{subject}/{sequence}/{frame}"
        for subject, sequence, frame in zip(
            made.sample.subjects, made.sample.sequences, made.sample.frames, strict=True
        )
    ]
    mean = made.sample.attention[:, 0].astype(np.float64).mean(axis=1)
    highest = float(np.quantile(mean, 0.995))
    image = decoded(faces, made.sample, 1)
    np.testing.assert_allclose(shown(tiles[TASKS + 5]), overlay(image, mean[1, 5], highest))
    present = [axes.spines["left"].get_linewidth() > 1 for axes in tiles]
    assert present == (made.sample.labels == 1).flatten().tolist()
    areas = [half_area(mean[:, task]) for task in range(TASKS)]
    assert f"looks most narrowly for {faces.tasks[int(np.argmin(areas))]}:" in texts(figure)


def test_each_head_stands_alone_below_the_prior_that_guides_it(drawn: Callable[..., Drawn], faces: Any) -> None:
    made = drawn()
    figure = attention_by_head(made.data)
    tiles = [axes for axes in figure.axes if axes.get_images()]
    assert len(tiles) == TASKS * HEADS
    assert [axes.get_title(loc="center") for axes in tiles[:HEADS]] == ["1\nnose", "2\nfree", "3\nother", "4\nfree"]
    assert [axes.get_ylabel() for axes in tiles[::HEADS]] == list(faces.tasks)
    first = made.sample.attention[0, 0].astype(np.float64)
    highest = float(np.quantile(first, 0.995))
    image = decoded(faces, made.sample, 0)
    np.testing.assert_allclose(shown(tiles[7 * HEADS + 2]), overlay(image, first[2, 7], highest))
    common = overlap(first.swapaxes(0, 1))
    assert f"have {100 * common:.0f} % of their attention in common" in texts(figure)


def test_one_query_for_all_tasks_is_named_so(drawn: Callable[..., Drawn]) -> None:
    made = drawn(queries=1)
    figure = attention_by_task(made.data)
    tiles = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_title(loc="center") for axes in tiles] == ["all tasks", "", ""]
    assert all(axes.spines["left"].get_linewidth() < 1 for axes in tiles)
    heads = [axes for axes in attention_by_head(made.data).axes if axes.get_images()]
    assert [axes.get_ylabel() for axes in heads] == ["all tasks", "", "", ""]


def test_the_priors_of_landmarks_and_parsing(drawn: Callable[..., Drawn]) -> None:
    figure = priors(drawn().data)
    titles = [axes.get_title(loc="center") for axes in figure.axes if axes.get_images()]
    assert titles[:3] == ["face 1", "face 2", "face 3"]
    assert titles[3:13] == list(MULTI_PRIORS)
    assert titles[13:] == ["skin", "l_brow", "r_brow", "l_eye", "r_eye", "nose", "mouth", "u_lip", "l_lip", "other"]


def test_priors_are_made_of_what_a_face_has() -> None:
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    points = np.full((5, 2), 20, dtype=np.float32)
    five = prior_rows(Faces((image,), landmarks=(points,)), (4, 4))
    assert [row.name for row in five] == ["mono"]  # table 3.2 needs 49 or 68 points
    assert float(five[0].maps[0].sum()) == pytest.approx(1.0)
    np.testing.assert_allclose(five[0].maps[0], five[0].maps[0].T)
    lost = Faces((image, image), landmarks=(np.full((49, 2), np.nan, dtype=np.float32), np.ones((49, 2), np.float32)))
    assert [(row.name, len(row.maps)) for row in prior_rows(lost, (4, 4))] == [("mono", 1), ("multi", 10)]
    parsing = np.zeros((40, 40), dtype=np.uint8)
    parsing[:, 20:] = 1
    (row,) = prior_rows(Faces((image,), parsing=(parsing,), parsing_classes=("hair", "nose")), (1, 2))
    assert row.names == ("nose", "other")
    assert [weights.tolist() for weights in row.maps] == [[[0.0, 1.0]], [[1.0, 0.0]]]
    assert prior_rows(Faces((image,)), (4, 4)) == []


def test_figures_have_the_same_bytes_again(drawn: Callable[..., Drawn], tmp_path: Path) -> None:
    made = drawn(queries=1)
    first = save(attention_by_task(made.data), tmp_path / "a", "attention")
    second = save(attention_by_task(made.data), tmp_path / "b", "attention")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_what_is_missing_is_said(drawn: Callable[..., Drawn]) -> None:
    made = drawn()
    changed = replace(made.data, record=replace(made.data.record, dataset_digest="sha256:other"))
    with pytest.raises(NoData, match="has changed since the sweep"):
        attention_by_task(changed)
    gone = replace(made.data, record=replace(made.data.record, dataset_uri="nowhere"))
    with pytest.raises(NoData, match="the faces can't be read: no dataset at"):
        priors(gone)
    lone = drawn(attention=attention_of(TASKS)[:, :, :1])
    with pytest.raises(NoData, match="a comparison of heads needs two"):
        attention_by_head(lone.data)
    other = drawn(frames=np.array([9999] * FACES))
    with pytest.raises(NoData, match="has no row SN001/SN001/9999"):
        attention_by_task(other.data)
    made.file.write_bytes(b"half a file")
    with pytest.raises(NoData, match="kept its attention"):
        attention_by_task(made.data)


def test_weights_are_resized_between_the_centres_of_patches() -> None:
    weights = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(resized(weights, 2, 8), [[0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1]] * 2)
    np.testing.assert_allclose(resized(weights, 1, 2), weights)


def test_an_overlay_shows_the_face_where_there_is_no_attention() -> None:
    face = np.full((4, 8, 3), 200, dtype=np.uint8)
    picture = overlay(face, np.array([[0.0, 0.0, 0.0, 0.5]]), highest=0.25)
    np.testing.assert_allclose(picture[:, 0], 200 / 255)
    np.testing.assert_allclose(picture[:, -1], np.tile(0.15 * 200 / 255 + 0.85 * np.array(HEAT(1.0)[:3]), (4, 1)))


def test_measures_by_hand() -> None:
    assert half_area(np.full((2, 2), 0.25)) == 0.5
    assert half_area(np.array([[[0.6, 0.2, 0.1, 0.1]], [[0.3, 0.3, 0.2, 0.2]]])) == pytest.approx((1 / 4 + 2 / 4) / 2)
    heads = np.array([[[0.5, 0.5, 0.0]], [[0.0, 0.5, 0.5]], [[0.5, 0.5, 0.0]]])
    assert overlap(heads) == pytest.approx((0.5 + 1.0 + 0.5) / 3)


def decoded(faces: Any, sample: AttentionSample, place: int) -> np.ndarray:
    """The stored image of a face, by another decoder than the figure's."""
    from io import BytesIO

    from PIL import Image

    for row in faces.rows(subjects=[str(sample.subjects[place])]).to_pylist():
        if (row["sequence"], row["frame"]) == (sample.sequences[place], sample.frames[place]):
            return np.asarray(Image.open(BytesIO(row["image"])).convert("RGB"))
    raise AssertionError("no such row")


def texts(figure: Any) -> str:
    return " ".join(text.get_text() for text in figure.texts)
