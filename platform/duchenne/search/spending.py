"""Alpha spending: how much of the error that a race may make has been used up after a share of its folds.

A sequential test that looks at every fold must not spend its level at each look. A spending function says how much of
it may be gone at each share of the information (Lan and DeMets 1983); a look may use what was added since the last one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Final

from duchenne.spec.search import Spending

_NORMAL = NormalDist()


def pocock(alpha: float, share: float) -> float:
    """alpha ln(1 + (e - 1) t): nearly even over the looks, so that what is clearly worse stops early."""
    return alpha * math.log(1.0 + (math.e - 1.0) * share)


def obrien_fleming(alpha: float, share: float) -> float:
    """2 - 2 Phi(z_(alpha / 2) / sqrt(t)): next to nothing at first, nearly all at the end."""
    if share <= 0.0:
        return 0.0
    return 2.0 * (1.0 - _NORMAL.cdf(_NORMAL.inv_cdf(1.0 - alpha / 2.0) / math.sqrt(share)))


SPENDING: Final[dict[Spending, Callable[[float, float], float]]] = {
    "pocock": pocock,
    "obrien_fleming": obrien_fleming,
}


def look_level(spending: Spending, alpha: float, look: int, looks: int) -> float:
    """What look `look` (1-based) of `looks` equally spaced ones may spend; over all looks the sum is alpha.

    Raises:
        ValueError: a look that is none.
    """
    if not 1 <= look <= looks:
        raise ValueError(f"1 <= look <= looks must hold, but got look {look} of {looks}; count looks from 1")
    spent = SPENDING[spending]
    return spent(alpha, look / looks) - spent(alpha, (look - 1) / looks)
