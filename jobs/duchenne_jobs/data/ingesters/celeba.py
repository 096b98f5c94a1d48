"""CelebA: 202,599 images of celebrities with 40 attributes.

N images, T attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.text import inside, read_lines
from duchenne_jobs.data.ingesters.clips import Clip, required_file
from duchenne_jobs.data.ingesters.options import FaceOptions
from duchenne_jobs.data.ingesters.people import About, people, source_folder
from duchenne_jobs.data.ingesters.source import Source
from duchenne_jobs.data.manifest import Partitions

PARTITIONS = ("train", "valid", "test")
POINTS = tuple(f"{name}_{axis}" for name in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy")
# Tallec 2023, 2.5.2; the text names four accessories, its table 2.3 five.
SUBSETS = {
    "gender": ("Heavy_Makeup", "Male", "Mustache", "No_Beard", "Wearing_Lipstick"),
    "accessory": ("Eyeglasses", "Wearing_Earrings", "Wearing_Hat", "Wearing_Necklace", "Wearing_Necktie"),
    "haircut": ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"),
    "beauty": ("Arched_Eyebrows", "Attractive", "High_Cheekbones", "Rosy_Cheeks", "Oval_Face"),
    "misc": ("5_o_Clock_Shadow", "Pointy_Nose", "Mouth_Slightly_Open", "Oval_Face", "Young"),
}
_FOLDERS = ("", "Anno", "Eval")  # mirrors put everything in one folder, the distribution in two
_IMAGES = ("img_align_celeba", "Img/img_align_celeba", "img_align_celeba/img_align_celeba")
_CLIP_IMAGES = 1000


@dataclass(frozen=True)
class _Table:
    """A list of CelebA: image name -> its values, kept as one text each; `columns` where the file has a header."""

    path: Path
    columns: tuple[str, ...]
    rows: dict[str, str]

    def values(self, image: str) -> list[str]:
        return self.rows[image].split(" ")


def celeba(source: str | Path | None, faces: FaceOptions | None = None, *, tasks: str = "all") -> Source:
    """Liu et al. 2015, aligned images, as distributed or as CSV mirrors write it.

    The subject is the identity, the sequence the partition (train, valid, test), the frame the image's number.

    Args:
        tasks: `all`, one of the subsets of Tallec 2023 (`gender`, `accessory`, `haircut`, `beauty`, `misc`), or
            names of attributes with commas.

    Raises:
        DatasetError: a missing list, lists that disagree, an attribute other than -1 and 1, an unknown attribute.
    """
    faces = faces or FaceOptions()
    root = source_folder(source, "celeba")
    if faces.landmarks is not None:
        raise DatasetError("celeba brings its own five points; leave --landmarks out, or give --detector")
    if faces.every != 1:
        raise DatasetError("celeba has no videos to thin out; leave --every out")
    attributes = _read_list(root, "list_attr_celeba", header=True)
    chosen = _chosen(attributes.columns, tasks)
    points = None if faces.detector else _read_list(root, "list_landmarks_align_celeba", header=True)
    identities = _read_list(root, "identity_CelebA", header=False)
    partitions = _read_list(root, "list_eval_partition", header=False)
    for table in (points, identities, partitions):
        if table is not None and table.rows.keys() != attributes.rows.keys():
            raise DatasetError(
                f"{attributes.path} lists {len(attributes.rows)} images and {table.path} {len(table.rows)}, but they "
                "must list the same ones; restore the one that was cut"
            )
    names = sorted(attributes.rows)
    lists = (attributes, chosen, points, identities, partitions)
    starts = range(0, len(names), _CLIP_IMAGES)
    clips = [_clip(root, names[start : start + _CLIP_IMAGES], lists, faces) for start in starts]
    about = About(
        name="celeba",
        tasks=tuple(attributes.columns[index] for index in chosen),
        licence="CelebA's own agreement: non-commercial research only, images not to be passed on.",
        consent="Images of celebrities from the web: nobody was asked for consent.",
        partitions=Partitions(train=PARTITIONS[0], validation=PARTITIONS[1], test=PARTITIONS[2]),
    )
    return people(about, clips, root, faces)


def _clip(root: Path, names: list[str], lists: tuple[Any, ...], faces: FaceOptions) -> Clip:
    attributes, chosen, points, identities, partitions = lists
    folder = next((root / place for place in _IMAGES[::-1] if (root / place).is_dir()), root / _IMAGES[0])
    maps = faces.map_folder(root)
    labels = [_attributes(attributes, name, chosen) for name in names]
    return Clip(
        name=f"images from {names[0]}",
        subjects=tuple(identities.values(name)[0] for name in names),
        sequences=tuple(_partition(partitions, name) for name in names),
        frames=tuple(_number(attributes.path, name) for name in names),
        labels=np.array(labels, np.int8),
        images=tuple(required_file(root, folder / name, f"image {name} of celeba") for name in names),
        points=None if points is None else np.stack([_five_points(points, name) for name in names]),
        maps=tuple(maps_of_images(maps, [Path(name).stem for name in names])) if maps else None,
    )


def maps_of_images(folder: Path, stems: list[str]) -> list[Path | None]:
    """`STEM.png` of a folder of parsing maps for each image, None where there is none.

    Raises:
        DatasetError: a link leads out of the folder.
    """
    paths = [folder / f"{stem}.png" for stem in stems]
    return [Path(inside(folder, path)) if path.exists() else None for path in paths]


def _read_list(root: Path, name: str, *, header: bool) -> _Table:
    places = [root / folder / f"{name}{suffix}" for folder in _FOLDERS for suffix in (".txt", ".csv")]
    path = next((place for place in places if place.is_file()), places[0])
    lines = read_lines(required_file(root, path, f"the list {name} of celeba"))
    commas = path.suffix == ".csv"
    start, count = 0, None
    if header and not commas:
        count = int(lines[0]) if lines and lines[0].isdecimal() else None
        if count is None:
            raise DatasetError(f"{path} must start with the number of its images; restore it from the source")
        start = 1
    columns: tuple[str, ...] = ()
    if start < len(lines) and not _is_image(_cells(lines[start], commas)[0]):
        columns = tuple(_cells(lines[start], commas)[int(commas) :])
        start += 1
    if header and not columns:
        raise DatasetError(f"{path} must name its columns before the first image; restore it from the source")
    width = len(columns) or 1
    rows: dict[str, str] = {}
    for place, line in enumerate(lines[start:], start=start + 1):
        image, *values = _cells(line, commas)
        if len(values) != width or not _is_image(image):
            raise DatasetError(
                f"{path}, line {place}: expected an image and {width} values, saw {line[:40]!r}; restore it"
            )
        rows[image] = " ".join(values)
    listed = len(lines) - start
    if not rows or len(rows) != listed or count not in (None, listed):
        said = "" if count is None else f", its first line says {count}"
        raise DatasetError(f"{path} lists {listed} images, {len(rows)} different ones{said}; restore the file")
    return _Table(path, columns, rows)


def _cells(line: str, commas: bool) -> list[str]:
    cells = [cell.strip() for cell in line.split(",")] if commas else line.split()
    return cells or [""]


def _is_image(name: str) -> bool:
    path = Path(name)
    return path.name == name and path.suffix.lower() in (".jpg", ".png") and path.stem.isdecimal()


def _chosen(columns: tuple[str, ...], tasks: str) -> list[int]:
    wanted = columns if tasks == "all" else SUBSETS.get(tasks) or tuple(name.strip() for name in tasks.split(","))
    for name in wanted:
        if name not in columns:
            raise DatasetError(
                f"celeba has no attribute {name!r}; --tasks is all, {', '.join(SUBSETS)} or names such as "
                f"{', '.join(columns[:3])}"
            )
    return [columns.index(name) for name in wanted]


def _attributes(table: _Table, name: str, chosen: list[int]) -> list[int]:
    values = table.values(name)
    for value in values:
        if value not in ("-1", "1"):
            raise DatasetError(f"{table.path}, {name}: an attribute is -1 or 1, but saw {value!r}; restore the file")
    return [int(values[index] == "1") for index in chosen]


def _partition(table: _Table, name: str) -> str:
    value = table.values(name)[0]
    if value not in ("0", "1", "2"):
        raise DatasetError(f"{table.path}, {name}: a partition is 0, 1 or 2, but saw {value!r}; restore the file")
    return PARTITIONS[int(value)]


def _number(path: Path, name: str) -> int:
    number = int(Path(name).stem)
    if number >= 2**31:
        raise DatasetError(f"{path}, {name}: the number of an image must be below 2147483648; rename it")
    return number


def _five_points(table: _Table, name: str) -> Any:
    if tuple(column.lower() for column in table.columns) != POINTS:
        raise DatasetError(f"{table.path} must have the columns {', '.join(POINTS[:2])}, ...; restore the file")
    try:
        return np.array(table.values(name), np.float32).reshape(5, 2)
    except ValueError as error:
        raise DatasetError(f"{table.path}, {name}: expected ten numbers, {error}; restore the file") from error
