"""What may be chosen about a drawn dataset."""

from __future__ import annotations

from dataclasses import dataclass

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.synth.anatomy import LIKES, Like, subject_names

MAX_FRAMES = 100_000
MAX_SEED = 2**63 - 1
MIN_SIZE, MAX_SIZE = 32, 2048  # pixels
DEFAULT_FRAMES = 100
DEFAULT_SIZE = 256


@dataclass(frozen=True)
class SynthOptions:
    """A drawn dataset that is like another.

    Attributes:
        like: the dataset that is imitated.
        subjects: how many; the first of its subjects in sorted order. None draws them all.
        frames: of each subject.
        seed: of everything that is random: the same seed gives the same bytes.
        size: height and width of a picture in pixels; even where pictures become a video.
        noise: probability that a coder got the presence of an AU in a frame wrong.

    Raises:
        DatasetError: a value out of its range.
    """

    like: Like
    subjects: int | None = None
    frames: int = DEFAULT_FRAMES
    seed: int = 0
    size: int = DEFAULT_SIZE
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.like not in LIKES:
            raise DatasetError(
                f"a drawn dataset is like {' or '.join(LIKES)}, but got {self.like!r}; choose one of them"
            )
        known = len(subject_names(self.like))
        ranges = (
            ("subjects", self.subject_count, 1, known),
            ("frames", self.frames, 1, MAX_FRAMES),
            ("seed", self.seed, 0, MAX_SEED),
            ("size", self.size, MIN_SIZE, MAX_SIZE),
        )
        for name, value, lowest, highest in ranges:
            if not lowest <= value <= highest:
                raise DatasetError(
                    f"{lowest} <= {name} <= {highest} must hold for faces like {self.like}, but got {value}; "
                    "choose a number in this range"
                )
        if not 0.0 <= self.noise <= 0.5:
            raise DatasetError(f"0 <= noise <= 0.5 must hold, but got {self.noise:g}; it is the share of wrong labels")

    @property
    def subject_count(self) -> int:
        """How many subjects are drawn."""
        return len(subject_names(self.like)) if self.subjects is None else self.subjects
