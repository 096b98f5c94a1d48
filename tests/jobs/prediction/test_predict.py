"""One row a frame, whatever the source: by name, in order, empty where there is no face, with pictures on demand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from duchenne_jobs.data import Dataset, DatasetError, materialise, open_dataset
from duchenne_jobs.data.faces import align
from duchenne_jobs.data.faces.video import read_video
from duchenne_jobs.data.manifest import Crop
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.data.synth.raw import synthesise
from duchenne_jobs.models import DataDescription, Inputs
from duchenne_jobs.prediction import PredictionError
from duchenne_jobs.prediction.faces import FaceCutter, detector_of
from duchenne_jobs.prediction.networks import Ensemble, load_ensemble
from duchenne_jobs.prediction.predict import open_source, predict_source
from duchenne_jobs.prediction.sources import CHUNK_ROWS
from duchenne_jobs.training.checkpoint import load_checkpoint, save_checkpoint
from duchenne_jobs.training.faces import FaceStore

Trained = Callable[..., list[Path]]
CPU = torch.device("cpu")
HALF = np.full(3, 0.5)
TASKS = ("AU1", "AU12", "AU25")
VALUES = [name for task in TASKS for name in (task, f"{task}_decision")]


@pytest.fixture(scope="module")
def ensemble(faces: Dataset, trained: Trained) -> Ensemble:
    conv = {"name": "conv", "layers": 1, "width": 16, "stride": 8}
    return load_ensemble(trained(faces, {"name": "vmnc", "encoder": conv, "hidden_size": 8}, folds=(0, 1)), CPU)


@pytest.fixture
def detector(tmp_path: Path) -> str:
    """An ONNX detector whose face is the middle of every picture that is not dark."""
    score = helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)
    nodes = [
        score,
        helper.make_node("Add", ["mean", "offset"], ["brighter"]),
        helper.make_node("Mul", ["brighter", "slope"], ["steep"]),
        helper.make_node("Sigmoid", ["steep"], ["score"]),
        helper.make_node("Reshape", ["score", "shape"], ["scores"]),
        helper.make_node("Identity", ["box"], ["boxes"]),
    ]
    constants = [
        helper.make_tensor("offset", TensorProto.FLOAT, [], [0.8]),
        helper.make_tensor("slope", TensorProto.FLOAT, [], [50.0]),
        helper.make_tensor("shape", TensorProto.INT64, [3], [1, 1, 1]),
        helper.make_tensor("box", TensorProto.FLOAT, [1, 1, 4], [0.25, 0.25, 0.75, 0.75]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 1]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 4]),
        ],
        constants,
    )
    path = tmp_path / "detector.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return str(path)


def write_video(path: Path, pictures: list[np.ndarray], rate: int = 20) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[task]) for task in TASKS] for row in rows])


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [
        np.full((height, width, 3), 120, np.uint8) + random.integers(0, 100, (height, width, 3), np.uint8)
        for _ in range(count)
    ]


def test_a_dataset_gives_a_row_for_each_of_its_rows(faces: Dataset, ensemble: Ensemble, tmp_path: Path) -> None:
    source = open_source(faces.uri, ensemble)
    seen: list[tuple[int, int | None]] = []
    done = predict_source(ensemble, source, tmp_path / "out.csv", HALF, progress=lambda *at: seen.append(at))
    rows = read(tmp_path / "out.csv")
    assert (done.rows, done.seen) == (32, 28)
    assert seen == [(32, 32)]
    assert list(rows[0]) == ["subject", "sequence", "frame", "face", *VALUES]
    assert [(row["subject"], row["frame"]) for row in rows] == [(f"S{s}", str(f)) for s in range(4) for f in range(8)]
    store = FaceStore(faces)
    images = store.batch(np.flatnonzero(store.has_face)).require("images").float() / 255
    with_face = [row for row in rows if row["face"] == "1"]
    expected = torch.stack([member(Inputs(images=images)) for member in ensemble.members]).mean(0).numpy()
    np.testing.assert_allclose(numbers(with_face), expected, atol=1e-5)
    assert [[row[f"{task}_decision"] for task in TASKS] for row in with_face] == [
        [str(int(value)) for value in line] for line in expected >= 0.5
    ]
    for row in rows:
        if row["frame"] == "4":
            assert row["face"] == "0"
            assert {row[name] for name in VALUES} == {""}


def test_thresholds_decide_task_by_task(faces: Dataset, ensemble: Ensemble, tmp_path: Path) -> None:
    predict_source(ensemble, open_source(faces.uri, ensemble), tmp_path / "out.csv", np.array([0.0, 1.0, 0.0]))
    decided = {tuple(row[f"{task}_decision"] for task in TASKS) for row in read(tmp_path / "out.csv")}
    assert decided == {("1", "0", "1"), ("", "", "")}


def test_a_folder_in_natural_order_gives_what_its_dataset_gives(
    faces: Dataset, ensemble: Ensemble, tmp_path: Path
) -> None:
    table = faces.rows(["image"])["image"].to_pylist()
    folder = tmp_path / "images"
    folder.mkdir()
    for index in (0, 2, 10):
        (folder / f"face{index}.png").write_bytes(table[index])
    (folder / "notes.txt").write_text("not an image")
    predict_source(ensemble, open_source(str(folder), ensemble), tmp_path / "folder.csv", HALF)
    predict_source(ensemble, open_source(faces.uri, ensemble), tmp_path / "dataset.csv", HALF)
    rows = read(tmp_path / "folder.csv")
    assert [row["image"] for row in rows] == ["face0.png", "face2.png", "face10.png"]
    of_dataset = read(tmp_path / "dataset.csv")
    np.testing.assert_allclose(numbers(rows), numbers([of_dataset[index] for index in (0, 2, 10)]), atol=1e-6)


def test_a_face_is_cut_out_as_at_ingest(detector: str) -> None:
    crop = Crop(size=40, enlarge=1.2, aligned_by="landmarks")
    data = DataDescription(tasks=TASKS, image_size=(40, 40))
    frame = pictures(1, 100, 140)[0]
    face = FaceCutter(crop, data, detector).cut(frame)
    assert face is not None
    # The detector's box is half of each side, 70 x 50, around (70, 50).
    matrix = align.crop_matrix(align.FaceSquare(70, 50, 70), 40, 1.2)
    assert np.array_equal(face.image.permute(1, 2, 0).numpy(), align.crop_image(frame, matrix, 40))
    np.testing.assert_allclose(np.ptp(face.outline, axis=0), 70 * 1.2)
    assert FaceCutter(crop, data, detector).cut(np.zeros_like(frame)) is None
    whole = FaceCutter(crop, data).cut(frame)
    assert whole is not None
    assert np.ptp(whole.outline[:, 0]) == pytest.approx(140)


@pytest.mark.parametrize(
    ("aligned_by", "of_folder", "of_video"),
    [(None, "none", "haar"), ("source", "none", "haar"), ("haar", "haar", "haar"), ("landmarks", "haar", "haar")],
)
def test_faces_are_found_as_at_ingest(aligned_by: str | None, of_folder: str, of_video: str) -> None:
    crop = None if aligned_by is None else Crop(size=40, enlarge=1.2, aligned_by=aligned_by)
    assert (detector_of(crop, is_video=False), detector_of(crop, is_video=True)) == (of_folder, of_video)


def test_a_network_of_drawn_crops_frames_a_drawn_video_alike(trained: Trained, tmp_path: Path) -> None:
    """The video and a folder of its frames show head and shoulders: faces are found and cut as large as the crops."""
    crops = open_dataset(materialise("builtin://faces?subjects=4&frames=4&size=48", tmp_path))
    conv = {"name": "conv", "layers": 1, "width": 16, "stride": 8}
    ensemble = load_ensemble(trained(crops, {"name": "vmnc", "encoder": conv, "hidden_size": 8}, epochs=1), CPU)
    assert ensemble.crop == crops.manifest.crop
    raw = synthesise(SynthOptions(like="disfa", subjects=1, frames=4, size=256), tmp_path / "raw", workers=1)
    video = raw / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
    folder = tmp_path / "frames"
    folder.mkdir()
    cutter = FaceCutter(ensemble.crop, ensemble.data, detector_of(ensemble.crop, is_video=False))
    for frame, points in zip(read_video(video), np.load(raw / "landmarks" / "SN001.npy"), strict=True):
        Image.fromarray(frame.pixels).save(folder / f"{frame.number}.png")
        face = cutter.cut(frame.pixels)
        assert face is not None
        corner, right, _, below = face.outline
        eyes = np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0)])
        shares = np.linalg.solve(np.stack([right - corner, below - corner], axis=1), (eyes - corner).T).T
        # Drawn crops have the eyes at 0.345 and 0.655 of the width and 0.34 of the height.
        np.testing.assert_allclose(shares[:, 0], [0.345, 0.655], atol=0.03)
        np.testing.assert_allclose(shares[:, 1], 0.34, atol=0.03)
    written = []
    for source in (video, folder):
        done = predict_source(ensemble, open_source(str(source), ensemble), tmp_path / "out.csv", np.full(8, 0.5))
        assert (done.rows, done.seen) == (4, 4)
        written.append([[row[task] for task in crops.tasks] for row in read(tmp_path / "out.csv")])
    assert written[0] == written[1]


def test_a_detector_model_has_to_be_named() -> None:
    crop = Crop(size=40, enlarge=1.2, aligned_by="face.onnx sha256:12")
    with pytest.raises(
        PredictionError, match=r"^the training faces were found by face\.onnx sha256:12; name that file by"
    ):
        detector_of(crop, is_video=True)


def test_a_video_keeps_frames_without_a_face(ensemble: Ensemble, detector: str, tmp_path: Path) -> None:
    frames = pictures(2 * CHUNK_ROWS + 6)
    for index in range(30, 36):
        frames[index] = np.zeros_like(frames[index])
    video = write_video(tmp_path / "video.mp4", frames)
    source = open_source(str(video), ensemble, detector)
    assert source.total == len(frames)
    assert all(len(chunk.rows) <= CHUNK_ROWS and chunk.rows[0].frame is None for chunk in source.chunks(frames=False))
    done = predict_source(ensemble, source, tmp_path / "out.csv", HALF, overlay=tmp_path / "drawn.mp4")
    rows = read(tmp_path / "out.csv")
    assert (done.rows, done.seen) == (len(frames), len(frames) - 6)
    assert [int(row["frame"]) for row in rows] == list(range(1, len(frames) + 1))
    assert float(rows[20]["seconds"]) == pytest.approx(1.0)
    assert [index for index, row in enumerate(rows) if row["face"] == "0"] == list(range(30, 36))
    assert {row[name] for row in rows[30:36] for name in VALUES} == {""}
    assert np.ptp(numbers(rows[:30]), axis=0).min() > 0
    with av.open(str(tmp_path / "drawn.mp4")) as container:
        drawn = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(drawn) == len(frames)
    assert drawn[0].shape == frames[0].shape
    corner = (slice(2, 20), slice(2, 20))  # the bars' dark ground, over noise about 170
    assert drawn[0][corner].mean() < frames[0][corner].mean() - 20


def test_a_folder_is_drawn_into_a_folder(ensemble: Ensemble, detector: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, picture in zip(("a.png", "b.jpg"), pictures(2, 200, 240), strict=True):
        Image.fromarray(picture).save(folder / name)
    source = open_source(str(folder), ensemble, detector)
    predict_source(ensemble, source, tmp_path / "out.csv", HALF, overlay=tmp_path / "drawn")
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a.png", "b.jpg.png"]
    with pytest.raises(
        PredictionError, match=r"^--overlay .*drawn\.mp4: pictures of a folder or dataset go to a folder"
    ):
        predict_source(ensemble, source, tmp_path / "out.csv", HALF, overlay=tmp_path / "drawn.mp4")


def test_a_table_of_features(toy: Dataset, trained: Trained, tmp_path: Path) -> None:
    ensemble = load_ensemble(trained(toy, {"name": "monet", "orders": {"count": 6}, "hidden_size": 8}), CPU)
    predict_source(ensemble, open_source(toy.uri, ensemble), tmp_path / "out.csv", HALF)
    rows = read(tmp_path / "out.csv")
    assert len(rows) == 60
    assert list(rows[0])[:3] == ["subject", "face", "task1"]
    features = torch.tensor(toy.rows(["features"])["features"].to_pylist())
    expected = ensemble(Inputs(features=features)).numpy()
    found = np.array([[float(row[f"task{index}"]) for index in (1, 2, 3)] for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(PredictionError, match=r"^--overlay needs pictures, but a tabular dataset has none"):
        predict_source(ensemble, open_source(toy.uri, ensemble), tmp_path / "out.csv", HALF, overlay=tmp_path / "drawn")
    with pytest.raises(PredictionError, match=r"^these networks look at features, but .* is no dataset"):
        open_source(str(tmp_path), ensemble)


def test_what_is_no_source_is_refused(ensemble: Ensemble, toy: Dataset, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for uri, said in (
        (str(tmp_path / "nothing.mp4"), r"^there is no .*nothing\.mp4; name a video, a folder of images or a dataset$"),
        (str(tmp_path / "text.mp4"), r"text\.mp4 is no video that can be opened"),
        (str(tmp_path / "empty"), "empty holds no image"),
        (toy.uri, r"^these networks look at a column 'image', but .* has subject"),
    ):
        with pytest.raises(PredictionError, match=said):
            open_source(uri, ensemble)


def test_nothing_is_left_of_a_prediction_that_failed(ensemble: Ensemble, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(pictures(1)[0]).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (tmp_path / "out.csv").write_text("of an earlier run")
    with pytest.raises(DatasetError, match=r"b\.png can't be decoded"):
        predict_source(ensemble, open_source(str(folder), ensemble), tmp_path / "out.csv", HALF)
    assert (tmp_path / "out.csv").read_text() == "of an earlier run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.csv"]


def test_a_checkpoint_that_is_lost_or_damaged_is_named(toy: Dataset, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(
        PredictionError, match=r"gone\.pt: the network's checkpoint is missing or damaged; run its sweep"
    ):
        load_ensemble([tmp_path / "gone.pt"], CPU)
    (path,) = trained(toy, {"name": "vmnc"})
    state = load_checkpoint(path)
    assert state is not None
    old = tmp_path / f"old{path.suffix}"
    save_checkpoint(old, {key: value for key, value in state.items() if key != "data"})
    with pytest.raises(PredictionError, match=r"old\.\w+ does not say what its network was built for"):
        load_ensemble([old], CPU)
