"""Tiny raw folders of each dataset, drawn and encoded here in the formats of their owners."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 160, 120
CODED_AUS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
BP4D_AUS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
CLASSES = ("background", "skin", "l_eye", "r_eye", "nose", "mouth")
# Where things are on the face, in units of half the distance of the eyes; (x, y), y down.
PARTS = {"l_eye": (-1.0, 0.0), "r_eye": (1.0, 0.0), "nose": (0.0, 1.0), "mouth": (0.0, 2.0)}
COLOURS = {"l_eye": (200, 30, 30), "r_eye": (30, 200, 30), "nose": (30, 30, 200), "mouth": (200, 30, 200)}


def points_68(centre: tuple[float, float], unit: float, tilt: float) -> Any:
    """(68, 2) float32: rings around the eyes, a line of the nose, a ring of the mouth, brows and a jaw."""
    face = np.zeros((68, 2))
    face[0:17] = [(2.2 * math.cos(a), 0.8 + 2.6 * math.sin(a)) for a in np.linspace(math.pi, 0, 17)]
    face[17:22] = [(x, -0.7) for x in np.linspace(-1.7, -0.4, 5)]
    face[22:27] = [(x, -0.7) for x in np.linspace(0.4, 1.7, 5)]
    face[27:31] = [(0.0, y) for y in np.linspace(0.2, 1.0, 4)]
    face[31:36] = [(x, 1.2) for x in np.linspace(-0.4, 0.4, 5)]
    for first, name in ((36, "l_eye"), (42, "r_eye")):
        angles = np.arange(6) * math.pi / 3
        face[first : first + 6] = PARTS[name] + 0.3 * np.column_stack([-np.cos(angles), np.sin(angles)])
    face[48:60] = [(-0.8 * math.cos(a), 2.0 + 0.3 * math.sin(a)) for a in np.arange(12) * math.pi / 6]
    face[60:68] = [(-0.6 * math.cos(a), 2.0 + 0.1 * math.sin(a)) for a in np.arange(8) * math.pi / 4]
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    return (face * unit @ turn.T + centre).astype(np.float32)


def draw(points: Any, unit: float, width: int = WIDTH, height: int = HEIGHT) -> tuple[Any, Any]:
    """RGB pixels (H, W, 3) and class ids (H, W) of a face with discs for its parts."""
    image = np.full((height, width, 3), 40, np.uint8)
    ids = np.zeros((height, width), np.uint8)
    where = {"l_eye": points[36:42], "r_eye": points[42:48], "nose": points[30:31], "mouth": points[48:60]}
    middle = points[27:36].mean(0)
    for canvas, fill in ((image, (220, 180, 150)), (ids, 1)):
        cv2.circle(canvas, tuple(int(v) for v in middle.round()), round(2.6 * unit), fill, -1)
    for number, name in enumerate(CLASSES[2:], start=2):
        place = tuple(int(v) for v in where[name].mean(0).round())
        cv2.circle(image, place, max(1, round(0.35 * unit)), COLOURS[name], -1)
        cv2.circle(ids, place, max(1, round(0.35 * unit)), number, -1)
    return image, ids


@dataclass(frozen=True)
class Take:
    """One sequence: frames (N, H, W, 3), maps (N, H, W), points (N, 68, 2)."""

    frames: list[Any]
    maps: list[Any]
    points: Any


def take(count: int, seed: int = 0) -> Take:
    """A face that drifts and tilts."""
    random = np.random.default_rng(seed)
    frames, maps, points = [], [], []
    for index in range(count):
        unit = 11 + random.uniform(-1, 1)
        centre = (75 + index % 7, 45 + index % 5)
        found = points_68(centre, unit, random.uniform(-0.3, 0.3))
        image, ids = draw(found, unit)
        frames.append(image)
        maps.append(ids)
        points.append(found)
    return Take(frames, maps, np.stack(points))


def write_video(path: Path, frames: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=20, options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuvj420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def write_maps(folder: Path, names: list[str], maps: list[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in zip(names, maps, strict=True):
        Image.fromarray(ids).save(folder / f"{name}.png")


def write_classes(root: Path) -> None:
    (root / "parsing").mkdir(parents=True, exist_ok=True)
    (root / "parsing" / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")


def disfa_intensity(au: int, frame: int) -> int:
    return (au + frame) % 6


def write_disfa(root: Path, subjects: tuple[str, ...] = ("SN001", "SN002"), count: int = 6) -> Path:
    for index, subject in enumerate(subjects):
        shown = take(count, seed=index)
        write_video(root / f"Videos_LeftCamera/LeftVideo{subject}_comp.avi", shown.frames)
        (root / "landmarks").mkdir(exist_ok=True)
        np.save(root / "landmarks" / f"{subject}.npy", shown.points)
        write_maps(root / "parsing" / subject, [f"{frame:06d}" for frame in range(1, count + 1)], shown.maps)
        labels = root / "ActionUnit_Labels" / subject
        labels.mkdir(parents=True)
        for au in CODED_AUS:
            lines = [f"{frame},{disfa_intensity(au, frame)}" for frame in range(1, count + 1)]
            (labels / f"{subject}_au{au}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_classes(root)
    return root


def write_bp4d(root: Path, sequences: tuple[str, ...] = ("F001_T1", "M018_T8"), count: int = 5) -> Path:
    """Frames 2440, 2441, ...; AU1 codes 0, 1, 9, 0, ...; one image more than there are codes."""
    coding = root / "AUCoding" / "AU_OCC"
    coding.mkdir(parents=True)
    for index, sequence in enumerate(sequences):
        subject, task = sequence.split("_")
        shown = take(count + 1, seed=10 + index)
        numbers = [2440 + step for step in range(count + 1)]
        folder = root / subject / task
        folder.mkdir(parents=True)
        for number, pixels in zip(numbers, shown.frames, strict=True):
            Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=95)
        write_maps(root / "parsing" / subject / task, [str(number) for number in numbers], shown.maps)
        (root / "landmarks").mkdir(exist_ok=True)
        np.save(root / "landmarks" / f"{sequence}.npy", shown.points[:count])
        aus = sorted({*BP4D_AUS, 5, 9})
        lines = [",".join(["0", *map(str, aus)])]
        for step, number in enumerate(numbers[:count]):
            lines.append(",".join([str(number), *(str((0, 1, 9)[(step + au - 1) % 3]) for au in aus)]))
        (coding / f"{sequence}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_classes(root)
    return root


ATTRIBUTES = ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Male")


def write_celeba(root: Path, count: int = 6, *, mirror: bool = False) -> Path:
    """As distributed (count and header lines, Anno and Eval), or as a CSV mirror."""
    shown = take(count, seed=20)
    folder = root / ("img_align_celeba/img_align_celeba" if mirror else "Img/img_align_celeba")
    folder.mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    for name, pixels in zip(names, shown.frames, strict=True):
        Image.fromarray(pixels).save(folder / name, quality=95)
    values = [[(-1, 1)[(row + column) % 2] for column in range(len(ATTRIBUTES))] for row in range(count)]
    eyes = [[found[part].mean(0) for part in (slice(36, 42), slice(42, 48))] for found in shown.points]
    five = [
        np.concatenate([*pair, found[30], found[48], found[54]]).round().astype(int).tolist()
        for pair, found in zip(eyes, shown.points, strict=True)
    ]
    axes = [f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
    tables: dict[str, tuple[list[str], list[list[int]]]] = {
        "list_attr_celeba": (list(ATTRIBUTES), values),
        "list_landmarks_align_celeba": (axes, five),
        "identity_CelebA": (["identity"], [[row // 2 + 100] for row in range(count)]),
        "list_eval_partition": (["partition"], [[min(2, row // 2)] for row in range(count)]),
    }
    for table, (header, rows) in tables.items():
        body = [[name, *map(str, row)] for name, row in zip(names, rows, strict=True)]
        if mirror:
            text = "\n".join(",".join(line) for line in [["image_id", *header], *body])
            (root / f"{table}.csv").write_text(text + "\n", encoding="utf-8")
            continue
        place = root / ("Eval" if table == "list_eval_partition" else "Anno")
        place.mkdir(exist_ok=True)
        first = [str(count), " ".join(header)] if table.startswith(("list_attr", "list_landmarks")) else []
        text = "\n".join([*first, *("  ".join(line) for line in body)])
        (place / f"{table}.txt").write_text(text + "\n", encoding="utf-8")
    return root


def write_rafdb(root: Path) -> Path:
    shown = take(9, seed=30)
    images = root / "basic" / "Image" / "aligned"
    images.mkdir(parents=True)
    names = [*(f"train_{number:05d}" for number in range(1, 8)), "test_0001", "test_0002"]
    for name, pixels in zip(names, shown.frames, strict=True):
        Image.fromarray(pixels[:100, 30:130]).save(images / f"{name}_aligned.jpg", quality=95)
    codes = [1, 2, 3, 4, 5, 6, 7, 5, 7]
    lines = [f"{name}.jpg {code}" for name, code in zip(names, codes, strict=True)]
    (root / "basic" / "EmoLabel").mkdir()
    (root / "basic" / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def disfa(tmp_path: Path) -> Path:
    """Two subjects of six frames, with landmarks and maps."""
    return write_disfa(tmp_path / "disfa-raw")


@pytest.fixture
def bp4d(tmp_path: Path) -> Path:
    """Two sequences of five coded frames, with landmarks and maps."""
    return write_bp4d(tmp_path / "bp4d-raw")


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """Six images of three people, as distributed."""
    return write_celeba(tmp_path / "celeba-raw")


@pytest.fixture
def rafdb(tmp_path: Path) -> Path:
    """Seven training and two test images."""
    return write_rafdb(tmp_path / "rafdb-raw")


@pytest.fixture
def make_disfa(tmp_path: Path) -> Callable[..., Path]:
    """make_disfa(name, subjects=..., count=...) -> another raw folder."""

    def make(name: str, **options: Any) -> Path:
        return write_disfa(tmp_path / name, **options)

    return make


@pytest.fixture
def celeba_mirror(tmp_path: Path) -> Path:
    """The same six images as a CSV mirror."""
    return write_celeba(tmp_path / "celeba-mirror", mirror=True)
