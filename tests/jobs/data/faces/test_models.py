"""Detectors and parsers: OpenCV's cascade on a photograph, and ONNX models made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from duchenne_jobs.data import DatasetError
from duchenne_jobs.data.faces.align import crop_matrix, move_points, square_of_anchors
from duchenne_jobs.data.faces.detect import HaarDetector, OnnxDetector, open_detector
from duchenne_jobs.data.faces.landmarks import anchors, to_49
from duchenne_jobs.data.faces.parse import CLASS_ORDERS, OnnxParser, class_names
from duchenne_jobs.data.synth.actions import perform
from duchenne_jobs.data.synth.anatomy import make_subject
from duchenne_jobs.data.synth.render import Studio, camera_framing


def save_model(
    path: Path, outputs: dict[str, Any], size: tuple[Any, Any] = (32, 32), metadata: dict[str, str] | None = None
) -> Path:
    """A model that ignores its image and gives `outputs`; with the output `mean`, the mean of each input channel."""
    nodes, infos, constants = [], [], []
    for name, value in outputs.items():
        if name == "mean":
            nodes.append(helper.make_node("ReduceMean", ["image"], [name], axes=[2, 3], keepdims=1))
            infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 1, 1]))
            continue
        constants.append(numpy_helper.from_array(value, f"{name}_value"))
        nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
        infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph(nodes, "test", [image], infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def candidates(points: bool) -> dict[str, Any]:
    """Three candidates: a large one that scores low, a small and a middle one that score high."""
    boxes = np.array([[0, 0, 1, 1], [0.4, 0.4, 0.5, 0.5], [0.25, 0.5, 0.5, 0.75]], np.float32)[None]
    scores = np.array([[0.8, 0.2], [0.05, 0.95], [0.2, 0.8]], np.float32)[None]
    found: dict[str, Any] = {"scores": scores, "boxes": boxes}
    if points:
        five = [0.3, 0.55, 0.45, 0.55, 0.375, 0.6, 0.32, 0.7, 0.43, 0.7]
        found["points"] = np.array([five] * 3, np.float32)[None]
    return found


def test_an_onnx_detector_takes_the_largest_likely_face(tmp_path: Path) -> None:
    detector = open_detector(str(save_model(tmp_path / "d.onnx", candidates(points=False))))
    square = detector.find(np.zeros((400, 800, 3), np.uint8))
    assert square is not None
    assert (square.x, square.y, square.side, square.angle) == pytest.approx((300, 250, 200, 0))


def test_an_onnx_detector_with_points_levels_the_eyes(tmp_path: Path) -> None:
    outputs = candidates(points=True)
    outputs["points"][..., 3] += 0.05  # the right eye is lower
    square = OnnxDetector(save_model(tmp_path / "d.onnx", outputs)).find(np.zeros((400, 400, 3), np.uint8))
    assert square is not None
    assert square.angle == pytest.approx(np.arctan2(0.05, 0.15), abs=1e-5)


def test_no_candidate_is_likely(tmp_path: Path) -> None:
    outputs = candidates(points=False)
    outputs["scores"][..., 1] = 0.3
    assert OnnxDetector(save_model(tmp_path / "d.onnx", outputs)).find(np.zeros((40, 40, 3), np.uint8)) is None


def test_detectors_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a detector is 'haar' or a file that ends in \.onnx, but got 'yolo'"):
        open_detector("yolo")
    with pytest.raises(DatasetError, match="no ONNX model at"):
        open_detector(str(tmp_path / "gone.onnx"))
    (tmp_path / "text.onnx").write_text("no model", encoding="utf-8")
    with pytest.raises(DatasetError, match="is no model that onnxruntime opens"):
        open_detector(str(tmp_path / "text.onnx"))
    only = save_model(tmp_path / "only.onnx", {"scores": candidates(points=False)["scores"]})
    with pytest.raises(DatasetError, match=r"a detector gives scores .* but this one gives \(1, 3, 2\)"):
        open_detector(str(only)).find(np.zeros((40, 40, 3), np.uint8))


def test_the_cascade_finds_the_face_of_a_photograph_and_its_tilt() -> None:
    image = np.asarray(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB"))
    detector = HaarDetector()
    square = detector.find(image)
    assert square is not None
    eyes_nose_and_mouth = np.array([[219, 190], [308, 190], [262, 238], [236, 280], [292, 280]])  # read off the picture
    true = square_of_anchors(eyes_nose_and_mouth)
    assert true is not None
    assert np.hypot(square.x - true.x, square.y - true.y) < 12
    assert square.side == pytest.approx(true.side, rel=0.1)
    turn = cv2.getRotationMatrix2D((265, 216), -12, 1.0)  # clockwise
    tilted = detector.find(cv2.warpAffine(image, turn, image.shape[1::-1]))
    assert tilted is not None
    assert np.hypot(tilted.x - 260, tilted.y - 234) < 20
    assert np.degrees(tilted.angle) == pytest.approx(12, abs=5)


def test_a_crop_by_the_cascade_lies_like_one_by_landmarks() -> None:
    apart, count = [], 0
    for index in range(10):
        subject = make_subject("disfa", index, 1)
        studio = Studio(subject, perform("disfa", 30, subject.seed), camera_framing(240))
        for frame in (3, 20):
            picture = studio.picture(frame)[0]
            count += 1
            found = HaarDetector().find(np.ascontiguousarray(picture.colours[..., ::-1]))
            if found is None:
                continue
            points = anchors(to_49(picture.landmarks[None])[0])
            true = square_of_anchors(points)
            assert true is not None
            eyes = [move_points(points[:2], crop_matrix(square, 1, 1.3)) for square in (found, true)]
            apart.append(eyes[0] - eyes[1])
    assert len(apart) > 0.7 * count
    shares = np.array(apart)  # (faces, eyes, x and y), of the crop's side
    assert np.abs(shares.mean(axis=0)).max() < 0.02
    assert np.median(np.abs(shares).max(axis=(1, 2))) < 0.03
    assert np.mean(np.abs(shares) < 0.03) > 0.85


def test_the_cascade_finds_nothing_where_nothing_is() -> None:
    assert HaarDetector().find(np.full((240, 320, 3), 90, np.uint8)) is None


def test_a_parser_gives_class_ids_as_large_as_the_crop(tmp_path: Path) -> None:
    scores = np.zeros((1, 19, 4, 4), np.float32)
    scores[0, 10, :2] = 5  # nose above
    scores[0, 17, 2:] = 5  # hair below
    parser = OnnxParser(save_model(tmp_path / "p.onnx", {"scores": scores}), CLASS_ORDERS["bisenet"])
    ids = parser.parse(np.zeros((64, 64, 3), np.uint8))
    assert ids.shape == (64, 64)
    assert ids.dtype == np.uint8
    assert (ids[:32] == 10).all()
    assert (ids[32:] == 17).all()
    direct = OnnxParser(save_model(tmp_path / "q.onnx", {"ids": scores.argmax(1)}), CLASS_ORDERS["bisenet"])
    assert np.array_equal(direct.parse(np.zeros((64, 64, 3), np.uint8)), ids)


def test_a_parser_with_other_classes_than_the_names_is_refused(tmp_path: Path) -> None:
    model = save_model(tmp_path / "p.onnx", {"scores": np.zeros((1, 11, 4, 4), np.float32)})
    with pytest.raises(DatasetError, match="gives 11 classes, but --classes names 19"):
        OnnxParser(model, CLASS_ORDERS["bisenet"]).parse(np.zeros((8, 8, 3), np.uint8))
    flat = save_model(tmp_path / "f.onnx", {"scores": np.zeros((1, 19), np.float32)})
    with pytest.raises(DatasetError, match=r"but gives \(1, 19\)"):
        OnnxParser(flat, CLASS_ORDERS["bisenet"]).parse(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [(None, [(200 - 123.675) / 58.395, (100 - 116.28) / 57.12, -103.53 / 57.375]),
     ({"mean": "0,0,0", "std": "255,255,255"}, [200 / 255, 100 / 255, 0])],
)  # fmt: skip
@pytest.mark.parametrize("size", [(32, 32), ("height", "width")])
def test_pixels_are_normalised_as_documented(
    tmp_path: Path, metadata: dict[str, str] | None, expected: list[float], size: tuple[Any, Any]
) -> None:
    from duchenne_jobs.data.faces.onnx import ImageModel

    path = save_model(tmp_path / "m.onnx", {"mean": None}, size, metadata)
    model = ImageModel(path, 64, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    assert (model.height, model.width) == ((32, 32) if size == (32, 32) else (64, 64))
    image = np.zeros((50, 40, 3), np.uint8)
    image[..., 0], image[..., 1] = 200, 100
    assert model.run(image)[0].reshape(-1).tolist() == pytest.approx(expected, abs=1e-4)


def test_wrong_metadata_is_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", candidates(points=False), metadata={"std": "1,0,1"})
    with pytest.raises(DatasetError, match="metadata 'std' must be three numbers"):
        OnnxDetector(path)


def test_class_orders_are_the_two_public_ones_and_differ(tmp_path: Path) -> None:
    assert set(CLASS_ORDERS) == {"bisenet", "celebamask-hq"}
    first, second = CLASS_ORDERS["bisenet"], CLASS_ORDERS["celebamask-hq"]
    assert len(first) == len(second) == 19
    assert set(first) == set(second)
    assert (first[10], second[2], first[17], second[13]) == ("nose", "nose", "hair", "hair")
    assert class_names("bisenet", None) == first
    (tmp_path / "classes.txt").write_text("background\nskin\n", encoding="utf-8")
    assert class_names(None, tmp_path) == ("background", "skin")
    assert class_names(str(tmp_path / "classes.txt"), None) == ("background", "skin")
    with pytest.raises(DatasetError, match="parsing ids mean nothing without names"):
        class_names(None, None)
    (tmp_path / "classes.txt").write_text("skin\nskin\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="must hold 1 to 256 different names"):
        class_names(None, tmp_path)
