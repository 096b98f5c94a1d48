"""What a user may choose about face crops, whichever dataset they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from duchenne_jobs.data.errors import DatasetError

MIN_SIZE, MAX_SIZE = 16, 2048
LANDMARK_FOLDER, PARSING_FOLDER = "landmarks", "parsing"  # taken by default where the source has them


@dataclass(frozen=True)
class FaceOptions:
    """How faces are cut out.

    Attributes:
        size: side of the crop in pixels.
        enlarge: side of the crop over the side of the face, brows to chin.
        landmarks: folder of landmark files; default: the source's own.
        detector: `haar`, or a model in ONNX; aligns where no landmarks are taken.
        parsing: folder of ready PNG maps, a model in ONNX, or `none`; default: the source's own maps.
        classes: `bisenet`, `celebamask-hq`, or a file of class names, one a line.
        every: takes frames 1, 1 + every, ... of each video.

    Raises:
        DatasetError: a value out of its range, or landmarks and a detector at once.
    """

    size: int = 224
    enlarge: float = 1.3
    landmarks: str | Path | None = None
    detector: str | None = None
    parsing: str | Path | None = None
    classes: str | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise DatasetError(f"{MIN_SIZE} <= size <= {MAX_SIZE} must hold, but got {self.size}; choose pixels in it")
        if not 0.5 <= self.enlarge <= 10:
            raise DatasetError(f"0.5 <= enlarge <= 10 must hold, but got {self.enlarge:g}; 1.3 is usual")
        if self.every < 1:
            raise DatasetError(f"every >= 1 must hold, but got {self.every}; 1 takes every frame")
        if self.landmarks is not None and self.detector is not None:
            raise DatasetError("faces are aligned by landmarks or by a detector, but both are given; leave one out")

    def landmark_folder(self, source: Path) -> Path | None:
        """The folder of landmarks to align by, or None: by the detector.

        Raises:
            DatasetError: the named folder is missing.
        """
        if self.landmarks is None:
            default = source / LANDMARK_FOLDER
            return default if self.detector is None and default.is_dir() else None
        folder = Path(self.landmarks).expanduser().absolute()
        if not folder.is_dir():
            raise DatasetError(f"no folder of landmarks at {folder}; name the folder that holds one file a sequence")
        return folder

    def map_folder(self, source: Path) -> Path | None:
        """The folder of ready parsing maps, or None.

        Raises:
            DatasetError: the named folder is missing.
        """
        if self.parsing is None:
            default = source / PARSING_FOLDER
            return default if default.is_dir() else None
        if self.parsing == "none" or self.parser() is not None:
            return None
        folder = Path(self.parsing).expanduser().absolute()
        if not folder.is_dir():
            raise DatasetError(
                f"no folder of parsing maps at {folder}; name a folder, a model that ends in .onnx, or none"
            )
        return folder

    def parser(self) -> Path | None:
        """The parsing model, or None."""
        named = self.parsing is not None and str(self.parsing).endswith(".onnx")
        return Path(str(self.parsing)).expanduser().absolute() if named else None
