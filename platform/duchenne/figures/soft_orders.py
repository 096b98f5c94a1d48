"""The mean soft order of a method's runs (Tallec 2023, 2.4), for the figures and for the pages of the server.

Shapes: J fold jobs, T tasks; a soft order is (T, T): row = time step, column = task, rows and columns sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duchenne.figures.source import FloatArray, NoData, SweepData


@dataclass(frozen=True, eq=False)
class SoftOrders:
    """Mean soft order over the runs of one method's evaluation.

    Attributes:
        method: whose it is; `runs`: J, over how many folds and seeds the mean goes.
        tasks: T names.
        epochs: those that every run has, ascending.
        means: (epochs, T, T).
        final: (T, T) after the last epoch of each run, which may differ between runs.
    """

    method: str
    runs: int
    tasks: tuple[str, ...]
    epochs: tuple[int, ...]
    means: FloatArray
    final: FloatArray

    @property
    def positions(self) -> FloatArray:
        """(epochs, T) mean time step of each task, from 1 on."""
        steps = np.arange(1, len(self.tasks) + 1, dtype=np.float64)
        positions: FloatArray = np.einsum("est,s->et", self.means, steps) / self.means.sum(axis=1)
        return positions

    @property
    def entropies(self) -> list[float]:
        """`entropy` after each epoch."""
        return [entropy(matrix) for matrix in self.means]


def entropy(matrix: FloatArray) -> float:
    """Entropy of a time step, mean over steps, as a share of log T: 1 is no preference at all, 0 is a single order."""
    logs = np.log(matrix, out=np.zeros_like(matrix), where=matrix > 0)
    return float(-(matrix * logs).sum(axis=1).mean() / np.log(len(matrix)))


def mean_soft_orders(data: SweepData, tasks: tuple[str, ...] | None = None) -> SoftOrders:
    """The mean over folds and seeds, of every epoch that all runs have and of their last ones.

    Args:
        tasks: T names; None looks them up in the predictions.

    Raises:
        NoData: no evaluation that ended kept a soft order, or there is one task only.
    """
    runs = data.soft_orders()
    if not runs:
        raise NoData("no evaluation that has ended kept a soft order (only monet has one)")
    shapes = {matrix.shape for epochs in runs.values() for matrix in epochs.values()}
    size = next(iter(shapes))[0]
    if shapes != {(size, size)} or size < 2:
        raise NoData(f"soft orders must be square, alike and of two tasks or more, but theirs are {sorted(shapes)}")
    shared = sorted(set.intersection(*(set(epochs) for epochs in runs.values())))
    if not shared:
        raise NoData("the runs of the evaluation have no epoch in common")
    means = np.stack([np.mean([epochs[epoch] for epochs in runs.values()], axis=0) for epoch in shared])
    # An order of groups has a column for each group.
    names = data.sweep.model.orders.step_names(data.tasks() or () if tasks is None else tasks)
    if len(names) != size:
        names = tuple(f"task {number + 1}" for number in range(size))
    final = np.mean([epochs[max(epochs)] for epochs in runs.values()], axis=0)
    return SoftOrders(next(iter(runs)).method, len(runs), names, tuple(shared), means, final)
