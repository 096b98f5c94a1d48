"""What the drawn people do: AUs as smooth events in time, blinks, glances, head movements, changing light.

F frames, A action units (the columns of `units.NUMBERS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.synth.anatomy import Like
from duchenne_jobs.data.synth.template import Floats
from duchenne_jobs.data.synth.units import MAX_INTENSITY, NUMBERS

POSITIVE = 2  # an AU counts as present from this intensity on (the rule of DISFA's users)


@dataclass(frozen=True)
class Scene:
    """AUs that tend to come together.

    Attributes:
        rate: events in 100 frames.
        units: for each AU, its probability of joining an event and its strength relative to it.
    """

    rate: float
    units: Mapping[int, tuple[float, float]]


_SCENES: Mapping[Like, tuple[Scene, ...]] = {
    "disfa": (
        Scene(1.04, {12: (1.0, 1.0), 6: (0.8, 0.9), 25: (0.6, 0.9)}),  # smile
        Scene(0.59, {1: (1.0, 1.0), 2: (0.95, 1.0), 5: (0.6, 0.8), 25: (0.6, 0.8), 26: (0.6, 0.8)}),  # surprise
        Scene(0.45, {1: (1.0, 0.9), 2: (0.85, 0.95)}),  # brow flash
        Scene(0.91, {4: (1.0, 1.0), 7: (0.3, 0.7), 9: (0.1, 0.6)}),  # frown
        Scene(0.52, {9: (1.0, 1.0), 4: (0.6, 0.8), 10: (0.4, 0.6), 6: (0.3, 0.6), 25: (0.3, 0.7)}),  # disgust
        Scene(0.45, {15: (1.0, 1.0), 17: (0.7, 0.9), 4: (0.3, 0.7)}),  # sadness
        Scene(0.33, {20: (1.0, 1.0), 25: (0.8, 0.8), 5: (0.5, 0.9), 1: (0.3, 0.7)}),  # fear
        Scene(0.33, {17: (1.0, 1.0), 24: (0.4, 0.8)}),  # doubt
        Scene(0.98, {25: (1.0, 0.9), 26: (0.55, 0.8)}),  # speech
        Scene(0.26, {5: (1.0, 1.0)}),
        Scene(0.20, {1: (1.0, 1.0)}),
        Scene(0.20, {2: (1.0, 1.0)}),
    ),
    "bp4d": (
        Scene(2.2, {12: (1.0, 1.0), 6: (0.85, 0.95), 10: (0.6, 0.8), 7: (0.6, 0.8), 25: (0.5, 0.9), 14: (0.2, 0.8)}),
        Scene(1.2, {10: (1.0, 1.0), 7: (0.7, 0.9), 4: (0.5, 0.8), 9: (0.4, 0.8), 6: (0.3, 0.7)}),  # disgust
        Scene(0.9, {1: (1.0, 1.0), 2: (0.95, 1.0), 26: (0.6, 0.8), 25: (0.6, 0.8)}),  # surprise
        Scene(0.9, {4: (1.0, 1.0), 7: (0.6, 0.9), 23: (0.3, 0.8)}),  # anger
        Scene(0.7, {6: (1.0, 1.0), 7: (1.0, 1.0), 10: (0.8, 0.8), 4: (0.6, 0.9)}),  # pain
        Scene(0.9, {15: (1.0, 1.0), 17: (0.8, 0.9), 1: (0.25, 0.8), 4: (0.25, 0.8)}),  # sadness
        Scene(1.4, {14: (1.0, 1.0), 12: (0.3, 0.7), 23: (0.2, 0.8)}),  # contempt
        Scene(0.8, {23: (1.0, 1.0), 24: (0.3, 0.8), 17: (0.4, 0.8)}),
        Scene(0.8, {24: (1.0, 1.0), 17: (0.6, 0.9), 14: (0.3, 0.8)}),
        Scene(0.7, {17: (1.0, 1.0)}),
        Scene(1.0, {25: (1.0, 0.9), 26: (0.5, 0.8)}),  # speech
    ),
}
# Of two that pull against each other, the weaker gives way.
_OPPOSED = (
    *((1, 4), (2, 4), (5, 7), (12, 15), (12, 23), (14, 20)),
    *((17, 25), (17, 26), (20, 24), (23, 25), (23, 26), (24, 25), (24, 26)),
)
_JAW_PARTS_LIPS = 0.8  # a dropped jaw parts the lips at least so far
_LONGEST_FRAMES = 36


@dataclass(frozen=True)
class Performance:
    """What one subject does, frame by frame.

    Attributes:
        activity: (F, A) true intensities 0..5.
        blink: (F,) 0 open, 1 closed.
        gaze: (F, 2) shift of the irises, face units.
        turn: (F, 3) yaw, pitch, roll in radians.
        place: (F, 3) shift to the right and down (shares of the picture), and relative size.
        lamp: (F, 3) see `paint.Lighting`.
        ambient: (F,)
    """

    activity: Floats
    blink: Floats
    gaze: Floats
    turn: Floats
    place: Floats
    lamp: Floats
    ambient: Floats

    def intensities(self, numbers: tuple[int, ...]) -> npt.NDArray[np.int8]:
        """(F, len(numbers)) what a flawless coder would write: intensities in whole steps 0..5."""
        columns = [NUMBERS.index(number) for number in numbers]
        return np.floor(self.activity[:, columns] + 0.5).astype(np.int8)


def perform(like: Like, frames: int, seed: int) -> Performance:
    """Draw a performance of `frames` frames: a pure function of its arguments."""
    random = np.random.default_rng([seed, 2])
    activity = _balanced(_events(like, frames, random))
    lamp, ambient = _light(frames, random)
    yaw = _wander(frames, 0.16, random)
    pitch = _wander(frames, 0.1, random)
    roll = _wander(frames, 0.07, random)
    place = np.stack([_wander(frames, 0.02, random), _wander(frames, 0.015, random)], axis=1)
    size = np.exp(_wander(frames, 0.035, random))
    return Performance(
        activity=activity,
        blink=_blinks(frames, random),
        gaze=np.stack([_wander(frames, 0.035, random, 9.0), _wander(frames, 0.012, random, 9.0)], axis=1),
        turn=np.stack([yaw, pitch, roll], axis=1),
        place=np.concatenate([place, size[:, None]], axis=1),
        lamp=lamp,
        ambient=ambient,
    )


def portrait(activity: Floats) -> Performance:
    """Still poses (F, A) that look straight ahead in even light."""
    frames = len(activity)
    return Performance(
        activity=activity,
        blink=np.zeros(frames),
        gaze=np.zeros((frames, 2)),
        turn=np.zeros((frames, 3)),
        place=np.tile((0.0, 0.0, 1.0), (frames, 1)),
        lamp=np.tile((-0.22, -0.22, 0.5), (frames, 1)),
        ambient=np.full(frames, 0.45),
    )


def _events(like: Like, frames: int, random: np.random.Generator) -> Floats:
    """(F, A): the strongest of all events at each moment."""
    activity = np.zeros((frames, len(NUMBERS)))
    for scene in _SCENES[like]:
        for _ in range(int(random.poisson(scene.rate * (frames + _LONGEST_FRAMES) / 100))):
            start = random.uniform(-_LONGEST_FRAMES, frames)
            onset, apex, offset = random.uniform((3, 4, 4), (9, 16, 11))
            strength = random.uniform(2.2, MAX_INTENSITY)
            for number, (chance, share) in scene.units.items():
                joins, factor, delay = random.random() < chance, random.uniform(0.85, 1.15), random.uniform(-1.5, 1.5)
                if not joins:
                    continue
                time = np.arange(frames) - (start + delay)
                rise = _smooth(time / onset) * _smooth((onset + apex + offset - time) / offset)
                column = NUMBERS.index(number)
                activity[:, column] = np.maximum(
                    activity[:, column], rise * min(strength * share * factor, MAX_INTENSITY)
                )
    return activity


def _balanced(activity: Floats) -> Floats:
    """Opposed muscles do not pull together, and a dropped jaw parts the lips."""
    jaw, lips = NUMBERS.index(26), NUMBERS.index(25)
    activity[:, lips] = np.maximum(activity[:, lips], _JAW_PARTS_LIPS * activity[:, jaw])
    for first, second in _OPPOSED:
        a, b = activity[:, NUMBERS.index(first)].copy(), activity[:, NUMBERS.index(second)].copy()
        lead = _smooth((a - b) / 3.0 + 0.5)  # 0 where the second is stronger, 1 where the first is
        activity[:, NUMBERS.index(first)] *= 1 - 0.9 * _smooth(b / 2.0) * (1 - lead)
        activity[:, NUMBERS.index(second)] *= 1 - 0.9 * _smooth(a / 2.0) * lead
    activity[:, jaw] = np.minimum(activity[:, jaw], activity[:, lips] / _JAW_PARTS_LIPS)
    return activity


def _blinks(frames: int, random: np.random.Generator) -> Floats:
    blink = np.zeros(frames)
    for start in random.uniform(0, frames, int(random.poisson(frames / 45))):
        blink = np.maximum(blink, _smooth(1 - np.abs(np.arange(frames) - start) / 2.2))
    return blink


def _light(frames: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """A lamp that moves slowly around where it stood at first, and its strength."""
    side = random.uniform(-0.4, 0.4) + _wander(frames, 0.12, random)
    high = random.uniform(-0.45, -0.05) + _wander(frames, 0.08, random)
    strength = random.uniform(0.46, 0.66) * np.exp(_wander(frames, 0.07, random))
    lamp = np.stack([side, high, np.full(frames, 0.85)], axis=1)
    lamp *= (strength / np.linalg.norm(lamp, axis=1))[:, None]
    return lamp, random.uniform(0.36, 0.48) * np.exp(_wander(frames, 0.05, random))


def _wander(frames: int, spread: float, random: np.random.Generator, slowness: float = 22.0) -> Floats:
    """(F,) a smooth random path around 0 with about the standard deviation `spread`; `slowness` in frames."""
    reach = 3
    count = int(frames / slowness) + 2 * reach + 2
    knots = random.normal(0.0, spread, count)
    distance = (np.arange(frames) / slowness + reach)[:, None] - np.arange(count)
    weights = np.exp(-(distance**2) / 0.8)
    path: Floats = (weights @ knots) / np.linalg.norm(weights, axis=1)
    return path


def _smooth(x: Floats) -> Floats:
    t = np.clip(x, 0.0, 1.0)
    step: Floats = t**2 * (3 - 2 * t)
    return step
