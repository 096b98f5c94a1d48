"""What an entry's runs kept of their orders and their attention: small files beside its predictions.

Shapes: Q queries, h x w patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duchenne.figures.soft_orders import SoftOrders, mean_soft_orders
from duchenne.figures.source import FloatArray, NoData, SweepData
from duchenne.records import RecordStore
from duchenne.records import Sweep as SweepRecord
from duchenne.server.pages.cache import Recent
from duchenne.spec import Sweep


@dataclass(frozen=True, eq=False)
class Attention:
    """(Q, h, w) attention of each query, mean over held-out rows and heads of the first cross-attention layer."""

    names: tuple[str, ...]
    maps: FloatArray
    rows: int


@dataclass(frozen=True)
class Kept:
    """What was kept; None where nothing was."""

    orders: SoftOrders | None
    attention: Attention | None


_READ: Recent[Kept] = Recent(32)


def kept_of(
    store: RecordStore, home: Path, sweep: SweepRecord, entry: str, method: str, tasks: tuple[str, ...]
) -> Kept:
    """What the runs behind an entry kept. An entry is written once they have ended, so it is read once."""
    return _READ.get((store.address, entry), lambda: _read(store, home, sweep, method, tasks))


def _read(store: RecordStore, home: Path, record: SweepRecord, method: str, tasks: tuple[str, ...]) -> Kept:
    data = SweepData(
        record=record,
        sweep=Sweep.model_validate(record.spec),
        home=home,
        trials=(),
        jobs=tuple(job for job in store.fold_jobs(record.id, phase="evaluation") if job.key.method == method),
        results=(),
        attempts=(),
        leases=(),
        board=(),
    )
    return Kept(_orders(data, tasks), _attention(data))


def _orders(data: SweepData, tasks: tuple[str, ...]) -> SoftOrders | None:
    try:
        return mean_soft_orders(data, tasks)
    except NoData:
        return None


def _attention(data: SweepData) -> Attention | None:
    found = data.attention()
    if found is None:
        return None
    sample, _ = found
    maps = np.asarray(sample.attention[:, 0], dtype=np.float64).mean(axis=(0, 1))
    names = tuple(str(name) for name in sample.tasks) if len(maps) == len(sample.tasks) else ("all tasks",) * len(maps)
    return Attention(names, maps, len(sample.attention))
