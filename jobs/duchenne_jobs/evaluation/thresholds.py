"""Decision thresholds: the one of each task at which F1 is highest on given rows.

On inner validation rows that is honest, and the column `f1_inner_threshold`; on the test rows themselves it is the
column `f1_oracle`, an upper bound that no model reaches without having seen the answers.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.evaluation.metrics import THRESHOLD


def best_thresholds(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T,) thresholds of the highest F1, `p >= threshold` being positive.

    A threshold stands halfway between two probabilities that occur; 0.5 is kept where it does as well as any, and
    where a task has no positive label to choose by. Of several that do equally well the nearest to 0.5 is taken.

    Args:
        labels: (N, T) in {-1, 0, 1}, -1 unknown.
        probabilities: (N, T) in [0, 1].
    """
    columns = range(labels.shape[1])
    return np.array([_best(labels[:, task], probabilities[:, task].astype(np.float64)) for task in columns])


def _best(labels: NDArray[np.integer], probabilities: NDArray[np.float64]) -> float:
    known = labels >= 0
    positives = int((labels[known] == 1).sum())
    if not positives:
        return THRESHOLD
    order = np.argsort(-probabilities[known], kind="stable")
    scores, hits = probabilities[known][order], np.cumsum(labels[known][order] == 1)
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))  # of the rows of one score
    f1 = 2 * hits[last] / (last + 1 + positives)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    high = scores[last[best]]
    below = np.append(scores, 0.0)[last[best] + 1]
    # Any threshold in (below, high] gives the same decisions on these rows.
    chosen = np.where((below < THRESHOLD) & (high >= THRESHOLD), THRESHOLD, (below + high) / 2)
    return float(chosen[np.abs(chosen - THRESHOLD).argmin()])
