"""A contact sheet: a few faces of a dataset side by side, with their landmarks where it has them."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from duchenne_jobs.data.dataset import Dataset
from duchenne_jobs.data.errors import DatasetError

_TILE, _CAPTION = 128, 14  # pixels
MAX_IMAGE_PIXELS = 64 * 10**6  # a face image that claims more is refused before it is decoded


def save_contact_sheet(dataset: Dataset, path: str | Path, count: int = 25) -> Path:
    """Save a sheet of up to `count` faces, evenly spaced over the rows that have an image; PNG by default.

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
    sheet = Image.new("RGB", (columns * _TILE, lines * (_TILE + _CAPTION)), "white")
    for index, face in enumerate(faces):
        line, column = divmod(index, columns)
        sheet.paste(_tile(face, dataset.uri), (column * _TILE, line * (_TILE + _CAPTION)))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
    return target


def _pick(dataset: Dataset, count: int) -> list[dict[str, Any]]:
    """Rows as mappings, with the row number under `row`."""
    available = dataset.manifest.columns
    if "image" not in available:
        raise DatasetError(f"{dataset.uri} has no image column, so there are no faces to show")
    table = dataset.rows([name for name in ("subject", "frame", "image", "landmarks") if name in available])
    with_image = np.flatnonzero(table["image"].is_valid().to_numpy())
    if with_image.size == 0:
        raise DatasetError(f"{dataset.uri}: every one of its {table.num_rows} images is null: no face was found")
    chosen = with_image[np.unique(np.linspace(0, with_image.size - 1, count).round().astype(np.int64))]
    faces: list[dict[str, Any]] = table.take(pa.array(chosen)).to_pylist()
    for row, face in zip(chosen, faces, strict=True):
        face["row"] = int(row)
    return faces


def _tile(face: dict[str, Any], uri: str) -> Any:
    """One face, scaled to fit the tile, above its subject and frame."""
    from PIL import Image, ImageDraw

    try:
        image = Image.open(BytesIO(face["image"]), formats=("JPEG", "PNG"))
        if image.width * image.height > MAX_IMAGE_PIXELS:
            raise DatasetError(
                f"{uri}, row {face['row']}: an image may have at most {MAX_IMAGE_PIXELS} pixels, but this one has "
                f"{image.width} x {image.height}; ingest it again, smaller"
            )
        scale = min(_TILE / image.width, _TILE / image.height)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = image.convert("RGB").resize(size)
    except (OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise DatasetError(
            f"{uri}, row {face['row']} (subject {face['subject']}): its image is no readable JPEG or PNG: {error}; "
            "ingest the dataset again"
        ) from error
    tile = Image.new("RGB", (_TILE, _TILE + _CAPTION), "white")
    tile.paste(small, (0, 0))
    draw = ImageDraw.Draw(tile)
    for x, y in np.reshape(face.get("landmarks") or [], (-1, 2)) * scale:
        if 0 <= x < size[0] and 0 <= y < size[1]:
            draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(0, 230, 118))
    caption = f"{face['subject']} {face['frame']}" if "frame" in face else str(face["subject"])
    draw.text((2, _TILE + 1), caption[:20], fill="black")
    return tile
