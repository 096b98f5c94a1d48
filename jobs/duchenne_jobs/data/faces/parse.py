"""Face parsing: which part of the face each pixel shows, from a model that the user names. Light: names cost no numpy.

C classes, S side of the crop, h and w of the model's output in pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.text import read_lines

# Two class orders are in public use, and ids alone don't say which: names are stored with the data.
_ORDERS = {
    "bisenet": "background skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth u_lip l_lip neck neck_l "
    "cloth hair hat",
    "celebamask-hq": "background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat "
    "ear_r neck_l neck cloth",
}
CLASS_ORDERS = {name: tuple(words.split()) for name, words in _ORDERS.items()}
CLASSES_FILE = "classes.txt"
_IMAGENET_MEAN, _IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class OnnxParser:
    """A model whose first output is scores (1, C, h, w) or ids (1, h, w). It sees the aligned crop.

    The input is RGB with ImageNet's mean and deviation, 512 x 512 where the model leaves its size open.
    """

    def __init__(self, path: Path, classes: tuple[str, ...]) -> None:
        from duchenne_jobs.data.faces.onnx import ImageModel

        self._model = ImageModel(path, 512, _IMAGENET_MEAN, _IMAGENET_STD)
        self._classes = classes

    def parse(self, crop: Any) -> Any:
        """Class ids (S, S) uint8 of a crop (S, S, 3).

        Raises:
            DatasetError: another output, or another number of classes than the names.
        """
        import cv2

        output = self._model.run(crop)[0]
        if output.ndim == 4 and output.shape[0] == 1:
            count, ids = output.shape[1], output[0].argmax(0)
        elif output.ndim == 3 and output.shape[0] == 1:
            count, ids = int(output.max()) + 1, output[0]
        else:
            raise DatasetError(
                f"{self._model.path}: a parser gives (1, classes, h, w) or (1, h, w), but gives {output.shape}"
            )
        if count > len(self._classes) or (output.ndim == 4 and count < len(self._classes)):
            raise DatasetError(
                f"{self._model.path} gives {count} classes, but --classes names {len(self._classes)}; choose its order"
            )
        return cv2.resize(ids.astype("uint8"), crop.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def class_names(chosen: str | None, folder: Path | None) -> tuple[str, ...]:
    """Names of the class ids: a public order by its name, a file of one name a line, or the folder's `classes.txt`.

    Raises:
        DatasetError: nothing says which, or a file is malformed.
    """
    if chosen in CLASS_ORDERS:
        return CLASS_ORDERS[chosen]
    path = Path(chosen) if chosen else folder / CLASSES_FILE if folder else None
    if path is None or not path.is_file():
        raise DatasetError(
            f"parsing ids mean nothing without names: give --classes {', '.join(CLASS_ORDERS)} or a file of one name a "
            f"line, or put {CLASSES_FILE} into the folder of maps"
        )
    names = tuple(read_lines(path))
    if not names or "" in names or len(set(names)) != len(names) or len(names) > 256:
        raise DatasetError(f"{path} must hold 1 to 256 different names, one a line, but holds {len(names)} lines")
    return names
