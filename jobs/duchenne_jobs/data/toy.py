"""The toy dataset of Tallec 2023, 2.5.1 (eq. 2.37), as its text describes it, and the split one (2.6, fig. 2.14).

N rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# x lies on the grid of multiples of 2^-23 in [-1, 1): there x + 1 is exact in float32, so that labels recomputed from
# the stored float32 features always agree with the stored ones. It also bounds the number of distinguishable tasks.
_GRID_BITS = 23
MAX_TOY_TASKS = _GRID_BITS + 1


def toy_dataset(count: int, tasks: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Draw `count` rows: x (N, 2) float32 uniform on [-1, 1)^2 and y (N, T) int8 in {0, 1}.

    Task t (1-based) has 2^t - 1 vertical boundaries: y^t = 1 iff floor((x1 + 1) * 2^(t - 1)) is even (Tallec 2023,
    eq. 2.37, read as its text says; the printed indices don't match it). x2 carries no information.

    Raises:
        ValueError: unless count >= 1 and 1 <= tasks <= 24 (finer boundaries than float32 resolves) and seed >= 0.
    """
    if count < 1 or seed < 0 or not 1 <= tasks <= MAX_TOY_TASKS:
        raise ValueError(
            f"count >= 1, 1 <= tasks <= {MAX_TOY_TASKS} and seed >= 0 must hold for the toy dataset, "
            f"but got count={count}, tasks={tasks}, seed={seed}"
        )
    cells = np.random.default_rng(seed).integers(0, 2 ** (_GRID_BITS + 1), size=(count, 2))
    x = (cells * 2.0**-_GRID_BITS - 1.0).astype(np.float32)
    scale = 2.0 ** np.arange(tasks)  # 2^(t - 1) for t = 1..T
    interval = np.floor((x[:, :1].astype(np.float64) + 1.0) * scale)
    return x, (interval % 2 == 0).astype(np.int8)


def split_toy_dataset(
    count: int, tasks: int, seed: int, upper: Sequence[int], lower: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """The extended toy (Tallec 2023, fig. 2.14): the tasks of the toy, permuted by the half that a row lies in.

    Where x2 >= 0 the best order is `upper` (sigma_1), below it `lower` (sigma_2): task sigma(i) of the split toy is
    task i of the plain one, so that its i-th simplest problem is the i-th of the order.

    Args:
        upper, lower: permutations of 0..T-1.

    Returns:
        x (N, 2) of `toy_dataset`, and y (N, T).

    Raises:
        ValueError: as `toy_dataset`; or an order is no permutation.
    """
    for order in (upper, lower):
        if sorted(order) != list(range(tasks)):
            rule = f"an order of the split toy must be a permutation of 0..{tasks - 1}"
            raise ValueError(f"{rule}, but got {list(order)}; name each task once")
    x, plain = toy_dataset(count, tasks, seed)
    y = np.empty_like(plain)
    above = x[:, 1] >= 0
    for half, order in ((above, upper), (~above, lower)):
        y[np.ix_(half, np.asarray(order))] = plain[half]
    return x, y
