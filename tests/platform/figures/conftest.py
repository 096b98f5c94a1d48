"""A finished sweep without Ray: real records, real prediction files and soft orders, all of them known to the tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duchenne.boards.verify import mean_metrics
from duchenne.records import Amounts, FoldJobKey, Lease, NewEntry, NewSweep, PredictionFile, RecordStore, open_store
from duchenne.records.store import SQLITE_NAME
from duchenne.spec import Sweep
from duchenne_jobs.evaluation import Predictions, write_predictions
from duchenne_jobs.training import JobKey

TASKS = ("AU1", "AU4", "AU12")
EPOCHS = 4
FOLDS, INNER, SEEDS = 2, 2, (0, 1)
SELECTED = 1

SPEC: dict[str, Any] = {
    "apiVersion": "duchenne/v1",
    "kind": "Sweep",
    "metadata": {"name": "figures", "team": "faces"},
    "data": {"uri": "builtin://toy?count=60&tasks=3&seed=0"},
    "model": {"name": "monet", "orders": {"count": 6}},
    "training": {"epochs": EPOCHS},
    "search": {
        "space": {
            "model.orders.active": {"choice": [None, 2]},
            "training.learning_rate": {"loguniform": [1e-3, 1e-2]},
            "loss.smoothing": {"choice": [{"name": "none"}, {"name": "rhls", "beta": 0.25}]},
        },
        "scheduler": {"name": "asha", "grace_epochs": 2, "reduction_factor": 2},
        "metric": "f1_macro",
        "trials": 4,
    },
    "comparators": ["vmnc", "logistic_regression"],
    "folds": {"count": FOLDS, "inner": INNER},
    "budget": {"usd": 1.0, "wall_seconds": 5000.0},
    "prices": {"cpu_hour_usd": 3.6},
    "seeds": list(SEEDS),
}


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Home:
    """A home with one sweep, filled step by step; what was recorded stays here for the tests to compare with."""

    path: Path
    store: RecordStore
    clock: Clock
    sweep: str
    curves: dict[tuple[int, int], list[tuple[float, float]]] = field(default_factory=dict)
    values: dict[int, float] = field(default_factory=dict)
    predictions: dict[str, list[Predictions]] = field(default_factory=dict)
    matrices: list[np.ndarray] = field(default_factory=list)
    worker_seconds: dict[str, float] = field(default_factory=lambda: {"search": 0.0, "evaluation": 0.0})

    def key(self, trial: int | None, phase: Any, method: str, fold: int, inner: int | None, seed: int) -> FoldJobKey:
        return FoldJobKey(sweep=self.sweep, trial=trial, phase=phase, method=method, fold=fold, inner=inner, seed=seed)

    def search(self) -> None:
        """Four trials: two run all their epochs, one is stopped at the first rung, one fails."""
        rates = (0.002, 0.004, 0.001, 0.009)
        for number, (rate, epochs) in enumerate(zip(rates, (EPOCHS, EPOCHS, 2, 0), strict=True)):
            smoothing = {"name": "none"} if number % 2 else {"name": "rhls", "beta": 0.25}
            config = {"model.orders.active": 2, "training.learning_rate": rate, "loss.smoothing": smoothing}
            self.store.record_trial(self.sweep, number, config, state="running")
            if not epochs:
                self.store.set_trial_state(self.sweep, number, "failed", error="the loss must be finite")
                continue
            self._train(number, epochs)
            rung, state = (2, "succeeded") if epochs == EPOCHS else (1, "stopped")
            self.values[number] = float(np.mean([values[-1] for (t, _), values in self._metric() if t == number]))
            self.store.set_trial_state(self.sweep, number, state, value=self.values[number], rung=rung)

    def _metric(self) -> list[tuple[tuple[int, int], list[float]]]:
        return [(key, [value for value, _ in rows]) for key, rows in self.curves.items()]

    def _train(self, trial: int, epochs: int) -> None:
        for fold in range(FOLDS):
            for inner in range(INNER):
                key = self.key(trial, "search", "monet", fold, inner, 0)
                place = fold * INNER + inner
                rows = [
                    (0.2 + (0.1, 0.2, 0.5)[trial] + 0.05 * epoch + 0.01 * place**2, 2.0 / epoch + 0.1 * place)
                    for epoch in range(1, epochs + 1)
                ]
                self.curves[trial, place] = rows
                with_attempt = self.begin(key)
                for epoch, (value, loss) in enumerate(rows, start=1):
                    self.store.record_result(key, epoch, 1, {"f1_macro": value, "train_loss": loss})
                self.end(key, with_attempt, 10.0, epochs)

    def begin(self, key: FoldJobKey) -> tuple[int, Lease]:
        self.store.ensure_fold_job(key)
        lease = self.store.ledger.reserve(
            self.sweep, Amounts(usd=0.02, wall_seconds=0.0), ttl=60, holder="w", kind="fold_job"
        )
        assert isinstance(lease, Lease)
        return self.store.start_attempt(key, "worker").id, lease

    def end(self, key: FoldJobKey, begun: tuple[int, Lease], seconds: float, epochs: int, **what: Any) -> None:
        attempt, lease = begun
        self.clock.advance(seconds)
        self.worker_seconds[key.phase] += seconds
        self.store.ledger.settle(lease.id, Amounts(usd=seconds / 1000, wall_seconds=0.0))
        self.store.finish_attempt(attempt, "succeeded", seconds=seconds, epochs=epochs, **what)

    def evaluate(self, methods: tuple[str, ...] = ("monet", "vmnc", "logistic_regression")) -> None:
        """Predictions of every method on every test fold, and MONET's soft orders."""
        for quality, method in zip((0.9, 0.75, 0.6), methods, strict=False):
            files = []
            for fold in range(FOLDS):
                for seed in SEEDS:
                    trial = SELECTED if method == "monet" else None
                    key = self.key(trial, "evaluation", method, fold, None, seed)
                    begun = self.begin(key)
                    made = predictions(fold, seed, quality)
                    path = Path("sweeps") / self.sweep / "predictions" / f"{method}-{fold}-{seed}.arrow"
                    digest = write_predictions(self.path / path, made, {})
                    self.predictions.setdefault(method, []).append(made)
                    files.append(PredictionFile(fold=fold, seed=seed, path=str(path), digest=digest))
                    if method == "monet":
                        self.write_soft_orders(key, seed + fold)
                    self.end(key, begun, 5.0, EPOCHS, predictions=str(path), predictions_digest=digest)
            self.enter(method, files)

    def enter(self, method: str, files: list[PredictionFile], **changes: Any) -> None:
        scores = [
            [item.metrics() for item in self.predictions[method][2 * fold : 2 * fold + 2]] for fold in range(FOLDS)
        ]
        values: dict[str, Any] = {
            "board": "toy",
            "team": "faces",
            "sweep": self.sweep,
            "method": method,
            "label": f"{method} M=6 k=2" if method == "monet" else method,
            "config": {},
            "verified": "verified",
            "metrics": mean_metrics(scores),
            "per_fold": [],
            "predictions": tuple(files),
            "dataset_digest": "sha256:0123456789abcdef",
            "folds_digest": "sha256:folds",
            "trials": 4,
        }
        self.store.save_entry(NewEntry(**{**values, **changes}))

    def soft_order_file(self, key: FoldJobKey) -> Path:
        slug = JobKey(key.trial, key.phase, key.method, key.fold, key.inner, key.seed).slug
        return self.path / "sweeps" / self.sweep / "soft_orders" / f"{slug}.jsonl"

    def write_soft_orders(self, key: FoldJobKey, number: int) -> None:
        """Every epoch nearer to an order of its own; the first line is of an epoch that was run again."""
        rolled = np.roll(np.eye(len(TASKS)), number % 2, axis=0)
        stack = np.stack([(1 - e / 8) / len(TASKS) + e / 8 * rolled for e in range(1, EPOCHS + 1)])
        self.matrices.append(stack)
        lines = [{"epoch": 2, "soft_order": np.eye(len(TASKS)).tolist()}]
        lines += [{"epoch": e, "soft_order": m.tolist()} for e, m in enumerate(stack, start=1)]
        path = self.soft_order_file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def predictions(fold: int, seed: int, quality: float, tasks: tuple[str, ...] = TASKS) -> Predictions:
    """30 rows of 10 subjects; the labels depend on the fold alone, and a share `quality` of them is predicted."""
    labels = np.random.default_rng(fold).integers(0, 2, size=(30, len(tasks))).astype(np.int8)
    right = np.random.default_rng([fold, seed, round(100 * quality)]).random(labels.shape) < quality
    return Predictions(
        tasks=tasks,
        subjects=np.array([f"fold{fold}-S{row // 3}" for row in range(30)], dtype=object),
        sequences=np.array(["T1"] * 30, dtype=object),
        frames=np.arange(30),
        labels=labels,
        probabilities=np.where(right, 0.1 + 0.8 * labels, 0.9 - 0.8 * labels).astype(np.float32),
    )


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    """make_home(**sections) -> a home with a sweep of `SPEC`, its sections replaced by those given; nothing has run."""
    opened: list[RecordStore] = []

    def make(**sections: Any) -> Home:
        clock = Clock()
        path = tmp_path / f"home{len(opened)}"
        path.mkdir()
        store = open_store(path / SQLITE_NAME, clock=clock)
        opened.append(store)
        sweep = Sweep.model_validate({**SPEC, **sections})
        record = store.create_sweep(
            NewSweep(
                name="figures",
                team="faces",
                board="toy",
                spec=sweep.model_dump(mode="json"),
                spec_text="",
                spec_digest="sha256:spec",
                dataset_uri=sweep.data.uri,
                dataset_digest="sha256:0123456789abcdef",
                folds_digest="sha256:folds",
                budget=Amounts(usd=sweep.budget.usd, wall_seconds=sweep.budget.wall_seconds),
            )
        )
        return Home(path, store, clock, record.id)

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    """A sweep that ran to its end."""
    made = make_home()
    driver = made.store.ledger.reserve(
        made.sweep, Amounts(usd=0.0, wall_seconds=400.0), ttl=1000, holder="d", kind="driver"
    )
    assert isinstance(driver, Lease)
    made.search()
    made.evaluate()
    made.store.ledger.settle(driver.id, Amounts(usd=0.0, wall_seconds=sum(made.worker_seconds.values())))
    return made
