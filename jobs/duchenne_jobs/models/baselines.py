"""scikit-learn comparators on standardised features: what a network of this house has to beat.

Shapes: N rows, F features, T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duchenne_jobs.config import BaselineName

ENSEMBLE_CHAINS = 10
MAX_ITERATIONS = 1000

Matrix = NDArray[np.floating]


def logistic_regression(x: Matrix, y: NDArray[np.integer], held_out: Matrix, seed: int) -> Matrix:
    """One logistic regression a task (binary relevance); a task with one class predicts its frequency.

    Args:
        x: (N, F) standardised training features.
        y: (N, T) labels in {-1, 0, 1}; rows of unknown label are left out of that task.
        held_out: (N', F).
        seed: unused: the fit is deterministic.

    Returns:
        (N', T) probabilities.
    """
    columns = []
    for task in range(y.shape[1]):
        known = y[:, task] >= 0
        if len(np.unique(y[known, task])) < 2:
            columns.append(np.full(len(held_out), float(y[known, task].mean()) if known.any() else 0.0))
        else:
            columns.append(_regression().fit(x[known], y[known, task]).predict_proba(held_out)[:, 1])
    return np.stack(columns, axis=1)


def classifier_chain(x: Matrix, y: NDArray[np.integer], held_out: Matrix, seed: int) -> Matrix:
    """One chain in the order of the tasks (`sklearn.multioutput.ClassifierChain`); needs every label known.

    Args and Returns as `logistic_regression`; a task with one class is left out of the chain, where it could say
    nothing, and predicts its frequency.
    """
    return _chain(x, y, held_out, order=None, seed=None)


def chain_ensemble(x: Matrix, y: NDArray[np.integer], held_out: Matrix, seed: int) -> Matrix:
    """Mean of `ENSEMBLE_CHAINS` chains in random orders (Read et al. 2011); `seed` draws the orders.

    Args, Returns and Raises as `classifier_chain`.
    """
    chains = [_chain(x, y, held_out, order="random", seed=seed + i) for i in range(ENSEMBLE_CHAINS)]
    mean: Matrix = np.mean(chains, axis=0)
    return mean


BASELINES: dict[BaselineName, Callable[[Matrix, NDArray[np.integer], Matrix, int], Matrix]] = {
    "logistic_regression": logistic_regression,
    "classifier_chain": classifier_chain,
    "chain_ensemble": chain_ensemble,
}


def predict_baseline(name: BaselineName, x: Matrix, y: NDArray[np.integer], held_out: Matrix, seed: int) -> Matrix:
    """Standardise on the training rows, fit and predict: (N, F), (N, T), (N', F) -> (N', T).

    Raises:
        ValueError: a chain is asked for and a training label is unknown.
    """
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # scikit-learn depends on it

    scaler = StandardScaler().fit(x)
    # On so few features BLAS threads wait for each other: on yeast one takes a twentieth of the CPU seconds of two.
    with threadpool_limits(limits=1, user_api="blas"):
        return BASELINES[name](scaler.transform(x), y, scaler.transform(held_out), seed)


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=MAX_ITERATIONS)


def _chain(x: Matrix, y: NDArray[np.integer], held_out: Matrix, order: str | None, seed: int | None) -> Matrix:
    from sklearn.multioutput import ClassifierChain

    if (y < 0).any():
        raise ValueError(
            f"a classifier chain needs every training label, but {int((y < 0).sum())} are unknown; "
            "leave the chains out of `comparators`"
        )
    frequency = y.mean(axis=0)
    varied = np.flatnonzero((frequency > 0) & (frequency < 1))
    probabilities = np.tile(frequency, (len(held_out), 1))
    if varied.size:
        chain = ClassifierChain(_regression(), order=order, random_state=seed)
        probabilities[:, varied] = chain.fit(x, y[:, varied]).predict_proba(held_out)
    return probabilities
