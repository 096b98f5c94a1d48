"""Paints one subject's face from the front: colours and parsing classes from the same outlines.

H, W canvas rows and columns; A action units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.faces.parse import CLASS_ORDERS
from duchenne_jobs.data.synth.anatomy import Colour, Subject
from duchenne_jobs.data.synth.canvas import Canvas, Mask
from duchenne_jobs.data.synth.face import crease_depths, drawn_intensities
from duchenne_jobs.data.synth.relief import Field, Relief
from duchenne_jobs.data.synth.template import (
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    LOWER_LIP,
    MIRROR,
    RIGHT_BROW,
    RIGHT_EYE,
    UPPER_LIP,
    Floats,
    Points,
    curve,
)
from duchenne_jobs.data.synth.units import MAX_INTENSITY, NUMBERS, UNITS

CLASSES = CLASS_ORDERS["bisenet"]  # here "l" is the left of the picture
_ID = {name: index for index, name in enumerate(CLASSES)}
_CREASED = np.where(np.isin(CLASSES, ("skin", "nose", "u_lip", "l_lip")), 255, 0).astype(np.uint8)
Colours = npt.NDArray[np.uint8]  # (H, W, 3), blue green red

_IRIS_RADIUS = 0.098
_SCLERA: Colour = (214, 220, 226)
_TEETH: Colour = (206, 220, 228)
_THROAT: Colour = (22, 18, 52)
_TONGUE: Colour = (84, 78, 160)


@dataclass(frozen=True)
class Paint:
    """A painted canvas: colours (H, W, 3) and class ids (H, W)."""

    colours: Colours
    classes: Mask


@dataclass(frozen=True)
class Lighting:
    """The lamp's direction (3,): right, down, to the camera, its length the strength; and the light from everywhere."""

    lamp: Floats
    ambient: float


