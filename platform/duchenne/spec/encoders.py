"""The encoders of a sweep, and which of them can't take a dataset's images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from duchenne.spec.errors import Fault, Path
from duchenne.spec.trials import overlaid, possible_trials
from duchenne_jobs.config import EncoderConfig

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

_ENCODER: Path = ("model", "encoder")


def possible_encoders(sweep: Sweep) -> dict[EncoderConfig, Path]:
    """Each encoder that a trial or a comparator may have, and where in the file it first stands."""
    found: dict[EncoderConfig, Path] = {}
    for config, drawn in possible_trials(sweep, ("model.encoder",)):
        found.setdefault(config.model.encoder, next(iter(drawn.values()), _ENCODER))
        for position, comparator in enumerate(sweep.comparators):
            varied = overlaid(config, comparator.changes)
            if varied is not None:
                found.setdefault(varied.model.encoder, ("comparators", position))
    return found


def size_faults(sweep: Sweep, size: tuple[int, int]) -> Iterator[Fault]:
    """Encoders that take the dataset's images (H, W) as they are, and can't."""
    for encoder, place in possible_encoders(sweep).items():
        if encoder.has_tokens and encoder.image_size is None and not encoder.takes(size):
            rule = f"the encoder takes {encoder.sides_rule}, and this dataset's images are {size[0]} x {size[1]}"
            yield Fault(place, rule, encoder.name, "set its image_size")
