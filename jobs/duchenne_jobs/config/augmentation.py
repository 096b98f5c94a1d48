"""Random changes of the training faces: the same for an image, its landmarks and its parsing map."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from duchenne_jobs.config.base import Config, Probability

MIRRORED_POINTS: Final = (5, 49, 68)
"""Numbers of landmarks of which it is known which are each other's mirror images."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class AugmentationConfig(Config):
    """Drawn anew for each face and epoch from the job's seed; every field at 0 leaves the faces as they are."""

    rotation_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = Field(
        0.0, description="Largest angle, in degrees, by which a face is turned either way."
    )
    flip: Probability = Field(
        0.0, description="Probability of a mirrored face; left and right landmarks and parsing classes change places."
    )
    crop: Share = Field(
        0.0, description="Largest share of a side that a random crop cuts away; what is left is scaled to full size."
    )
    brightness: Share = Field(0.0, description="Largest relative change of the brightness.")
    contrast: Share = Field(0.0, description="Largest relative change of the contrast.")
    saturation: Share = Field(0.0, description="Largest relative change of the saturation.")

    @property
    def moves(self) -> bool:
        """Whether it changes where things are."""
        return bool(self.rotation_degrees or self.flip or self.crop)

    @property
    def recolours(self) -> bool:
        """Whether it changes colours."""
        return bool(self.brightness or self.contrast or self.saturation)