class Painter:
    """Everything of a subject on a canvas that no expression changes, made once; `paint` adds the rest."""

    def __init__(self, subject: Subject, canvas: Canvas) -> None:
        self.subject, self.canvas = subject, canvas
        self._relief = Relief(subject, canvas)
        self._base = np.full((canvas.height, canvas.width, 3), subject.wall, np.uint8)
        self._base_classes = canvas.blank()
        self._paint_behind()
        self._texture = self._skin_texture()

    def paint(self, points: Points, activity: Floats, light: Lighting, gaze: tuple[float, float] = (0.0, 0.0)) -> Paint:
        """Paint the face of these landmarks (68, 2) under this light; `gaze` moves the irises, in face units."""
        colours, classes = self._base.copy(), self._base_classes.copy()
        self._paint_skin(colours, classes, points)
        self._paint_nose(colours, classes, points)
        self._paint_mouth(colours, classes, points)
        lit = self._shaded(colours, classes, points, activity, light)
        for eye, name in ((LEFT_EYE, "l_eye"), (RIGHT_EYE, "r_eye")):
            self._paint_eye(lit, classes, points, eye, name, gaze, light)
        for brow, name in ((LEFT_BROW, "l_brow"), (RIGHT_BROW, "r_brow")):
            self._paint_brow(lit, classes, points[list(brow)], name, light)
        return Paint(lit, classes)

    # What never moves

    def _paint_behind(self) -> None:
        """Hair behind the head, neck, clothes and ears."""
        subject, points = self.subject, self.subject.points
        wide = abs(points[0, 0])
        if subject.hair_style in ("long", "fringe"):
            outline = [(-wide - 0.1, -0.9), (0, -1.62), (wide + 0.1, -0.9), (wide + 0.34, 0.4), (wide + 0.22, 1.9)]
            outline += [(0.7, 2.2), (-0.7, 2.2), (-wide - 0.22, 1.9), (-wide - 0.34, 0.4)]
            self._area(curve(np.array(outline), closed=True), _scaled(subject.hair, 0.75), "hair")
        neck = [(-0.62, 1.0), (-0.6, 1.9), (-0.74, 2.6), (0.74, 2.6), (0.6, 1.9), (0.62, 1.0)]
        self._area(np.array(neck), _scaled(subject.skin, 0.66), "neck")
        cloth = [(-0.62, 2.2), (0.0, 2.42), (0.62, 2.2), (1.5, 2.45), (2.3, 2.8), (3.0, 4.2), (-3.0, 4.2)]
        cloth += [(-2.3, 2.8), (-1.5, 2.45)]
        self._area(curve(np.array(cloth), closed=True), subject.cloth, "cloth")
        if subject.hair_style in ("short", "bald"):
            for side, name in ((-1, "l_ear"), (1, "r_ear")):
                ear = np.array([(0.0, -0.1), (0.12, -0.16), (0.18, 0.05), (0.13, 0.4), (0.02, 0.52), (-0.04, 0.3)])
                place = (side * (wide - 0.02), 0.02)
                self._area(curve(ear * (side, 1.0) + place, closed=True), _scaled(subject.skin, 0.86), name)

    def _area(self, outline: Points, colour: Colour, name: str) -> None:
        self.canvas.fill(self._base, outline, colour)
        self.canvas.fill(self._base_classes, outline, _ID[name], smooth=False)

    def _skin_texture(self) -> Field:
        """(H, W): mottled skin, stubble, strands of hair. Multiplies the colours."""
        import cv2

        subject, canvas = self.subject, self.canvas
        random = np.random.default_rng([subject.seed, 1])
        texture = np.ones((canvas.height, canvas.width), np.float32)
        for blur, contrast in ((0.02, 0.12), (0.12, 0.2)):
            noise = random.standard_normal(texture.shape).astype(np.float32)
            sigma = max(0.6, blur * canvas.scale)
            noise = cv2.GaussianBlur(noise, (0, 0), sigma) * np.float32(2 * sigma)
            texture += np.float32(0.15 * contrast * subject.freckles) * noise
        x, y = canvas.grid()
        beard = np.exp(-((x / 0.72) ** 4) - ((y - 1.35) / 0.52) ** 4)
        texture *= (1 - 0.45 * subject.stubble * beard).astype(np.float32)
        return texture + (self._strands(x, y) * self._hair_mask()).astype(np.float32)

    def _strands(self, x: Floats, y: Floats) -> Floats:
        """(H, W) streaks that run from the crown downwards."""
        angle = np.arctan2(x, y + 2.2)
        strands: Floats = 0.06 * np.cos(angle * 90 + 5 * np.sin(y * 2.3)) + 0.05 * np.cos(angle * 37 + 2)
        return strands

    def _hair_mask(self) -> Mask:
        """1 where hair is seen: none of it moves."""
        behind = self._base_classes.copy()
        self._paint_skin(np.zeros_like(self._base), behind, self.subject.points)
        return np.asarray(behind == _ID["hair"], np.uint8)

    # What moves

    def _paint_skin(self, colours: Colours, classes: Mask, points: Points) -> None:
        subject, canvas = self.subject, self.canvas
        jaw, wide = points[list(JAW)], abs(points[0, 0])
        top = -1.3
        forehead = np.array([(wide * 0.97, -0.45), (wide * 0.8, -0.95), (wide * 0.42, top + 0.06), (0.0, top)])
        skull = np.concatenate([forehead, forehead[-2::-1] * (-1, 1)])
        outline = curve(np.concatenate([jaw, skull]), closed=True)
        canvas.fill(colours, outline, subject.skin)
        canvas.fill(classes, outline, _ID["skin"], smooth=False)
        if subject.hair_style == "bald":
            return
        line = -subject.hairline
        dip = 0.3 if subject.hair_style == "fringe" else 0.0
        inner = [(wide * 0.99, -0.25), (wide * 0.86, line * 0.72), (wide * 0.45, line + dip), (0.0, line + dip * 0.9)]
        inner += [(-wide * 0.5, line + dip * 1.1), (-wide * 0.86, line * 0.72), (-wide * 0.99, -0.25)]
        outer = [(-wide - 0.1, -0.5), (-wide * 0.9, -1.15), (-wide * 0.45, -1.5), (0.0, -1.6), (wide * 0.45, -1.5)]
        outer += [(wide * 0.9, -1.15), (wide + 0.1, -0.5)]
        hair = np.concatenate([curve(np.array(inner)), curve(np.array(outer))])
        canvas.fill(colours, hair, subject.hair)
        canvas.fill(classes, hair, _ID["hair"], smooth=False)

    def _paint_nose(self, colours: Colours, classes: Mask, points: Points) -> None:
        canvas = self.canvas
        half = [points[27] + (-0.06, -0.02), points[28] + (-0.08, 0.0), points[29] + (-0.1, 0.02)]
        half += [
            points[31] + (-0.03, -0.13),
            points[31] + (-0.035, -0.02),
            points[31] + (0.0, 0.015),
            points[32] + (0, 0.015),
        ]
        other = [points[27] + (0.06, -0.02), points[28] + (0.08, 0.0), points[29] + (0.1, 0.02)]
        other += [
            points[35] + (0.03, -0.13),
            points[35] + (0.035, -0.02),
            points[35] + (0.0, 0.015),
            points[34] + (0, 0.015),
        ]
        outline = curve(np.array([*half, points[33] + (0, 0.015), *other[::-1]]), closed=True)
        canvas.fill(classes, outline, _ID["nose"], smooth=False)
        dark = _scaled(self.subject.skin, 0.62)
        for wing, base, side in ((31, 32, -1), (35, 34, 1)):
            path = points[wing] + np.array(
                [(side * 0.0, -0.15), (side * 0.035, -0.07), (side * 0.025, 0.0), (-side * 0.03, 0.02)]
            )
            canvas.stroke(colours, curve(path), dark, 0.024)
            canvas.disc(colours, points[base] + (side * 0.015, -0.022), (0.058, 0.026), _scaled(self.subject.skin, 0.3))
        under = np.array([points[32] + (0.02, 0.01), points[33] + (0.0, 0.012), points[34] + (-0.02, 0.01)])
        canvas.stroke(colours, curve(under), dark, 0.02)

    def _paint_mouth(self, colours: Colours, classes: Mask, points: Points) -> None:
        canvas, lip = self.canvas, self.subject.lip
        inner = np.concatenate([curve(points[list(UPPER_LIP[1])]), curve(points[list(LOWER_LIP[1])])[-2:0:-1]])
        for (outer_edge, inner_edge), tone, name in ((UPPER_LIP, 0.86, "u_lip"), (LOWER_LIP, 1.0, "l_lip")):
            edges = curve(points[list(outer_edge)]), curve(points[list(inner_edge)])
            outline = np.concatenate([edges[0], edges[1][::-1]])
            canvas.fill(colours, outline, _scaled(lip, tone))
            canvas.fill(classes, outline, _ID[name], smooth=False)
        gap = points[66, 1] - points[62, 1]
        if gap < 0.02:
            line = 0.5 * (curve(points[list(UPPER_LIP[1])]) + curve(points[list(LOWER_LIP[1])]))
            line = np.concatenate([points[48:49] * 0.7 + line[:1] * 0.3, line, points[54:55] * 0.7 + line[-1:] * 0.3])
            canvas.stroke(colours, line, _scaled(lip, 0.42), 0.022)
            return
        canvas.fill(colours, inner, _THROAT)
        canvas.fill(classes, inner, _ID["mouth"], smooth=False)
        top, bottom = curve(points[list(UPPER_LIP[1])]), curve(points[list(LOWER_LIP[1])])
        teeth = top + np.minimum(bottom - top, (0.0, 0.1)) * (1.0, 0.85)
        canvas.fill(colours, np.concatenate([top, teeth[::-1]]), _TEETH)
        if gap > 0.18:
            tongue = bottom + (top - bottom) * (0.0, 0.28)
            canvas.fill(colours, np.concatenate([bottom, tongue[::-1]]), _TONGUE)

    def _paint_eye(
        self,
        colours: Colours,
        classes: Mask,
        points: Points,
        eye: tuple[int, ...],
        name: str,
        gaze: tuple[float, float],
        light: Lighting,
    ) -> None:
        canvas, subject = self.canvas, self.subject
        corners = points[list(eye)]
        outline = curve(corners, closed=True)
        brightness = float(np.clip(light.lamp[2] + light.ambient, 0.3, 1.15))
        rows, columns = canvas.box(outline, 0.06)
        window = canvas.part(rows, columns)  # the eyeball is drawn beside, then let through by the lids
        ball = np.ascontiguousarray(colours[rows, columns])
        ball[:] = _scaled(_SCLERA, 0.92 * brightness)
        rest = subject.points[list(eye)].mean(axis=0) + gaze
        window.disc(ball, rest, (_IRIS_RADIUS, _IRIS_RADIUS), _scaled(subject.iris, 0.55 * brightness))
        window.disc(ball, rest, (_IRIS_RADIUS * 0.82, _IRIS_RADIUS * 0.82), _scaled(subject.iris, brightness))
        window.disc(ball, rest, (0.042, 0.042), (12, 10, 10))
        window.disc(ball, _moved(rest, 0.03, -0.035), (0.018, 0.018), (235, 238, 240))
        upper = curve(corners[:4])
        window.stroke(ball, _moved(upper, 0.0, 0.02), _scaled(_SCLERA, 0.6 * brightness), 0.03)
        lids = window.blank()
        window.fill(lids, outline, 255.0)
        share = (lids.astype(np.float32) / 255)[..., None]
        part = colours[rows, columns]
        part[:] = (part + (ball.astype(np.float32) - part) * share).astype(np.uint8)
        canvas.fill(classes, outline, _ID[name], smooth=False)
        lash = _scaled(subject.skin, 0.22 * brightness)
        canvas.stroke(colours, upper, lash, 0.032)
        canvas.stroke(colours, curve(corners[[3, 4, 5, 0]]), _scaled(subject.skin, 0.55 * brightness), 0.016)
        fold = _moved(upper[3:-3], 0.0, -0.055)
        canvas.stroke(colours, fold, _scaled(subject.skin, 0.62 * brightness), 0.018)

    def _paint_brow(self, colours: Colours, classes: Mask, brow: Points, name: str, light: Lighting) -> None:
        canvas, subject = self.canvas, self.subject
        centre = curve(brow)
        along = np.linspace(0.0, 1.0, len(centre)) if name == "l_brow" else np.linspace(1.0, 0.0, len(centre))
        thickness = subject.brow_thickness * (0.4 + 0.75 * np.sqrt(along))
        up = np.stack([np.zeros_like(thickness), -thickness], axis=1)
        outline = np.concatenate([centre + up, (centre - up)[::-1]])
        brightness = float(np.clip(light.lamp[2] + light.ambient, 0.3, 1.15))
        canvas.fill(colours, outline, _scaled(subject.brow, brightness))
        canvas.fill(classes, outline, _ID[name], smooth=False)
        inward = 1.0 if name == "l_brow" else -1.0
        for sample in range(1, len(centre) - 1, 2):
            lean = thickness[sample] * np.array([-inward, -1.1])
            hair = np.stack([centre[sample] - lean * (0.3, 0.8), centre[sample] + lean])
            canvas.stroke(colours, hair, _scaled(subject.brow, 0.8 * brightness), 0.012)

    def _shaded(self, colours: Colours, classes: Mask, points: Points, activity: Floats, light: Lighting) -> Colours:
        """Light, skin texture and creases over everything painted so far."""
        import cv2

        shown = drawn_intensities(self.subject, activity) / MAX_INTENSITY
        shade = self._relief.shade(shown, light.lamp, light.ambient) * self._texture
        creases = self._creases(points, activity, classes)
        shade *= 1 - np.float32(0.62 / 255) * creases
        below = max(1, round(0.03 * self.canvas.scale))
        shade[below:] += np.float32(0.14 / 255) * creases[:-below]
        lit = colours.astype(np.float32)
        lit *= shade[..., None]
        return np.asarray(cv2.convertScaleAbs(lit), np.uint8)

    def _creases(self, points: Points, activity: Floats, classes: Mask) -> Field:
        """(H, W) 0..255: the lines of every AU that is seen, each as deep as its AU is strong."""
        import cv2

        sheet = self.canvas.blank()
        depths = crease_depths(self.subject, activity)
        for column, number in enumerate(NUMBERS):
            for crease in UNITS[number].creases:
                path = np.array(crease.path)
                for side in (0, 1):
                    strength = depths[side, column] * crease.depth
                    if strength < 0.03:
                        continue
                    anchor = points[crease.anchor if side == 0 else MIRROR[crease.anchor]]
                    line = curve(anchor + path * (-1 if side == 0 else 1, 1), steps=3)
                    self.canvas.stroke(sheet, line, 255 * strength, crease.width * (0.6 + 0.4 * strength))
        sheet &= _CREASED[classes]
        return cv2.GaussianBlur(sheet, (0, 0), max(0.5, 0.014 * self.canvas.scale)).astype(np.float32)


def _moved(points: Points, right: float, down: float) -> Points:
    moved: Points = points + np.array([right, down])
    return moved


def _scaled(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(255.0, channel * factor) for channel in colour)
    return blue, green, red
