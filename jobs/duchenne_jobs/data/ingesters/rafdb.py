"""RAF-DB: aligned images of faces from the web, each with one of seven basic emotions.

N images, T = 7 emotions.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.text import read_lines
from duchenne_jobs.data.ingesters.celeba import maps_of_images
from duchenne_jobs.data.ingesters.clips import Clip, required_file
from duchenne_jobs.data.ingesters.options import FaceOptions
from duchenne_jobs.data.ingesters.people import About, people, source_folder
from duchenne_jobs.data.ingesters.source import Source
from duchenne_jobs.data.manifest import Partitions

EMOTIONS = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")  # codes 1 to 7
LIST = "basic/EmoLabel/list_patition_label.txt"  # spelt so
IMAGES = "basic/Image/aligned"
_LINE = re.compile(r"^((train|test)_(\d{1,9}))\.jpg\s+(\d+)$")
_CLIP_IMAGES = 1000


def rafdb(source: str | Path | None, faces: FaceOptions | None = None) -> Source:
    """Li et al. 2017, basic emotions, as distributed: `train_00001.jpg 5` and `train_00001_aligned.jpg`.

    The emotion is one-hot over seven tasks. Who is in an image is not known: each image is its own subject. The images
    are aligned by their owners and are taken whole, unless a detector is named.

    Raises:
        DatasetError: a malformed list, a code outside 1..7, a missing image.
    """
    faces = faces or FaceOptions()
    root = source_folder(source, "rafdb")
    if faces.landmarks is not None:
        raise DatasetError("rafdb is aligned by its owners; leave --landmarks out, or give --detector")
    if faces.every != 1:
        raise DatasetError("rafdb has no videos to thin out; leave --every out")
    rows = _read_list(root)
    clips = [_clip(root, rows[start : start + _CLIP_IMAGES], faces) for start in range(0, len(rows), _CLIP_IMAGES)]
    about = About(
        name="rafdb",
        tasks=EMOTIONS,
        licence="RAF-DB's own agreement: non-commercial research only, images not to be passed on.",
        consent="Images of people from the web: nobody was asked for consent.",
        aligned_already=True,
        partitions=Partitions(train="train", test="test"),
    )
    return people(about, clips, root, faces)


def _read_list(root: Path) -> list[tuple[str, str, int, int]]:
    """(image, partition, number, code) of every line, sorted by image."""
    path = required_file(root, root / LIST, "the list of labels of rafdb")
    rows = []
    for place, line in enumerate(read_lines(path), start=1):
        match = _LINE.match(line)
        if match is None or not 1 <= int(match[4]) <= len(EMOTIONS):
            raise DatasetError(
                f"{path}, line {place}: expected `train_00001.jpg` and 1 to 7, saw {line[:60]!r}; restore it"
            )
        rows.append((match[1], match[2], int(match[3]), int(match[4])))
    if not rows or len({row[0] for row in rows}) != len(rows):
        raise DatasetError(f"{path} must list each image once, but has {len(rows)} lines; restore it from the source")
    return sorted(rows)


def _clip(root: Path, rows: list[tuple[str, str, int, int]], faces: FaceOptions) -> Clip:
    maps = faces.map_folder(root)
    images = [root / IMAGES / f"{name}_aligned.jpg" for name, _, _, _ in rows]
    codes = np.array([code for _, _, _, code in rows])
    return Clip(
        name=f"images from {rows[0][0]}",
        subjects=tuple(name for name, _, _, _ in rows),
        sequences=tuple(partition for _, partition, _, _ in rows),
        frames=tuple(number for _, _, number, _ in rows),
        labels=(codes[:, None] == np.arange(1, len(EMOTIONS) + 1)).astype(np.int8),
        images=tuple(required_file(root, path, f"image {path.name} of rafdb") for path in images),
        maps=tuple(maps_of_images(maps, [name for name, _, _, _ in rows])) if maps else None,
    )
