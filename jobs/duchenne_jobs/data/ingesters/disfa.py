"""DISFA: videos of 27 subjects with the intensity of 12 AUs for every frame.

N frames, T AUs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.text import inside, read_lines
from duchenne_jobs.data.ingesters.clips import Clip, LandmarkFile, Video, numbered, required_file, required_folder
from duchenne_jobs.data.ingesters.options import PARSING_FOLDER, FaceOptions
from duchenne_jobs.data.ingesters.people import About, people, source_folder
from duchenne_jobs.data.ingesters.source import Source

CODED_AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
USED_AUS = (1, 2, 4, 6, 9, 12, 25, 26)
THRESHOLD = 2  # an AU of this intensity or more counts as present
MAX_INTENSITY = 5
VIDEOS = {
    "left": "Videos_LeftCamera/LeftVideo{}_comp.avi",
    "right": "Video_RightCamera/RightVideo{}_comp.avi",  # "Video", not "Videos": the distribution spells it so
}
RIGHT = "_right"  # ends the names of the right view's landmarks
# The distribution's own: one of labels and video of this subject is a frame shorter than the other.
SHORT_BY_ONE = "SN010"
_SUBJECT = re.compile(r"^SN\d{3}$")


def disfa(
    source: str | Path | None, faces: FaceOptions | None = None, *, camera: str = "left", tasks: str = "8"
) -> Source:
    """Mavadati et al. 2013, as distributed: `ActionUnit_Labels/SN001/SN001_au1.txt` and one video a subject and camera.

    A label is 1 where the intensity is at least 2; intensities are kept.

    Args:
        camera: `left` or `right`. Landmarks of the right view are `SN001_right.npy`, or `SN001.npy` where there is
            none, which is noted. The source's own parsing maps are of the left view: the right one takes only maps or a
            model that are named.
        tasks: `8`, the AUs that the field evaluates, or `12`, all that are coded.

    Raises:
        DatasetError: a missing AU file or video, frames that don't count 1, 2, 3, ..., an intensity outside 0..5.
    """
    faces = faces or FaceOptions()
    root = source_folder(source, "disfa")
    if camera not in VIDEOS:
        raise DatasetError(f"camera must be left or right, but got {camera!r}")
    if tasks not in ("8", "12"):
        raise DatasetError(f"the tasks of disfa are 8 (the usual AUs) or 12 (all coded), but got {tasks!r}")
    used = USED_AUS if tasks == "8" else CODED_AUS
    notes: list[str] = []
    if camera == "right" and faces.parsing is None and faces.map_folder(root) is not None:
        notes.append(f"{root / PARSING_FOLDER} shows the left view: the right one goes without these parsing maps")
        faces = replace(faces, parsing="none")
    clips = [_clip(root, subject, camera, used, faces) for subject in _subjects(root)]
    if camera == "right":
        notes += _unmarked(clips)
    about = About(
        name="disfa",
        tasks=tuple(f"AU{au}" for au in used),
        licence="DISFA's own agreement with its owners: research only, not to be passed on.",
        consent="Given by the recorded people to DISFA's owners, within that agreement.",
    )
    return people(about, clips, root, faces, notes)


def _unmarked(clips: Sequence[Clip]) -> Iterator[str]:
    """A note where landmarks of the right view aren't called so."""
    files = [clip.landmarks.path for clip in clips if clip.landmarks is not None]
    plain = [path.name for path in files if not path.stem.endswith(RIGHT)]
    if plain:
        more = f" and {len(plain) - 1} more" if len(plain) > 1 else ""
        yield f"no landmarks called *{RIGHT}: {plain[0]}{more} must be of the right view, or faces are cut out askew"


def _subjects(root: Path) -> list[str]:
    labels = required_folder(root / "ActionUnit_Labels", "the label folder of disfa")
    inside(root, labels)
    found = sorted(path.name for path in labels.iterdir() if path.is_dir() and not path.name.startswith("."))
    for name in found:
        if not _SUBJECT.match(name):
            raise DatasetError(f"{labels / name}: subjects are called SN001, SN002, ...; rename it or move it away")
    return found


def _clip(root: Path, subject: str, camera: str, used: tuple[int, ...], faces: FaceOptions) -> Clip:
    intensities = _intensities(root, subject)  # (N, 12)
    labelled = len(intensities)
    shortfall = int(subject == SHORT_BY_ONE)
    frames = tuple(range(1, labelled + 1, faces.every))
    chosen = intensities[:: faces.every, [CODED_AUS.index(au) for au in used]]
    landmarks = faces.landmark_folder(root)
    names = (f"{subject}{RIGHT}", subject) if camera == "right" else (subject,)
    maps = faces.map_folder(root)
    pictures = numbered(maps, maps / subject, (".png",)) if maps else None
    video = required_file(root, root / VIDEOS[camera].format(subject), f"the {camera} video of {subject}")
    return Clip(
        name=subject,
        subjects=(subject,) * len(frames),
        sequences=(subject,) * len(frames),
        frames=frames,
        labels=(chosen >= THRESHOLD).astype(np.int8),
        intensities=chosen,
        images=Video(video, labelled, shortfall, faces.every),
        landmarks=landmark_file(landmarks, names, [frame - 1 for frame in frames], labelled, shortfall),
        maps=tuple(pictures.get(frame) for frame in frames) if pictures is not None else None,
    )


def landmark_file(
    folder: Path | None, names: Sequence[str], rows: list[int], count: int, shortfall: int = 0
) -> LandmarkFile | None:
    """`NAME.npy` or `NAME.csv` of a folder of landmarks, by the first name that is there; None without a folder.

    Raises:
        DatasetError: none is there.
    """
    if folder is None:
        return None
    for name in names:
        for suffix in (".npy", ".csv"):
            if (folder / f"{name}{suffix}").is_file():
                path = required_file(folder, folder / f"{name}{suffix}", f"the landmarks of {name}")
                return LandmarkFile(path, tuple(rows), count, shortfall)
    raise DatasetError(f"{folder} has neither {names[0]}.npy nor {names[0]}.csv; add it, or align by --detector haar")


def _intensities(root: Path, subject: str) -> Any:
    """(N, 12) int8 of a subject, frames in order."""
    columns: list[Any] = []
    first: Path | None = None
    for au in CODED_AUS:
        path = root / "ActionUnit_Labels" / subject / f"{subject}_au{au}.txt"
        column = _read_au(required_file(root, path, f"AU{au} of {subject}"))
        if columns and len(column) != len(columns[0]):
            raise DatasetError(
                f"{path} has {len(column)} frames, but {first} has {len(columns[0])}; restore the one that was cut"
            )
        first = first or path
        columns.append(column)
    return np.stack(columns, axis=1)


def _read_au(path: Path) -> Any:
    values = []
    for number, line in enumerate(read_lines(path), start=1):
        frame, comma, intensity = line.partition(",")
        if not (comma and frame.strip().isdecimal() and intensity.strip().isdecimal()):
            raise DatasetError(f"{path}, line {number}: expected `frame,intensity`, saw {line[:40]!r}; restore it")
        if int(frame) != number:
            raise DatasetError(f"{path}, line {number}: frames count 1, 2, 3, ..., but this one is {frame}; restore it")
        if int(intensity) > MAX_INTENSITY:
            raise DatasetError(
                f"{path}, line {number}: intensities lie in 0..5, but this one is {intensity}; restore it"
            )
        values.append(int(intensity))
    if not values:
        raise DatasetError(f"{path} has no frame; restore it from the source")
    return np.array(values, np.int8)
