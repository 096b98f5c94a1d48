"""Predictions with known counts, and entries made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from duchenne.boards import EntryCounts, FoldCounts
from duchenne.records import Entry, NewEntry, NewSweep, PredictionFile, RecordStore, open_home
from duchenne_jobs.evaluation import Predictions, write_predictions

Matrix = NDArray[np.int8] | list[list[int]]


def predictions_of(subjects: list[str], labels: Matrix, probabilities: object, tasks: tuple[str, ...]) -> Predictions:
    rows = len(subjects)
    return Predictions(
        tasks=tasks,
        subjects=np.array(subjects, dtype=object),
        sequences=np.array(["T1"] * rows, dtype=object),
        frames=np.arange(rows),
        labels=np.asarray(labels, dtype=np.int8),
        probabilities=np.asarray(probabilities, dtype=np.float32),
    )


@pytest.fixture
def make_predictions() -> Callable[..., Predictions]:
    """make_predictions(subjects, labels, probabilities, tasks) -> predictions."""
    return predictions_of


@pytest.fixture
def make_counts() -> Callable[..., EntryCounts]:
    """make_counts([(subjects, tp, fp, fn), ...]) -> counts with one seed, fold by fold; each (N, T), no negatives."""

    def make(folds: list[tuple[list[str], object, object, object]]) -> EntryCounts:
        made = []
        for number, (subjects, *parts) in enumerate(folds):
            tp, fp, fn = (np.asarray(part, dtype=np.int64)[None] for part in parts)
            made.append(FoldCounts(number, tuple(subjects), (0,), tp, fp, fn, np.zeros_like(tp)))
        return EntryCounts(tuple(f"AU{index}" for index in range(made[0].tp.shape[2])), tuple(made))

    return make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


@pytest.fixture
def make_entry(store: RecordStore, tmp_path: Path) -> Callable[..., Entry]:
    """make_entry(name, {(fold, seed): predictions}, ...) -> an entry on the board, its files written below the home."""

    def make(
        name: str,
        files: dict[tuple[int, int], Predictions],
        *,
        metrics: dict[str, float] | None = None,
        dataset: str = "sha256:data",
        verified: str = "verified",
    ) -> Entry:
        sweep = store.create_sweep(
            NewSweep(name=name, team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="u")
        )
        written = []
        for (fold, seed), predictions in files.items():
            path = Path("predictions") / sweep.id / f"fold{fold}-seed{seed}.arrow"
            digest = write_predictions(tmp_path / path, predictions, {})
            written.append(PredictionFile(fold=fold, seed=seed, path=str(path), digest=digest))
        return store.save_entry(
            NewEntry(
                board="b",
                team="t",
                sweep=sweep.id,
                method=name,
                label=name.upper(),
                config={},
                verified=verified,
                metrics=metrics or {},
                per_fold=[],
                predictions=tuple(written),
                dataset_digest=dataset,
                folds_digest="sha256:folds",
                cost_usd=1.5,
                trials=3,
            )
        )

    return make
