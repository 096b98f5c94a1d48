"""Pixels of a batch: decoded from the stored bytes, or copied from a shard that was decoded once and kept.

Shapes: B batch, H and W height and width in pixels, N rows of a shard.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray

from duchenne_jobs.data.cache import ShardCache
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.decoding import NO_CLASS, decode_face, decode_parsing, pixel_size
from duchenne_jobs.data.manifest import SHARD_SUFFIX
from duchenne_jobs.data.stream.shard import ByteColumn, OpenShard

CHUNK_ROWS = 64  # decoded at once, and one record batch of a file of pixels
_JPEG_BEGINS = 0xFF
_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger(__name__)

Size: TypeAlias = tuple[int, int]  # (H, W)
Scale: TypeAlias = tuple[float, float]  # (H, W) given out over (H, W) stored


class EncodedFaces:
    """The faces of a shard, decoded every time.

    Args:
        shard: where their bytes are.
        size: (H, W) of what is given out.
        parsing: whether parsing maps are given out too.
    """

    def __init__(self, shard: OpenShard, size: Size, parsing: bool) -> None:
        self._shard = shard
        self._size = size
        self._parsing = parsing

    def read(self, row: int, image: NDArray[np.uint8], parsing: NDArray[np.uint8] | None) -> Scale:
        """Write a row's face into `image` (H, W, 3) RGB and its map into `parsing` (H, W), all NO_CLASS if it has none.

        Raises:
            DatasetError: the row has no face, or its image can't be decoded; it is named.
        """
        data = self._shard.images[row]
        if data is None:
            raise DatasetError(f"{self._shard.shown}, row {row} has no face; leave such rows out")
        try:
            scale = self._decode(data, image)
            if parsing is not None:
                parsing[:] = self._map(row)
        except ValueError as error:
            raise DatasetError(f"{self._shard.shown}, row {row}: {error}; ingest the dataset again") from error
        return scale

    def _decode(self, data: NDArray[np.uint8], image: NDArray[np.uint8]) -> Scale:
        if data[0] == _JPEG_BEGINS:
            # Straight into the batch: OpenCV's pixels an eighth sooner, since OpenCV decodes into memory of its own.
            # Most faces are of the size that is wanted, so that it is not asked for first; a larger one is refused
            # before anything is decoded, since the buffer can't hold it.
            try:
                if simplejpeg.decode_jpeg(data, buffer=image).shape == image.shape:
                    return 1.0, 1.0
            except ValueError:
                if pixel_size(data.data) == self._size:
                    raise
        pixels, stored = decode_face(data.data, self._size)
        image[:] = pixels.permute(1, 2, 0).numpy()
        return self._size[0] / stored[0], self._size[1] / stored[1]

    def _map(self, row: int) -> NDArray[np.uint8] | int:
        data = self._shard.maps[row]
        if data is None:
            return NO_CLASS
        ids: NDArray[np.uint8] = decode_parsing(data.data, self._size).numpy()
        return ids


class DecodedFaces:
    """The faces of a shard, copied from a memory-mapped Arrow file; the few that are not in it are decoded.

    Args:
        file: made by `keep_decoded`.
        encoded: the same faces, for those rows.
    """

    def __init__(self, file: Path, encoded: EncodedFaces, size: Size) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
        self._encoded = encoded
        self._size = size
        self._images = ByteColumn(table["image"])
        self._maps = ByteColumn(table["parsing"]) if "parsing" in table.column_names else None
        self._scales: list[list[float]] = table["scale"].to_pylist()

    def read(self, row: int, image: NDArray[np.uint8], parsing: NDArray[np.uint8] | None) -> Scale:
        """As `EncodedFaces.read`."""
        pixels = self._images[row]
        if pixels is None:
            return self._encoded.read(row, image, parsing)
        image[:] = pixels.reshape(image.shape)
        ids = None if self._maps is None else self._maps[row]
        if parsing is not None and ids is not None:
            parsing[:] = ids.reshape(parsing.shape)
        height, width = self._scales[row]
        return height, width


Faces: TypeAlias = EncodedFaces | DecodedFaces


def keep_decoded(cache: ShardCache, shard: OpenShard, sha256: str, size: Size, parsing: bool, pool: Executor) -> Faces:
    """The faces of a shard from a file of pixels in the cache, which is made first unless it is there.

    Where the disk has no room for it, faces are decoded every time, and a warning says so.

    Args:
        sha256: of the shard (`sha256:...`): the file is named after it, so that `data forget` purges it.
        pool: decodes.
    """
    encoded = EncodedFaces(shard, size, parsing)
    height, width = size
    name = f"{sha256.removeprefix('sha256:')}-{height}x{width}{'-parsing' if parsing else ''}{SHARD_SUFFIX}"
    pixel_bytes = height * width * (4 if parsing else 3)
    rows = shard.table.num_rows
    try:
        file = cache.keep(name, rows * pixel_bytes, lambda path: _write(path, encoded, rows, size, parsing, pool))
        return DecodedFaces(file, encoded, size)
    except OSError as error:
        if error.errno not in (*_FULL, errno.ENOENT):  # dropped again by another process before it was opened
            raise DatasetError(
                f"cannot keep decoded faces in {cache.folder}: {error.strerror or error}; check the folder, "
                "or use the encoded cache"
            ) from error
        _log.warning("no room in %s for the decoded faces of %s: they are decoded each time", cache.folder, shard.shown)
        return encoded


def _write(path: Path, encoded: EncodedFaces, rows: int, size: Size, parsing: bool, pool: Executor) -> None:
    """Decode every row of a shard; those that can't be stay null, and are refused when somebody wants them."""
    fields = [pa.field("image", pa.binary()), pa.field("scale", pa.list_(pa.float32(), 2))]
    schema = pa.schema([*fields, pa.field("parsing", pa.binary())] if parsing else fields)
    chunks = [range(begin, min(begin + CHUNK_ROWS, rows)) for begin in range(0, rows, CHUNK_ROWS)]
    with path.open("wb") as file, pa.ipc.new_file(file, schema) as sink:
        for batch in _bounded_map(pool, lambda chunk: _record_batch(encoded, chunk, size, schema), chunks):
            sink.write_batch(batch)


def _record_batch(encoded: EncodedFaces, rows: range, size: Size, schema: Any) -> Any:
    columns: dict[str, list[Any]] = {"image": [], "scale": [], "parsing": []}
    image = np.empty((*size, 3), np.uint8)
    ids = np.empty(size, np.uint8) if "parsing" in schema.names else None
    for row in rows:
        try:
            scale = encoded.read(row, image, ids)
        except DatasetError:
            values: tuple[Any, ...] = (None, (1.0, 1.0), None)
        else:
            values = (image.tobytes(), scale, None if ids is None else ids.tobytes())
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _bounded_map(pool: Executor, work: Callable[[Any], Any], items: list[Any], ahead: int = 8) -> Any:
    """`pool.map` that has no more than `ahead` results waiting."""
    waiting = [pool.submit(work, item) for item in items[:ahead]]
    for item in items[ahead:]:
        yield waiting.pop(0).result()
        waiting.append(pool.submit(work, item))
    for future in waiting:
        yield future.result()
