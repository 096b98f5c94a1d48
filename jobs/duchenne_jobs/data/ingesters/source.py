"""What an ingester hands over: a description, a number of rows, and a way to make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from duchenne_jobs.data.manifest import Description

Executor = Literal["processes", "ray"]


@dataclass(frozen=True)
class Workshop:
    """Where and with what the rows are made.

    Attributes:
        folder: keeps finished parts, so that the next run after a kill goes on from them.
        workers: how many parts are made at once.
        executor: `processes` of this machine, or tasks of `ray` (which must see `folder` and the source).
        advance: called with the number of rows that were made since the last call.
    """

    folder: Path
    workers: int
    executor: Executor
    advance: Callable[[int], None]


@dataclass(frozen=True)
class Source:
    """What an ingester found.

    Attributes:
        row_count: about how many rows come; for progress alone.
        tables: makes the rows, in an order that is a function of the source alone.
        resumable: whether it keeps parts in the workshop's folder.
        notes: what the user should know of the source and the rows don't show.
    """

    description: Description
    row_count: int
    tables: Callable[[Workshop], Iterator[Any]]
    resumable: bool = False
    notes: tuple[str, ...] = ()


Ingester = Callable[..., Source]  # (source: str | Path | None, [faces: FaceOptions], **options) -> Source
