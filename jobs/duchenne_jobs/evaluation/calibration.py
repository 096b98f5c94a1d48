"""Whether probabilities are frequencies: the reliability diagram and the expected calibration error.

Shapes: N rows, T tasks, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 10
"""Of equal width over [0, 1]."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """What each bin of predicted probabilities holds, known labels alone; all (T, B).

    Attributes:
        rows: how many.
        predicted: sum of their probabilities.
        positives: how many of their labels are positive.
    """

    rows: NDArray[np.int64]
    predicted: NDArray[np.float64]
    positives: NDArray[np.int64]

    @property
    def mean_predicted(self) -> NDArray[np.float64]:
        """(T, B) mean probability; NaN in an empty bin."""
        return _share(self.predicted, self.rows)

    @property
    def frequency(self) -> NDArray[np.float64]:
        """(T, B) share of positive labels; NaN in an empty bin."""
        return _share(self.positives, self.rows)

    @property
    def calibration_error(self) -> NDArray[np.float64]:
        """(T,) `sum_b rows_b / rows |frequency_b - mean_predicted_b|` (Guo et al. 2017, eq. 3); NaN without rows."""
        gaps = np.abs(self.positives - self.predicted).sum(axis=-1)
        return _share(gaps, self.rows.sum(axis=-1))


def reliability(labels: NDArray[np.integer], probabilities: NDArray[np.floating], bins: int = BINS) -> Reliability:
    """Sort the known labels into `bins` by the probability that was predicted for them.

    Args:
        labels: (N, T) in {-1, 0, 1}, -1 unknown.
        probabilities: (N, T) in [0, 1]; 1 belongs to the last bin.
    """
    tasks = labels.shape[1]
    known = labels >= 0
    place = bin_of(probabilities, bins) + bins * np.arange(tasks)

    def per_bin(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = np.bincount(place[known], values[known], minlength=bins * tasks).astype(np.float64)
        return sums.reshape(tasks, bins)

    return Reliability(
        rows=per_bin(np.ones(labels.shape)).astype(np.int64),
        predicted=per_bin(probabilities.astype(np.float64)),
        positives=per_bin((labels == 1).astype(np.float64)).astype(np.int64),
    )


def bin_of(probabilities: NDArray[np.floating], bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each probability, 0 to bins - 1."""
    exact = probabilities.astype(np.float64)  # a product in float32 may round up into the next bin
    return np.minimum((exact * bins).astype(np.int64), bins - 1)


def _share(part: NDArray[np.floating | np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=share, where=whole > 0)
    return share
