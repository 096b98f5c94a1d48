"""Light on skin: a height field of the face, which AUs raise and sink, lit by one lamp.

H, W canvas rows and columns; N bulges that AUs move.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.synth.anatomy import Subject
from duchenne_jobs.data.synth.canvas import Canvas
from duchenne_jobs.data.synth.template import Floats
from duchenne_jobs.data.synth.units import NUMBERS, UNITS

Field = npt.NDArray[np.float32]

# The face at rest: centre x (mirrored where not 0), y, widths, height.
_REST = (
    (0.5, -0.03, 0.2, 0.13, -0.1),  # eye sockets
    (0.22, 0.05, 0.07, 0.16, -0.05),
    (0.5, -0.33, 0.34, 0.09, 0.05),  # brow ridge
    (0.66, 0.42, 0.24, 0.22, 0.08),  # cheekbones
    (0.0, 1.1, 0.4, 0.2, 0.09),  # the mouth
    (0.0, 1.36, 0.24, 0.06, -0.05),  # under the lower lip
    (0.0, 1.56, 0.22, 0.14, 0.11),  # chin
    (0.0, 0.87, 0.035, 0.08, -0.02),  # philtrum
    (0.17, 0.63, 0.07, 0.07, 0.07),  # wings of the nose
    (0.0, 0.56, 0.12, 0.11, 0.15),  # its tip
)


class Relief:
    """Slopes of the height field of one subject on one canvas, ready to be mixed and lit."""

    def __init__(self, subject: Subject, canvas: Canvas) -> None:
        x, y = canvas.grid()
        height = 0.95 * np.exp(-((x / 1.0) ** 2) - ((y - 0.3) / 1.75) ** 2)
        bridge = 1 / (1 + np.exp(-(y + 0.12) / 0.08)) / (1 + np.exp((y - 0.6) / 0.04))
        height += 0.12 * subject.nose * np.exp(-((x / 0.085) ** 2)) * bridge
        for centre, y0, wide, high, rise in _REST:
            factor = subject.socket if y0 < 0 else subject.cheek if 0.3 < y0 < 0.5 else 1.0
            for side in (-1, 1) if centre else (1,):
                height += factor * rise * _bump(x, y, side * centre, y0, wide, high)
        self._rest = _slopes(height, canvas)
        fields, self._drivers = [], []
        for column, number in enumerate(NUMBERS):
            for bulge in UNITS[number].bulges:
                for side in (0, 1) if bulge.mirrored else (2,):
                    across = bulge.centre[0] * (-1, 1, 0)[side]
                    field = bulge.height * _bump(x, y, across, bulge.centre[1], *bulge.widths)
                    fields.append(_slopes(field, canvas))
                    self._drivers.append((column, side))
        self._bulges = np.stack(fields)  # (N, 2, H, W)

    def shade(self, shown: Floats, light: Floats, ambient: float) -> Field:
        """Brightness (H, W), about 1 where skin faces the lamp.

        Args:
            shown: (2, A) intensities of the left and right half, 0..1.
            light: (3,) direction towards the lamp: right, down, to the camera; its length is its strength.
        """
        amounts = np.array([shown[:, c].mean() if side == 2 else shown[side, c] for c, side in self._drivers])
        active = np.flatnonzero(amounts > 0.02)
        slopes = self._rest
        if active.size:
            slopes = slopes + np.tensordot(amounts[active].astype(np.float32), self._bulges[active], axes=1)
        lx, ly, lz = (np.float32(part) for part in light)
        lit: Field = (lz - lx * slopes[0] - ly * slopes[1]) / np.sqrt(1 + slopes[0] ** 2 + slopes[1] ** 2)
        return np.maximum(lit, np.float32(0)) + np.float32(ambient)


def _bump(x: Floats, y: Floats, x0: float, y0: float, wide: float, high: float) -> Floats:
    field: Floats = np.exp(-(((x - x0) / wide) ** 2) - ((y - y0) / high) ** 2)
    return field


def _slopes(height: Floats, canvas: Canvas) -> Field:
    down, right = np.gradient(height * canvas.scale)
    return np.stack([right, down]).astype(np.float32)
