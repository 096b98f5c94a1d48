"""What a network sees of a row, and what it may know of the dataset before it sees any.

Shapes: B rows, F features, H and W height and width in pixels, P landmark points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """B rows: the features of a table, or faces with their landmarks and parsing maps.

    Attributes:
        features: (B, F) float32, or None.
        images: (B, 3, H, W) RGB: uint8 as stored, float32 in [0, 1] as a network takes them; or None.
        landmarks: (B, P, 2) float32, (x, y) in pixels of the image, y down; or None.
        parsing: (B, H, W) uint8 class ids, named by `DataDescription.parsing_classes`; or None.
    """

    features: Tensor | None = None
    images: Tensor | None = None
    landmarks: Tensor | None = None
    parsing: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {len(tensor) for tensor in self._present()}
        if len(sizes) != 1:
            raise ValueError(f"every input must have the same number of rows, at least one of them, but got {sizes}")

    def _present(self) -> Iterator[Tensor]:
        return (tensor for tensor in vars(self).values() if tensor is not None)

    def __len__(self) -> int:
        return len(next(self._present()))

    def __getitem__(self, indices: Tensor | slice) -> Inputs:
        return Inputs(**{name: None if value is None else value[indices] for name, value in vars(self).items()})

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return next(self._present()).device

    def to(self, device: torch.device) -> Inputs:
        """The same rows on `device`."""
        return Inputs(**{name: None if value is None else value.to(device) for name, value in vars(self).items()})

    def require(self, name: str) -> Tensor:
        """The tensor called `name`.

        Raises:
            ValueError: these rows have none.
        """
        tensor: Tensor | None = getattr(self, name)
        if tensor is None:
            have = ", ".join(key for key, value in vars(self).items() if value is not None)
            raise ValueError(
                f"this network needs {name}, but its rows have only {have}; choose another dataset or model"
            )
        return tensor


@dataclass(frozen=True)
class DataDescription:
    """What a dataset's manifest says that a network is built from.

    Attributes:
        tasks: names of the T label columns (`AU1`, ...).
        features: F, or None in a set without features.
        image_size: (H, W) of the images, or None in a set without.
        landmark_points: P, or None in a set without landmarks.
        parsing_classes: names of the parsing map's class ids, in order; empty in a set without.
    """

    tasks: tuple[str, ...]
    features: int | None = None
    image_size: tuple[int, int] | None = None
    landmark_points: int | None = None
    parsing_classes: tuple[str, ...] = ()
