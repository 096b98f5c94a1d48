"""What coders write down: labels with a stated share of mistakes, and codes that are missing.

F frames, T action units.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.synth.actions import POSITIVE

Codes = npt.NDArray[np.int8]
UNCODED = 9  # BP4D's code for what nobody could see
_UNCODED_UNITS = 0.03  # share of (trial, AU) that were never coded
_OCCLUSIONS = 0.35  # share of trials in which a hand hides half of the face for a while
_UPPER_FACE = 7  # AUs up to this number lie above the nose


def noisy_intensities(clean: Codes, rate: float, random: np.random.Generator) -> Codes:
    """Intensities 0..5 (F, T), of which each crosses the threshold of presence with probability `rate`."""
    wrong = random.random(clean.shape) < rate
    absent, present = random.integers(0, POSITIVE, clean.shape), random.integers(POSITIVE, 6, clean.shape)
    return np.where(wrong, np.where(clean >= POSITIVE, absent, present), clean).astype(np.int8)


def noisy_occurrences(clean: Codes, rate: float, random: np.random.Generator) -> Codes:
    """Occurrences 0 or 1 (F, T), each flipped with probability `rate`."""
    return (clean ^ (random.random(clean.shape) < rate)).astype(np.int8)


def uncoded(frames: int, numbers: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(F, T) of one trial: true for AUs that nobody coded, and where a hand hid half of the face for a while."""
    missing = np.zeros((frames, len(numbers)), np.bool_)
    missing[:, random.random(len(numbers)) < _UNCODED_UNITS] = True
    if random.random() < _OCCLUSIONS:
        start = int(random.integers(0, frames))
        upper = random.random() < 0.5
        hidden = [column for column, number in enumerate(numbers) if (number <= _UPPER_FACE) == upper]
        missing[start : start + max(1, frames // 4), hidden] = True
    return missing
