"""BP4D: images of 41 subjects in 8 tasks, with the occurrence of 12 AUs in the coded frames.

N coded frames, T AUs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.text import inside, read_lines
from duchenne_jobs.data.ingesters.clips import Clip, numbered, required_file, required_folder
from duchenne_jobs.data.ingesters.disfa import landmark_file
from duchenne_jobs.data.ingesters.options import FaceOptions
from duchenne_jobs.data.ingesters.people import About, people, source_folder
from duchenne_jobs.data.ingesters.source import Source
from duchenne_jobs.data.schema import UNKNOWN

USED_AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
CODES = {"0": 0, "1": 1, "9": UNKNOWN}
CODING = "AUCoding/AU_OCC"
_FILE = re.compile(r"^([FM]\d{3})_(T\d)\.csv$")
_IMAGES = (".jpg", ".jpeg", ".png")


def bp4d(source: str | Path | None, faces: FaceOptions | None = None) -> Source:
    """Zhang et al. 2014, as distributed: `AUCoding/AU_OCC/F001_T1.csv` and images `F001/T1/2440.jpg`.

    Frame numbers of images may be zero-padded. Code 9 is unknown. Images of frames without codes are left out.

    Raises:
        DatasetError: a malformed CSV, a missing AU, a coded frame without its image.
    """
    faces = faces or FaceOptions()
    root = source_folder(source, "bp4d")
    folder = required_folder(root / CODING, "the label folder of bp4d")
    inside(root, folder)
    clips, uncoded = [], 0
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".csv" or path.name.startswith("."):
            continue
        match = _FILE.match(path.name)
        if match is None:
            raise DatasetError(f"{path}: files are called F001_T1.csv, M018_T8.csv, ...; rename it or move it away")
        clip, left_out = _clip(root, required_file(root, path, "the codes"), match[1], match[2], faces)
        clips.append(clip)
        uncoded += left_out
    notes = [f"{uncoded} images of frames that nobody coded were left out"] if uncoded else []
    about = About(
        name="bp4d",
        tasks=tuple(f"AU{au}" for au in USED_AUS),
        licence="BP4D's own agreement with its owners: research only, not to be passed on.",
        consent="Given by the recorded people to BP4D's owners, within that agreement.",
    )
    return people(about, clips, root, faces, notes)


def _clip(root: Path, path: Path, subject: str, task: str, faces: FaceOptions) -> tuple[Clip, int]:
    """The clip of one CSV, and how many images of it have no codes."""
    numbers, labels = read_occurrences(path)
    name = f"{subject}/{task}"
    images = numbered(root, root / subject / task, _IMAGES)
    missing = [number for number in numbers if number not in images]
    if missing:
        raise DatasetError(
            f"{path} codes {len(numbers)} frames, but {root / name} has images of {len(numbers) - len(missing)} of "
            f"them (the first missing is {missing[0]}); restore the images"
        )
    rows = list(range(0, len(numbers), faces.every))
    chosen = tuple(numbers[row] for row in rows)
    maps = faces.map_folder(root)
    pictures = numbered(maps, maps / subject / task, (".png",)) if maps else None
    clip = Clip(
        name=name,
        subjects=(subject,) * len(rows),
        sequences=(task,) * len(rows),
        frames=chosen,
        labels=labels[:: faces.every],
        images=tuple(images[number] for number in chosen),
        landmarks=landmark_file(faces.landmark_folder(root), (f"{subject}_{task}",), rows, len(numbers)),
        maps=tuple(pictures.get(number) for number in chosen) if pictures is not None else None,
    )
    return clip, len(images) - len(numbers)


def read_occurrences(path: Path) -> tuple[list[int], Any]:
    """Frame numbers (N) in rising order and labels (N, 12) int8 of a CSV of codes.

    Raises:
        DatasetError: a missing AU, a line of another width, a code other than 0, 1, 9, a frame that comes twice.
    """
    lines = read_lines(path)
    header = [cell.strip().upper().removeprefix("AU") for cell in lines[0].split(",")] if lines else []
    missing = [au for au in USED_AUS if str(au) not in header[1:]]
    if missing:
        raise DatasetError(f"{path} must have a header with the AU numbers, but has no column {missing[0]}; restore it")
    columns = [header.index(str(au), 1) for au in USED_AUS]
    numbers: list[int] = []
    labels: list[list[int]] = []
    for place, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(header) or not cells[0].isdecimal():
            raise DatasetError(f"{path}, line {place}: expected {len(header)} numbers, saw {line[:40]!r}; restore it")
        if numbers and int(cells[0]) <= numbers[-1]:
            raise DatasetError(f"{path}, line {place}: frame {cells[0]} must come after {numbers[-1]}; restore it")
        wrong = [cells[column] for column in columns if cells[column] not in CODES]
        if wrong:
            raise DatasetError(f"{path}, line {place}: a code is 0, 1 or 9 (unknown), but saw {wrong[0]!r}; restore it")
        numbers.append(int(cells[0]))
        labels.append([CODES[cells[column]] for column in columns])
    if not numbers:
        raise DatasetError(f"{path} codes no frame; restore it from the source")
    return numbers, np.array(labels, np.int8)
