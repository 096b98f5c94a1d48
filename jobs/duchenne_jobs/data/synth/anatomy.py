"""Who is drawn: face shape, skin, brows, hair, and how the resting face misleads.

P points (68), A action units (the columns of `units.NUMBERS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from duchenne_jobs.data.protocol import load_protocol
from duchenne_jobs.data.synth.template import (
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    RIGHT_BROW,
    RIGHT_EYE,
    Floats,
    Points,
    average_face,
)
from duchenne_jobs.data.synth.units import NUMBERS

Like: TypeAlias = str  # one of LIKES
Colour: TypeAlias = tuple[float, float, float]  # blue, green, red, 0..255
LIKES: tuple[Like, ...] = ("disfa", "bp4d")

# What a face at rest looks like although no muscle pulls: intensities of AUs that are drawn and never labelled.
BIASES: Mapping[str, Mapping[int, float]] = {
    "none": {},
    "raised brows": {1: 2.6, 2: 2.6},
    "lowered brows": {4: 2.2},
    "downturned mouth": {15: 2.0},
    "smiling mouth": {12: 1.6},
    "hooded eyes": {7: 2.2},
    "wide eyes": {5: 1.6},
    "parted lips": {25: 1.3},
}
# Dealt like cards, so that a few subjects already show several biases.
_DECK = (*BIASES, "none", "raised brows")

_SKIN: tuple[Colour, ...] = (
    (178, 203, 238),
    (160, 188, 228),
    (140, 172, 216),
    (118, 152, 200),
    (92, 126, 176),
    (66, 96, 146),
    (50, 72, 112),
)
_HAIR: tuple[Colour, ...] = ((28, 24, 24), (34, 44, 58), (44, 64, 96), (70, 110, 150), (120, 170, 200), (130, 132, 136))
_IRIS: tuple[Colour, ...] = ((30, 50, 80), (24, 34, 54), (120, 100, 70), (90, 120, 90), (60, 90, 110))
_CLOTH: tuple[Colour, ...] = ((90, 60, 50), (60, 60, 70), (150, 150, 155), (60, 90, 60), (70, 60, 130), (140, 110, 70))
_WALL: tuple[Colour, ...] = ((120, 116, 110), (90, 92, 94), (160, 158, 150), (70, 74, 84))
HAIR_STYLES = ("short", "long", "fringe", "bald")


@dataclass(frozen=True)
class Subject:
    """One drawn person.

    Attributes:
        identifier: as in the dataset that is imitated, `SN001` or `F001`.
        seed: seed of everything that is random about this person's performance.
        bias: key of `BIASES`.
        points: (68, 2) landmarks at rest, the bias left out, in face units.
        rest: (A,) intensities drawn at rest, never labelled.
        rest_creases: (A,) intensities whose creases, but not movements, are always drawn (lines of age).
        gains: (2, A) how strongly each AU moves the left and the right half of this face.
        wrinkles: how deep creases get, about 1.
        brow, brow_thickness: their colour and half thickness (face units).
        hairline: how far above the eyes the hair begins, face units.
        nose, cheek, socket: heights of the relief, about 1.
        stubble: darkness of a shaved beard, 0..1.
        freckles: contrast of the skin's mottling, 0..1.
    """

    identifier: str
    seed: int
    bias: str
    points: Points
    rest: Floats
    rest_creases: Floats
    gains: Floats
    wrinkles: float
    skin: Colour
    lip: Colour
    brow: Colour
    brow_thickness: float
    hair: Colour
    hair_style: str
    hairline: float
    iris: Colour
    cloth: Colour
    wall: Colour
    nose: float
    cheek: float
    socket: float
    stubble: float
    freckles: float


def subject_names(like: Like) -> tuple[str, ...]:
    """Identifiers of the 27 subjects of DISFA or the 41 of BP4D, sorted."""
    return tuple(sorted(name for part in load_protocol(like).parts for name in part))


def make_subject(like: Like, index: int, seed: int) -> Subject:
    """Draw subject `index` (0-based in `subject_names(like)`): a pure function of its arguments.

    Raises:
        IndexError: there is no such subject.
    """
    identifier = subject_names(like)[index]
    own_seed = int(np.random.SeedSequence([seed, LIKES.index(like), index]).generate_state(1, np.uint64)[0])
    random = np.random.default_rng(own_seed)
    female = identifier.startswith("F") if like == "bp4d" else bool(random.random() < 0.45)
    bias = _dealt_bias(index, seed)
    rest = np.zeros(len(NUMBERS))
    for number, intensity in BIASES[bias].items():
        rest[NUMBERS.index(number)] = intensity * random.uniform(0.85, 1.15)
    wrinkles = random.uniform(0.65, 1.15)
    rest_creases = np.zeros(len(NUMBERS))
    for number in (1, 2, 4, 6, 12):
        rest_creases[NUMBERS.index(number)] = max(0.0, random.normal(0.0, 1.0)) * wrinkles
    skin = _varied(_SKIN[int(random.integers(len(_SKIN)))], 8.0, random)
    hair = _varied(_HAIR[int(random.integers(len(_HAIR)))], 8.0, random)
    redness = random.uniform(0.0, 1.0)
    darker = 0.68 - 0.1 * redness
    return Subject(
        identifier=identifier,
        seed=own_seed,
        bias=bias,
        points=_shape(female, random),
        rest=rest,
        rest_creases=rest_creases,
        gains=random.uniform(0.85, 1.15, (1, len(NUMBERS))) * random.uniform(0.92, 1.08, (2, len(NUMBERS))),
        wrinkles=wrinkles,
        skin=skin,
        lip=(skin[0] * darker, skin[1] * darker, skin[2] * (0.84 + 0.1 * redness)),
        brow=tuple(min(channel, 0.62 * tone) for channel, tone in zip(hair, skin, strict=True)),  # type: ignore[arg-type]
        brow_thickness=random.uniform(0.03, 0.042) if female else random.uniform(0.038, 0.058),
        hair=hair,
        hair_style=str(random.choice(HAIR_STYLES, p=(0.1, 0.55, 0.35, 0.0) if female else (0.62, 0.05, 0.15, 0.18))),
        hairline=random.uniform(1.0, 1.2),
        iris=_IRIS[int(random.integers(len(_IRIS)))],
        cloth=_varied(_CLOTH[int(random.integers(len(_CLOTH)))], 12.0, random),
        wall=_varied(_WALL[int(random.integers(len(_WALL)))], 6.0, random),
        nose=random.uniform(0.8, 1.25),
        cheek=random.uniform(0.6, 1.4),
        socket=random.uniform(0.7, 1.3),
        stubble=0.0 if female else max(0.0, random.uniform(-0.5, 0.5)),
        freckles=random.uniform(0.15, 1.0),
    )


def _dealt_bias(index: int, seed: int) -> str:
    deal, card = divmod(index, len(_DECK))
    order = np.random.default_rng([seed, deal, len(_DECK)]).permutation(len(_DECK))
    return _DECK[int(order[card])]


def _varied(colour: Colour, spread: float, random: np.random.Generator) -> Colour:
    blue, green, red = np.clip(np.asarray(colour) + random.normal(0.0, spread / 2) + random.normal(0, 2, 3), 8, 247)
    return float(blue), float(green), float(red)


def _shape(female: bool, random: np.random.Generator) -> Points:
    """The average face, varied part by part."""
    points = average_face()
    jaw = points[list(JAW)]
    lower = np.clip(jaw[:, 1] / 1.75, 0.0, 1.0)
    taper = random.uniform(-0.1, 0.06) - (0.05 if female else 0.0)
    jaw[:, 0] *= random.uniform(0.94, 1.06) * (1.0 + taper * lower)
    jaw[:, 1] += random.uniform(-0.1, 0.12) * lower
    points[list(JAW)] = jaw

    spread, slant = random.normal(0.0, 0.02), random.normal(0.0, 0.06)
    width, height = random.uniform(0.92, 1.08), random.uniform(0.85, 1.15)
    lift, arch, tilt, stretch = (
        random.normal(0, 0.025),
        random.normal(0, 0.015),
        random.normal(0, 0.02),
        random.normal(1, 0.04),
    )
    for side, eye, brow in ((-1.0, LEFT_EYE, LEFT_BROW), (1.0, RIGHT_EYE, RIGHT_BROW)):
        centre = points[list(eye)].mean(axis=0)
        offsets = (points[list(eye)] - centre) * (width, height)
        offsets[:, 1] += slant * offsets[:, 0] * -side
        points[list(eye)] = centre + offsets + (side * spread, 0.0)
        outward = (points[list(brow), 0] * side - 0.53) / 0.33  # -1 at the inner end, 1 at the outer one
        points[list(brow), 1] += lift - arch * (1 - outward**2) - tilt * outward
        points[list(brow), 0] = side * (0.53 + outward * 0.33 * stretch + spread)

    nose = list(range(27, 36))
    long, wide = random.uniform(0.92, 1.08), random.uniform(0.88, 1.14)
    points[nose, 1] = (points[nose, 1] + 0.02) * long - 0.02
    points[nose, 0] *= wide

    mouth = list(range(48, 68))
    centre_line = 1.1
    lips = points[mouth] - (0.0, centre_line)
    lips[:, 0] *= random.uniform(0.9, 1.1)
    lips[lips[:, 1] < 0, 1] *= random.uniform(0.75, 1.35)
    lips[lips[:, 1] > 0, 1] *= random.uniform(0.8, 1.3)
    lips[:, 1] += centre_line + random.uniform(-0.03, 0.05) + (long - 1) * 0.4
    points[mouth] = lips
    return points
