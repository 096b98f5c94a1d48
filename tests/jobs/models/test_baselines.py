"""scikit-learn's comparators: labels that are unknown or of one class. Their numbers on yeast: tests/jobs/training."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain

from duchenne_jobs.config import BASELINE_NAMES
from duchenne_jobs.models.baselines import BASELINES, predict_baseline


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """40 training rows of 4 features in odd units, labels of 3 tasks of which each helps the next, 10 held-out rows."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(50, 4)) * [1, 10, 100, 1000] + [0, 5, -5, 1e4]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    y = np.stack([z[:, 0] > 0, z[:, 0] + z[:, 1] > 0.3, z[:, 1] + z[:, 2] > 0.5], axis=1).astype(np.int8)
    return x[:40], y[:40], x[40:]


def standardised(x: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (x - x.mean(axis=0)) / x.std(axis=0), (held_out - x.mean(axis=0)) / x.std(axis=0)


def test_every_name_of_the_spec_is_there() -> None:
    assert tuple(BASELINES) == BASELINE_NAMES


def test_binary_relevance_is_one_regression_a_task() -> None:
    x, y, held_out = rows()
    train, test = standardised(x, held_out)
    predicted = predict_baseline("logistic_regression", x, y, held_out, seed=0)
    for task in range(3):
        alone = LogisticRegression(max_iter=1000).fit(train, y[:, task]).predict_proba(test)[:, 1]
        np.testing.assert_allclose(predicted[:, task], alone, rtol=1e-6)


def test_the_chain_is_scikit_learns_in_task_order() -> None:
    x, y, held_out = rows()
    train, test = standardised(x, held_out)
    chain = ClassifierChain(LogisticRegression(max_iter=1000)).fit(train, y).predict_proba(test)
    np.testing.assert_allclose(predict_baseline("classifier_chain", x, y, held_out, seed=7), chain, rtol=1e-6)


def test_the_ensemble_follows_from_its_seed() -> None:
    x, y, held_out = rows()
    first = predict_baseline("chain_ensemble", x, y, held_out, seed=1)
    assert np.array_equal(first, predict_baseline("chain_ensemble", x, y, held_out, seed=1))
    assert not np.array_equal(first, predict_baseline("chain_ensemble", x, y, held_out, seed=100))
    assert bool(((first >= 0) & (first <= 1)).all())


def test_unknown_labels_are_left_out_of_their_task_alone() -> None:
    x, y, held_out = rows()
    masked = y.copy()
    masked[:5, 1] = -1
    predicted = predict_baseline("logistic_regression", x, masked, held_out, seed=0)
    whole = predict_baseline("logistic_regression", x, y, held_out, seed=0)
    assert np.array_equal(predicted[:, [0, 2]], whole[:, [0, 2]])
    train, test = standardised(x, held_out)
    alone = LogisticRegression(max_iter=1000).fit(train[5:], y[5:, 1]).predict_proba(test)[:, 1]
    np.testing.assert_allclose(predicted[:, 1], alone, rtol=1e-6)


def test_chains_refuse_unknown_labels() -> None:
    x, y, held_out = rows()
    y[0, 0] = -1
    for name in ("classifier_chain", "chain_ensemble"):
        with pytest.raises(ValueError, match=r"every training label, but 1 are unknown; leave the chains out of"):
            predict_baseline(name, x, y, held_out, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BASELINE_NAMES)
def test_a_task_of_one_class_predicts_it_and_leaves_the_others_alone(name: str) -> None:
    x, y, held_out = rows()
    wider = np.insert(y, 1, 0, axis=1)
    predicted = predict_baseline(name, x, wider, held_out, seed=0)  # type: ignore[arg-type]
    assert predicted[:, 1].tolist() == [0.0] * 10
    without = predict_baseline(name, x, y, held_out, seed=0)  # type: ignore[arg-type]
    np.testing.assert_allclose(predicted[:, [0, 2, 3]], without, rtol=1e-6)


@pytest.mark.parametrize("name", BASELINE_NAMES)
def test_only_tasks_of_one_class(name: str) -> None:
    x, _, held_out = rows()
    predicted = predict_baseline(name, x, np.tile([0, 1], (40, 1)).astype(np.int8), held_out, seed=0)  # type: ignore[arg-type]
    assert predicted.tolist() == [[0.0, 1.0]] * 10
