"""ONNX models that the user names: opened once a process, fed one RGB image, checked by shape.

H height, W width of the model's input in pixels.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.errors import DatasetError

# Triples for R, G, B in units of 0..255: the input is (pixel - mean) / std.
Triple = tuple[float, float, float]


class ImageModel:
    """A model with one input (1, 3, H, W) float32, RGB. Metadata `mean` and `std` ("r,g,b", 0..255) override ours.

    Raises:
        DatasetError: no readable model, or another input.
    """

    def __init__(self, path: Path, size: int, mean: Triple, std: Triple, threads: int = 1) -> None:
        onnxruntime = import_module("onnxruntime")

        if not path.is_file():
            raise DatasetError(f"no ONNX model at {path}; name the file")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common base class for what a wrong file raises
            reason = " ".join(str(error).split())[:200]
            raise DatasetError(f"{path} is no model that onnxruntime opens: {reason}; export it again") from error
        self.path = path
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
            seen = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise DatasetError(f"{path} must have one float input (1, 3, H, W), but has {seen}; export it so")
        self._input = inputs[0].name
        self.height, self.width = (value if isinstance(value, int) else size for value in shape[2:])
        given = self._session.get_modelmeta().custom_metadata_map
        self._mean = _triple(path, given, "mean", mean)
        self._std = _triple(path, given, "std", std)

    def run(self, image: Any) -> list[Any]:
        """Outputs for RGB pixels of any size, which are resized to the model's input.

        Raises:
            DatasetError: the model fails.
        """
        import cv2

        resized = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        values = (resized.astype(np.float32) - self._mean) / self._std
        try:
            outputs: list[Any] = self._session.run(None, {self._input: values.transpose(2, 0, 1)[None]})
        except Exception as error:  # as above
            reason = " ".join(str(error).split())[:200]
            raise DatasetError(f"{self.path} fails on a frame: {reason}; export it again") from error
        return [np.asarray(output) for output in outputs]


def _triple(path: Path, given: dict[str, str], name: str, default: Triple) -> Any:
    if name not in given:
        return np.array(default, np.float32)
    try:
        values = np.array([float(part) for part in given[name].split(",")], np.float32)
    except ValueError:
        values = np.zeros(0, np.float32)
    if values.shape != (3,) or not np.isfinite(values).all() or (name == "std" and (values <= 0).any()):
        raise DatasetError(f"{path}: metadata {name!r} must be three numbers 'r,g,b', but is {given[name]!r}")
    return values
