"""Where a network's attention lies on a few held-out rows: one small file a fold job, for the figures.

The file names its rows and holds no picture of them: a face that is taken out of the dataset is in no figure any more.

Shapes: N rows, L cross-attention layers, n heads, Q queries (one a task, or one for all), T tasks, h x w patches.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class AttentionSample:
    """The attention of some rows.

    Attributes:
        attention: (N, L, n, Q, h, w) float16, sums to 1 over the patches.
        tasks: (T,) names.
        subjects, sequences, frames: (N,) where each row comes from.
        labels: (N, T) int8 in {-1, 0, 1}.
        config: the configuration of the run, as JSON.
    """

    attention: NDArray[np.float16]
    tasks: NDArray[np.str_]
    subjects: NDArray[np.str_]
    sequences: NDArray[np.str_]
    frames: NDArray[np.int64]
    labels: NDArray[np.int8]
    config: str


def write_attention(path: Path, sample: AttentionSample) -> None:
    """Write atomically.

    Raises:
        OSError: the folder can't be written or the disk is full; no file is left.
    """
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(sample).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_attention(path: Path) -> AttentionSample:
    """Read what `write_attention` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these files.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            fields: dict[str, Any] = {name: arrays[name] for name in AttentionSample.__dataclass_fields__}
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: an attention file must hold its arrays, but {error}; run its job again") from error
    return AttentionSample(**{**fields, "config": str(fields["config"])})
