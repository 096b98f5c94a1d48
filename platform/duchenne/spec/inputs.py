"""Whether a dataset has what the encoders and comparators of a sweep look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from duchenne.spec.encoders import size_faults
from duchenne.spec.errors import Fault, Path
from duchenne.spec.space import candidates
from duchenne_jobs.config.augmentation import MIRRORED_POINTS
from duchenne_jobs.data.builtin import parse_builtin
from duchenne_jobs.data.manifest import Manifest

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

_ENCODER = "model.encoder.name"
_FLIP = "training.augmentation.flip"
_BUILTIN_POINTS = 49  # of `builtin://faces`


@dataclass(frozen=True)
class DataColumns:
    """What is known of a dataset: its columns, how many landmarks a face has, (H, W) of its images in pixels."""

    names: tuple[str, ...]
    landmark_points: int | None
    image_size: tuple[int, int] | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> DataColumns:
        """As its manifest says."""
        scheme, crop = manifest.landmark_scheme, manifest.crop
        points = None if scheme is None else scheme.points
        return cls(manifest.columns, points, None if crop is None else (crop.size, crop.size))

    @classmethod
    def of_builtin(cls, uri: str) -> DataColumns | None:
        """As the name of a builtin dataset says; None for any other URI."""
        builtin = parse_builtin(uri)
        if builtin is None:
            return None
        name, options = builtin
        if name != "faces":
            return cls(("features",), None)
        side = int(options["size"])
        return cls(("image", "landmarks", "parsing"), _BUILTIN_POINTS, (side, side))


def input_faults(sweep: Sweep, data: DataColumns) -> Iterator[Fault]:
    """Encoders, comparators and augmentation that the dataset can't serve. Landmarks and parsing are guidance's."""
    if data.image_size is not None:
        yield from size_faults(sweep, data.image_size)
    have = ", ".join(data.names)
    if sweep.data.cache == "decoded" and "image" not in data.names:
        rule = f"decoded faces need a dataset with a column 'image', and this one has {have}"
        yield Fault(("data", "cache"), rule, "decoded", "set it to encoded")
    place = _place(sweep, _ENCODER)
    seen = set()
    for name in candidates(sweep, _ENCODER):
        column = "features" if name == "features" else "image"
        if column not in data.names and name not in seen:
            seen.add(name)
            rule = f"encoder {name} needs a dataset with a column {column!r}, and this one has {have}"
            yield Fault(place, rule, str(name), "choose another encoder or dataset")
    if "features" not in data.names:
        for position, comparator in enumerate(sweep.comparators):
            if comparator.is_baseline:
                rule = f"{comparator.name} needs a dataset with a column 'features', and this one has {have}"
                yield Fault(("comparators", position), rule, None, "remove it")
    yield from _flip_faults(sweep, data)


def _flip_faults(sweep: Sweep, data: DataColumns) -> Iterator[Fault]:
    flips = any(isinstance(value, int | float) and value > 0 for value in candidates(sweep, _FLIP))
    guided = any(
        isinstance(term, dict) and str(term.get("prior", "")).startswith("landmarks")
        for terms in candidates(sweep, "model.guidance")
        for term in (terms if isinstance(terms, list | tuple) else ())
    )
    if flips and guided and data.landmark_points not in (None, *MIRRORED_POINTS):
        rule = f"landmarks can be mirrored where they are {', '.join(map(str, MIRRORED_POINTS))} points"
        yield Fault(_place(sweep, _FLIP), rule, f"{data.landmark_points} points", "set flip to 0")


def _place(sweep: Sweep, path: str) -> Path:
    """Where in the file a field's values come from: the search space, or the section itself."""
    for outer in sweep.search.space:
        if path == outer or path.startswith(f"{outer}."):
            return ("search", "space", outer)
    return tuple(path.split("."))
