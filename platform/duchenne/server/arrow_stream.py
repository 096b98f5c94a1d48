"""Arrow that strangers send, read without trusting it: message by message, nothing compressed, plain columns only.

An Arrow file is its magic, the messages of a stream, and a footer that points back to them. Only the messages are read,
in their order; a footer could point anywhere. A compressed buffer says how large it becomes and Arrow believes it, so a
message that has any is refused by its header, before its body is touched.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FILE_MAGIC: Final = b"ARROW1\x00\x00"
_SCHEMA, _RECORD_BATCH = "schema", "record batch"
_HEADER_FIELD: Final = 2
"""Place of the header in flatbuffers' table Message (version, header type, header, body length, metadata)."""
_COMPRESSION_FIELD: Final = 3
"""Place of the compression in table RecordBatch (length, nodes, buffers, compression, variadic counts)."""


class ArrowRefused(ValueError):  # noqa: N818 - reads as the fact it states
    """The file is no plain Arrow; the message says why, and what to do."""


def read_batches(path: Path, max_rows: int) -> tuple[Any, Iterator[Any]]:
    """(schema, record batches) of an Arrow file or stream; the batches are checked as they come.

    Args:
        max_rows: more rows than this are refused, whatever they hold.

    Raises:
        ArrowRefused: see its message.
    """
    import pyarrow as pa

    source = pa.memory_map(str(path), "r")
    if source.size() >= len(FILE_MAGIC) and source.read(len(FILE_MAGIC)) != FILE_MAGIC:
        source.seek(0)
    try:
        reader = pa.ipc.MessageReader.open_stream(source)
        first = reader.read_next_message()
        if first.type != _SCHEMA:
            raise ArrowRefused(
                f"an Arrow file begins with its schema, but this one with {first.type!r:.40}; write it anew"
            )
        schema = pa.ipc.read_schema(first)
    except (pa.ArrowException, StopIteration, OSError) as error:
        raise _damaged(error) from error
    return schema, _batches(reader, schema, max_rows)


def _batches(reader: Any, schema: Any, max_rows: int) -> Iterator[Any]:
    import pyarrow as pa

    rows = 0
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from error
        if message.type != _RECORD_BATCH:
            raise ArrowRefused(
                f"an Arrow file has plain columns only, but this one a {message.type!r:.40}; write it anew"
            )
        if _is_compressed(message.metadata.to_pybytes()):
            raise ArrowRefused("an Arrow file must not be compressed, but this one is; write it with compression=None")
        try:
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from error
        rows += batch.num_rows
        if rows > max_rows:
            raise ArrowRefused(
                f"every frame comes once, {max_rows} in all, but there are more rows; send no frame twice"
            )
        yield batch


def _damaged(error: Exception) -> ArrowRefused:
    said = (str(error).strip().splitlines() or ["it ends too early"])[0]
    return ArrowRefused(f"an Arrow file must be whole, but this one can't be read ({said[:200]}); write it anew")


def _is_compressed(metadata: bytes) -> bool:
    """Whether a record batch's header names a compression.

    Raises:
        ArrowRefused: the header is not laid out as flatbuffers are.
    """
    try:
        message = struct.unpack_from("<I", metadata, 0)[0]
        header = _field(metadata, message, _HEADER_FIELD)
        if header is None:
            raise ArrowRefused("a record batch needs a header, but one has none; write the file anew")
        batch = header + struct.unpack_from("<I", metadata, header)[0]
        return _field(metadata, batch, _COMPRESSION_FIELD) is not None
    except struct.error as error:
        raise _damaged(error) from error


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffers table lies; None where it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise struct.error("a table points before the message")
    size = struct.unpack_from("<H", data, vtable)[0]
    place = 4 + 2 * number
    if place + 2 > size:
        return None
    offset = struct.unpack_from("<H", data, vtable + place)[0]
    return None if offset == 0 else table + offset
