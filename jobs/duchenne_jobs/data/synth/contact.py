"""A contact sheet: every AU at rest and at intensity 5, with landmarks, for a person to judge the renderer by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from duchenne_jobs.data.synth.actions import portrait
from duchenne_jobs.data.synth.anatomy import Like, make_subject, subject_names
from duchenne_jobs.data.synth.pictures import encode_png
from duchenne_jobs.data.synth.render import Framing, Picture, Studio
from duchenne_jobs.data.synth.units import CODED, MAX_INTENSITY, NUMBERS, UNITS

_TILE, _CAPTION, _ACROSS = 200, 22, 2
_FRAMING = Framing(_TILE, unit=0.3, eyes=(0.5, 0.36), fixed_eyes=True, margin=0.3)
_GREEN = (120, 230, 0)
Tile = npt.NDArray[np.uint8]


def save_unit_sheet(like: Like, seed: int, path: str | Path) -> Path:
    """Save a PNG with one panel an AU: a face at rest and with the AU at 5, with landmarks; two with it, without.

    Raises:
        OSError: the file can't be written.
    """
    numbers = CODED[like]
    activity = np.zeros((len(numbers) + 1, len(NUMBERS)))
    for row, number in enumerate(numbers, start=1):
        activity[row, NUMBERS.index(number)] = MAX_INTENSITY
    performance = portrait(activity)
    studios = [Studio(make_subject(like, index, seed), performance, _FRAMING) for index in _unbiased(like, seed)]
    panels = []
    for row, number in enumerate(numbers, start=1):
        tiles = [_marked(studios[0].picture(0)[0]), _marked(studios[0].picture(row)[0])]
        tiles += [studio.picture(row)[0].colours for studio in studios]
        panels.append(
            _captioned(np.hstack(tiles), f"AU{number} {UNITS[number].name}: at rest, at 5, at 5 without points")
        )
    lines = [np.hstack(panels[start : start + _ACROSS]) for start in range(0, len(panels), _ACROSS)]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(encode_png(np.vstack(lines)))
    return target


def _unbiased(like: Like, seed: int) -> list[int]:
    """The first two subjects whose face at rest shows nothing."""
    everyone = range(len(subject_names(like)))
    return [index for index in everyone if make_subject(like, index, seed).bias == "none"][:2]


def _marked(picture: Picture) -> Tile:
    import cv2

    tile = picture.colours.copy()
    for x, y in np.round(picture.landmarks * 16).astype(int):
        cv2.circle(tile, (int(x), int(y)), 14, _GREEN, -1, cv2.LINE_AA, shift=4)
    return tile


def _captioned(panel: Tile, text: str) -> Tile:
    import cv2

    strip = np.full((_CAPTION, panel.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    border = np.full((panel.shape[0] + _CAPTION, 8, 3), 255, np.uint8)
    return np.hstack([np.vstack([strip, panel]), border])
