"""One subject before the camera: pictures, landmarks and parsing from the same geometry.

F frames, P points (68), H, W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.synth.actions import Performance
from duchenne_jobs.data.synth.anatomy import Subject
from duchenne_jobs.data.synth.canvas import Canvas
from duchenne_jobs.data.synth.face import eye_centres, landmarks
from duchenne_jobs.data.synth.paint import Lighting, Paint, Painter
from duchenne_jobs.data.synth.pose import Pose, View
from duchenne_jobs.data.synth.template import Points

_FINEST = 1.25  # painted pixels a picture pixel, so that turning the face blurs nothing
_SMALL = 160  # pictures below this many pixels are drawn twice as large and averaged
_GRAIN = 2.2  # standard deviation of the sensor's noise, of 255


@dataclass(frozen=True)
class Framing:
    """How much of the person a picture of `size` x `size` pixels shows.

    Attributes:
        unit: share of the picture that the distance between the eye centres takes.
        eyes: where the point between the eyes lies at rest, shares of the picture.
        fixed_eyes: the eye centres always lie at the same two pixels (an aligned crop).
        margin: face units painted around what a still head would show.
    """

    size: int
    unit: float
    eyes: tuple[float, float]
    fixed_eyes: bool
    margin: float

    @property
    def eye_pixels(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where a `fixed_eyes` framing keeps the eye centres."""
        x, y, half = self.eyes[0] * self.size - 0.5, self.eyes[1] * self.size - 0.5, self.unit * self.size / 2
        return (x - half, y), (x + half, y)


def camera_framing(size: int) -> Framing:
    """Head and shoulders, as the raw datasets show them."""
    return Framing(size, unit=0.2, eyes=(0.5, 0.42), fixed_eyes=False, margin=0.6)


def crop_framing(size: int) -> Framing:
    """An aligned face crop, from the forehead to the chin."""
    return Framing(size, unit=0.31, eyes=(0.5, 0.34), fixed_eyes=True, margin=0.35)


@dataclass(frozen=True)
class Picture:
    """Colours (H, W, 3) uint8 blue green red; landmarks (68, 2) float32 in pixels, of which whole
    numbers are the middles; class ids (H, W) uint8."""

    colours: npt.NDArray[np.uint8]
    landmarks: npt.NDArray[np.float32]
    classes: npt.NDArray[np.uint8]


class Studio:
    """Draws one subject's performance.

    Args:
        cameras: yaw in radians by which each camera stands aside; one picture each.
    """

    def __init__(
        self, subject: Subject, performance: Performance, framing: Framing, cameras: tuple[float, ...] = (0.0,)
    ) -> None:
        self.subject, self.performance, self.framing, self.cameras = subject, performance, framing, cameras
        self._sharpness = 2 if framing.size < _SMALL else 1
        reach = framing.margin
        left, right = -framing.eyes[0] / framing.unit - reach, (1 - framing.eyes[0]) / framing.unit + reach
        top, bottom = -framing.eyes[1] / framing.unit - reach, (1 - framing.eyes[1]) / framing.unit + reach
        scale = framing.size * framing.unit * self._sharpness * _FINEST
        self._canvas = Canvas.covering(scale, left, top, right, bottom)
        self._painter = Painter(subject, self._canvas)
        self._random = np.random.default_rng([subject.seed, 3])
        tile = self._random.normal(0.0, _GRAIN, (framing.size + 64, framing.size + 64, 3))
        self._grain = np.round(tile).astype(np.int16)

    def picture(self, frame: int) -> list[Picture]:
        """The picture of each camera at a frame; a pure function of the studio and the frame."""
        shot = self.performance
        points = landmarks(self.subject, shot.activity[frame], float(shot.blink[frame]))
        light = Lighting(shot.lamp[frame], float(shot.ambient[frame]))
        gaze = (float(shot.gaze[frame, 0]), float(shot.gaze[frame, 1]))
        paint = self._painter.paint(points, shot.activity[frame], light, gaze)
        return [self._seen(paint, points, self.view(frame, camera), frame) for camera in self.cameras]

    def view(self, frame: int, camera: float = 0.0) -> View:
        """The view of a camera at a frame."""
        shot, framing = self.performance, self.framing
        yaw, pitch, roll = shot.turn[frame]
        across, down, larger = shot.place[frame]
        centre = ((framing.eyes[0] + across) * framing.size - 0.5, (framing.eyes[1] + down) * framing.size - 0.5)
        pose = Pose(float(yaw) + camera, float(pitch), float(roll))
        view = View(pose, self.subject.nose, float(larger) * framing.unit * framing.size, centre)
        if not framing.fixed_eyes:
            return view
        open_eyes = landmarks(self.subject, np.zeros_like(shot.activity[frame]))
        return view.aligned(eye_centres(open_eyes), *framing.eye_pixels)

    def _seen(self, paint: Paint, points: Points, view: View, frame: int) -> Picture:
        import cv2

        size, canvas = self.framing.size, self._canvas
        places = view.source_map(size, size)
        at = canvas.pixels(places).astype(np.float32)
        classes = _sampled(paint.classes, at, cv2.INTER_NEAREST)
        if self._sharpness > 1:
            large = size * self._sharpness
            at = np.asarray(cv2.resize(at, (large, large), interpolation=cv2.INTER_LINEAR), np.float32)
        colours = _sampled(paint.colours, at, cv2.INTER_LINEAR)
        if self._sharpness > 1:
            colours = np.asarray(cv2.resize(colours, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        x, y = (frame * 37) % 61, (frame * 23) % 59
        noisy = cv2.add(colours, self._grain[y : y + size, x : x + size], dtype=cv2.CV_8U)
        return Picture(np.asarray(noisy, np.uint8), view.project(points).astype(np.float32), classes)


def _sampled(image: npt.NDArray[np.uint8], at: npt.NDArray[np.float32], interpolation: int) -> npt.NDArray[np.uint8]:
    """The image (H, W[, 3]) at pixels `at` (h, w, 2)."""
    import cv2

    x, y = at[..., 0], at[..., 1]
    return np.asarray(cv2.remap(image, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE), np.uint8)
