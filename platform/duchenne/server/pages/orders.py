"""What an entry's runs kept of their orders and their attention: small files beside its predictions.

Shapes: J runs, E epochs, T steps and tasks, Q queries, h x w patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from duchenne.figures.source import SweepData
from duchenne.records import RecordStore
from duchenne.records import Sweep as SweepRecord
from duchenne.server.pages.cache import Recent
from duchenne.spec import Sweep

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Orders:
    """The soft order of a method, mean over folds and seeds; row = time step, column = task.

    Attributes:
        runs: J; `tasks`: T names of the columns.
        epochs: those that every run has; `means`: (E, T, T) after each; `final`: (T, T) after each run's last.
    """

    runs: int
    tasks: tuple[str, ...]
    epochs: tuple[int, ...]
    means: FloatArray
    final: FloatArray

    @property
    def positions(self) -> FloatArray:
        """(E, T) the mean time step of each task, from 1 on."""
        steps = np.arange(1, len(self.tasks) + 1, dtype=np.float64)
        positions: FloatArray = np.einsum("est,s->et", self.means, steps) / self.means.sum(axis=1)
        return positions

    @property
    def entropies(self) -> FloatArray:
        """(E,) entropy of a step, mean over steps, as a share of log T: 1 is no preference, 0 a single order."""
        logs = np.log(self.means, out=np.zeros_like(self.means), where=self.means > 0)
        entropies: FloatArray = -(self.means * logs).sum(axis=2).mean(axis=1) / np.log(len(self.tasks))
        return entropies


@dataclass(frozen=True, eq=False)
class Attention:
    """(Q, h, w) attention of each query, mean over held-out rows and heads of the first cross-attention layer."""

    names: tuple[str, ...]
    maps: FloatArray
    rows: int


@dataclass(frozen=True)
class Kept:
    """What was kept; None where nothing was."""

    orders: Orders | None
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


def _orders(data: SweepData, tasks: tuple[str, ...]) -> Orders | None:
    runs = [{epoch: kept.soft_order for epoch, kept in epochs.items()} for epochs in data.order_records().values()]
    shapes = {matrix.shape for epochs in runs for matrix in epochs.values()}
    if len(shapes) != 1:
        return None
    size = next(iter(shapes))[0]
    shared = sorted(set.intersection(*(set(epochs) for epochs in runs)))
    if shapes != {(size, size)} or size < 2 or not shared:
        return None
    names = data.sweep.model.orders.step_names(tasks)
    if len(names) != size:
        names = tuple(f"task {number + 1}" for number in range(size))
    means = np.stack([np.mean([epochs[epoch] for epochs in runs], axis=0) for epoch in shared])
    final = np.mean([epochs[max(epochs)] for epochs in runs], axis=0)
    return Orders(len(runs), names, tuple(shared), means, final)


def _attention(data: SweepData) -> Attention | None:
    found = data.attention()
    if found is None:
        return None
    sample, _ = found
    maps = np.asarray(sample.attention[:, 0], dtype=np.float64).mean(axis=(0, 1))
    names = tuple(str(name) for name in sample.tasks) if len(maps) == len(sample.tasks) else ("all tasks",) * len(maps)
    return Attention(names, maps, len(sample.attention))
