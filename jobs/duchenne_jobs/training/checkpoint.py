"""Checkpoints of one fold job: written beside their place and renamed into it, read without unpickling code."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

LOGGER = logging.getLogger("duchenne.training")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, containers) so that a reader sees the old file or the new one, never half.

    Raises:
        OSError: the disk is full or the folder can't be written; the old checkpoint stands.
    """
    # Not torch.save(state, path): on a full disk that raises a RuntimeError with the errno lost.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(buffer.getbuffer())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last state saved, on the CPU; None where there is none, or where the file is damaged.

    A damaged file costs the epochs behind it, not the job: training is a pure function of the job, so a run from the
    start reaches the same numbers. The loss is logged.
    """
    if not path.exists():
        return None
    data = path.read_bytes()
    fault = _fault_of(data)
    if fault is None:
        try:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises anything from EOFError to UnpicklingError
            fault = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"
        else:
            if isinstance(state, dict) and isinstance(state.get("epoch"), int):
                return state
            fault = "it holds no epoch"
    LOGGER.warning("%s: the checkpoint is damaged (%s); the job starts again from its first epoch", path, fault)
    return None


def _fault_of(data: bytes) -> str | None:
    """What is wrong with the container, or None. torch.load checks no checksum: it returns flipped bits as weights."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return str(error)
    return None if broken is None else f"checksum of {broken}"
