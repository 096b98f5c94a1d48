"""How well an order is shuffled, as numbers that can be compared between loaders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST = 2000  # samples
RANGES = 100


@dataclass(frozen=True)
class ShuffleQuality:
    """Of an epoch's order against the stored one.

    Attributes:
        spanned: share of RANGES equal ranges of the stored ids that the first FIRST samples touch; 1 for a uniform
        shuffle. correlation: Spearman's, of position and stored id; 0 for a uniform shuffle, 1 for none.
        neighbour_distance: mean distance of the ids of two samples in a row over its expectation of N / 3; 1 for a
            uniform shuffle.
    """

    spanned: float
    correlation: float
    neighbour_distance: float


def shuffle_quality(ids: Sequence[int] | NDArray[np.int64], first: int = FIRST) -> ShuffleQuality:
    """The quality of an epoch in which the stored rows 0..N-1 came in the order `ids` (N,), each once.

    Raises:
        ValueError: fewer than 3 rows, or ids that are not 0..N-1 once each.
    """
    order = np.asarray(ids, np.int64)
    count = len(order)
    if count < 3 or not np.array_equal(np.sort(order), np.arange(count)):
        raise ValueError(f"ids must be 0..N-1, each once, with N of at least 3, but got {count} other ones")
    ranges = min(RANGES, count)
    correlation = float(np.corrcoef(np.arange(count), order)[0, 1])  # ids are their own ranks
    return ShuffleQuality(
        spanned=len(np.unique(order[:first] * ranges // count)) / ranges,
        correlation=correlation,
        neighbour_distance=float(np.abs(np.diff(order)).mean() / (count / 3)),
    )
