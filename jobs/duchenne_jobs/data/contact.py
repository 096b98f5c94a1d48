"""A contact sheet: a few faces of a dataset side by side, with their landmarks and parsing maps where it has them."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from duchenne_jobs.data.dataset import Dataset
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.images import MAX_IMAGE_PIXELS

_TILE, _CAPTION = 128, 14  # pixels
_TINT = 0.7  # share of a class's colour over its pixels


def save_contact_sheet(dataset: Dataset, path: str | Path, count: int = 25) -> Path:
    """Save a sheet of up to `count` faces, evenly spaced over the rows that have an image; PNG by default.

    Where the dataset has parsing maps, each face stands beside itself with the classes in colours, named below.

    Raises:
        DatasetError: no image column, no row with an image, or an image that can't be decoded (its row is named).
        ValueError: count < 1.
    """
    from PIL import Image

    if count < 1:
        raise ValueError(f"count >= 1 must hold for a contact sheet, but got {count}")
    faces = _pick(dataset, count)
    columns = math.ceil(math.sqrt(len(faces)))
    lines = math.ceil(len(faces) / columns)
    classes = dataset.manifest.parsing_classes or ()
    width = _TILE * (2 if classes else 1)
    legend = _legend(classes, columns * width)
    height = lines * (_TILE + _CAPTION)
    sheet = Image.new("RGB", (columns * width, height + (legend.height if legend else 0)), "white")
    for index, face in enumerate(faces):
        line, column = divmod(index, columns)
        sheet.paste(_tile(face, dataset.uri, len(classes)), (column * width, line * (_TILE + _CAPTION)))
    if legend is not None:
        sheet.paste(legend, (0, height))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
    return target


def _pick(dataset: Dataset, count: int) -> list[dict[str, Any]]:
    """Rows as mappings, with the row number under `row`."""
    available = dataset.manifest.columns
    if "image" not in available:
        raise DatasetError(f"{dataset.uri} has no image column, so there are no faces to show")
    table = dataset.rows([name for name in ("subject", "frame", "image", "landmarks", "parsing") if name in available])
    with_image = np.flatnonzero(table["image"].is_valid().to_numpy())
    if with_image.size == 0:
        raise DatasetError(f"{dataset.uri}: every one of its {table.num_rows} images is null: no face was found")
    chosen = with_image[np.unique(np.linspace(0, with_image.size - 1, count).round().astype(np.int64))]
    faces: list[dict[str, Any]] = table.take(pa.array(chosen)).to_pylist()
    for row, face in zip(chosen, faces, strict=True):
        face["row"] = int(row)
    return faces


def _tile(face: dict[str, Any], uri: str, classes: int) -> Any:
    """One face, scaled to fit the tile, above its subject and frame; with `classes`, once more in their colours."""
    from PIL import Image, ImageDraw

    image = _decode(face, "image", uri).convert("RGB")
    scale = min(_TILE / image.width, _TILE / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size)
    tile = Image.new("RGB", (_TILE * (2 if classes else 1), _TILE + _CAPTION), "white")
    tile.paste(small, (0, 0))
    draw = ImageDraw.Draw(tile)
    for x, y in np.reshape(face.get("landmarks") or [], (-1, 2)) * scale:
        if 0 <= x < size[0] and 0 <= y < size[1]:
            draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(0, 230, 118))
    if face.get("parsing") is not None:
        ids = np.asarray(_decode(face, "parsing", uri).resize(size, Image.Resampling.NEAREST))
        tile.paste(Image.blend(small, Image.fromarray(class_colours(256)[ids]), _TINT), (_TILE, 0))
    caption = f"{face['subject']} {face['frame']}" if "frame" in face else str(face["subject"])
    draw.text((2, _TILE + 1), caption[:20], fill="black")
    return tile


def _decode(face: dict[str, Any], column: str, uri: str) -> Any:
    """The picture of a column, loaded; one that claims too many pixels is refused before."""
    from PIL import Image

    try:
        image = Image.open(BytesIO(face[column]), formats=("JPEG", "PNG"))
        if image.width * image.height > MAX_IMAGE_PIXELS:
            raise DatasetError(
                f"{uri}, row {face['row']}: an image may have at most {MAX_IMAGE_PIXELS} pixels, but this one has "
                f"{image.width} x {image.height}; ingest it again, smaller"
            )
        image.load()
    except (OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise DatasetError(
            f"{uri}, row {face['row']} (subject {face['subject']}): its {column} is no readable JPEG or PNG: {error}; "
            "ingest the dataset again"
        ) from error
    return image


def class_colours(count: int) -> Any:
    """(count, 3) uint8: a colour for each class id, the same in every picture; class 0 is dark grey."""
    colours = [(0.2, 0.2, 0.2)]
    for index in range(1, count):
        # Steps of the golden ratio keep the hues of neighbouring ids apart.
        colours.append(
            colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.85 if index % 2 else 0.55, 1.0 if index % 3 else 0.7)
        )
    return (np.array(colours) * 255).astype(np.uint8)


def _legend(classes: Sequence[str], width: int) -> Any | None:
    """A strip with the name of every class beside its colour; None without classes."""
    from PIL import Image, ImageDraw

    if not classes:
        return None
    cell = 16 + 7 * max(len(name) for name in classes)
    columns = max(1, width // cell)
    strip = Image.new("RGB", (width, math.ceil(len(classes) / columns) * _CAPTION + 4), "white")
    draw = ImageDraw.Draw(strip)
    for index, (name, colour) in enumerate(zip(classes, class_colours(len(classes)).tolist(), strict=True)):
        line, column = divmod(index, columns)
        x, y = column * cell, line * _CAPTION + 3
        draw.rectangle((x + 2, y + 1, x + 11, y + 10), fill=tuple(colour))
        draw.text((x + 15, y), name, fill="black")
    return strip
