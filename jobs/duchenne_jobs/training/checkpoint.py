"""Checkpoints of one fold job: safetensors, renamed into place, verified when read, the last two kept.

A checkpoint is a nest of dicts and lists with tensors and plain values in it. Its tensors become those of the file, the
nest a line of JSON in the file's metadata, behind a SHA-256 over both: safetensors has no checksum.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

LOGGER = logging.getLogger("duchenne.training")
SUFFIX = ".safetensors"
_OLD_SUFFIX = ".pt"  # what earlier versions wrote; read, never written
_STATE, _TENSOR, _PAIRS = "state", "tensor", "pairs"


class DamagedError(ValueError):
    """These bytes are no whole checkpoint."""


def checkpoint_file(folder: Path, name: str) -> Path:
    """Where the last checkpoint of that name stands, or will."""
    path, old = folder / f"{name}{SUFFIX}", folder / f"{name}{_OLD_SUFFIX}"
    return old if old.exists() and not path.exists() else path


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the last one stands."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, containers) so that a reader sees the old file or the new one, never half.

    The file that stood there before becomes the previous one.

    Raises:
        OSError: the disk is full or the folder can't be written; the old checkpoints stand.
    """
    content = packed(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a machine that loses power must not find an empty file under the name
        if path.exists():
            path.replace(previous_of(path))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: Path, *, or_previous: bool = True) -> dict[str, Any] | None:
    """The last state saved, on the CPU; the one before where that is damaged; None where there is none.

    Without `or_previous` only the last one will do.

    A damaged file costs the epochs behind it, not the job: training is a pure function of the job, so a run from an
    earlier epoch reaches the same numbers. The loss is logged.
    """
    files = [file for file in (path, previous_of(path))[: 1 + or_previous] if file.exists()]
    return first_whole((str(file), file.read_bytes()) for file in files)


def first_whole(found: Iterable[tuple[str, bytes]]) -> dict[str, Any] | None:
    """The first of these, as (what people call it, content), that is whole; the loss of those before it is logged."""
    damaged: list[tuple[str, DamagedError]] = []
    state = None
    for shown, content in found:
        try:
            state = unpacked(content)
            break
        except DamagedError as error:
            damaged.append((shown, error))
    instead = "starts again from its first epoch" if state is None else "goes on from the one before"
    for shown, why in damaged:
        LOGGER.warning("%s: the checkpoint is damaged (%s); the job %s", shown, why, instead)
    return state


def packed(state: dict[str, Any]) -> bytes:
    """`state` as the bytes of a checkpoint."""
    tensors: dict[str, Tensor] = {}
    line = json.dumps(_plain(state, "", tensors))
    # One entry, not two: safetensors writes several in an order of its own each time.
    return safetensors.torch.save(tensors, {_STATE: f"{_digest(line, tensors)} {line}"})


def unpacked(content: bytes) -> dict[str, Any]:
    """What `packed` was given, on the CPU.

    Raises:
        DamagedError: it is not whole, or no checkpoint.
    """
    state = _unpickled(content) if content[:2] == b"PK" else _read(content)
    if not isinstance(state, dict) or not isinstance(state.get("epoch"), int):
        raise DamagedError("it holds no epoch")
    return state


def _read(content: bytes) -> Any:
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        digest, line = json.loads(content[8 : 8 + length])["__metadata__"][_STATE].split(" ", 1)
        if digest != _digest(line, tensors):
            raise DamagedError("its checksum differs")
        return _nested(json.loads(line), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise error if isinstance(error, DamagedError) else DamagedError(_told(error)) from error


def _unpickled(content: bytes) -> Any:
    """A file of an earlier version. torch.load checks no checksum: it returns flipped bits as weights."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise DamagedError(f"checksum of {broken}")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except DamagedError:
        raise
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError
        raise DamagedError(_told(error)) from error


def _plain(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors put aside under their places."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach().to("cpu").contiguous().clone()
        return {_TENSOR: place}
    if isinstance(value, dict):
        return {_PAIRS: [[key, _plain(item, f"{place}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{place}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _nested(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_nested(item, tensors) for item in value]
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _nested(item, tensors) for key, item in value[_PAIRS]}
    return value


def _digest(line: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(line.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _told(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"
