"""Runs one segment of a fold job on a worker: restore, train to the rung, report every epoch, save.

The phases differ in one thing. In `search` the held-out rows are inner validation subjects, and every epoch is scored.
In `evaluation` they are a sealed test fold: it is predicted once, after the last epoch, into a file.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from duchenne_jobs.config import BASELINE_NAMES
from duchenne_jobs.data import Dataset, open_dataset
from duchenne_jobs.evaluation import Predictions, write_predictions
from duchenne_jobs.models.baselines import predict_baseline
from duchenne_jobs.training.checkpoint import load_checkpoint, save_checkpoint
from duchenne_jobs.training.job import FoldJob, JobContext, JobFailed, JobStopped, SegmentResult
from duchenne_jobs.training.split import Split, load_split
from duchenne_jobs.training.trainer import Trainer, soft_order_of

WARM_DATASETS = 4
WARM_SPLITS = 16


class FoldJobRunner:
    """Runs segments; keeps datasets, splits and the last trainer warm between them."""

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dataset = lru_cache(maxsize=WARM_DATASETS)(open_dataset)
        self._splits = lru_cache(maxsize=WARM_SPLITS)(self._load_split)
        self._warm: tuple[FoldJob, Trainer] | None = None

    def run(self, job: FoldJob, until_epoch: int, context: JobContext) -> SegmentResult:
        """Take the job from its checkpoint to `until_epoch`.

        Raises:
            JobStopped: the scheduler ended it; what was done is saved.
            JobFailed: it can't succeed.
        """
        split = self._split_of(job)
        if job.key.method in BASELINE_NAMES:
            return self._run_baseline(job, split, context)
        trainer = self._trainer(job, split)
        checkpoint = checkpoint_path(job)
        metrics: dict[str, float] = {}
        soft_orders: dict[int, list[list[float]]] = {}
        try:
            while trainer.epoch < until_epoch:
                metrics = {"train_loss": trainer.run_epoch(context.tick)}
                if job.key.phase == "search":
                    metrics |= self._predict(trainer, split).metrics()
                matrix = soft_order_of(trainer.network)
                if matrix is not None:
                    soft_orders[trainer.epoch] = matrix
                context.report(trainer.epoch, metrics)
        except JobStopped:
            save_checkpoint(checkpoint, trainer.state())
            raise
        except BaseException:
            self._warm = None  # the network may hold half an epoch
            raise
        save_checkpoint(checkpoint, trainer.state())
        _append_soft_orders(job, soft_orders)
        done = trainer.epoch >= job.epochs
        self._warm = None if done else (job, trainer)
        if done and job.key.phase == "evaluation":
            return self._write(job, trainer.epoch, self._predict(trainer, split))
        return SegmentResult(trainer.epoch, metrics)

    def _trainer(self, job: FoldJob, split: Split) -> Trainer:
        """The job's trainer at its last checkpoint: the warm one if it is this job's and not behind the file."""
        state = load_checkpoint(checkpoint_path(job))
        if self._warm is not None and self._warm[0] == job and state and self._warm[1].epoch == state["epoch"]:
            return self._warm[1]
        trainer = Trainer(job.config, split.train, job.key.seed, self.device)
        if state is not None:
            trainer.restore(state)
        return trainer

    def _run_baseline(self, job: FoldJob, split: Split, context: JobContext) -> SegmentResult:
        context.tick()
        try:
            probabilities = predict_baseline(
                job.key.method,  # type: ignore[arg-type] # checked against BASELINE_NAMES by the caller
                split.train.features.numpy().astype(np.float64),
                split.train.labels.numpy(),
                split.held_out.features.numpy().astype(np.float64),
                job.key.seed,
            )
        except ValueError as error:
            raise JobFailed(str(error)) from error
        return self._write(job, job.epochs, _predictions(split, probabilities.astype(np.float32)))

    def _predict(self, trainer: Trainer, split: Split) -> Predictions:
        probabilities = trainer.predict(split.held_out)
        if not bool(torch.isfinite(probabilities).all()):
            raise JobFailed(
                f"epoch {trainer.epoch}: predictions must be finite, but "
                f"{int((~torch.isfinite(probabilities)).sum())} are not; lower training.learning_rate"
            )
        return _predictions(split, probabilities.clamp(0, 1).numpy())

    def _write(self, job: FoldJob, epoch: int, predictions: Predictions) -> SegmentResult:
        path = Path(job.folder) / "predictions" / f"{job.key.slug}.arrow"
        metadata = {
            "job": json.dumps(job.key.__dict__),
            "dataset_digest": job.dataset_digest,
            "config": job.config.model_dump_json(),
        }
        digest = write_predictions(path, predictions, metadata)
        return SegmentResult(epoch, predictions.metrics(), predictions=str(path), predictions_digest=digest)

    def _split_of(self, job: FoldJob) -> Split:
        return self._splits(_SplitRequest(job))

    def _load_split(self, request: _SplitRequest) -> Split:
        dataset: Dataset = self._dataset(request.job.dataset_uri)
        return load_split(request.job, dataset)


class _SplitRequest:
    """A job seen as the rows that it needs: jobs that differ in anything else share their split."""

    def __init__(self, job: FoldJob) -> None:
        self.job = job
        self._rows = (job.dataset_uri, job.dataset_digest, job.folds, job.key.fold, job.key.inner)

    def __hash__(self) -> int:
        return hash(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SplitRequest) and self._rows == other._rows


def checkpoint_path(job: FoldJob) -> Path:
    """Where the job's last checkpoint stands."""
    return Path(job.folder) / "checkpoints" / f"{job.key.slug}.pt"


def soft_orders_path(job: FoldJob) -> Path:
    """One JSON line an epoch: `{"epoch": e, "soft_order": (T, T)}`."""
    return Path(job.folder) / "soft_orders" / f"{job.key.slug}.jsonl"


def _append_soft_orders(job: FoldJob, soft_orders: dict[int, list[list[float]]]) -> None:
    if not soft_orders or job.key.phase != "evaluation":
        return
    path = soft_orders_path(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps({"epoch": e, "soft_order": m}) + "\n" for e, m in soft_orders.items())


def _predictions(split: Split, probabilities: np.ndarray) -> Predictions:
    rows = split.held_out
    return Predictions(split.tasks, rows.subjects, rows.sequences, rows.frames, rows.labels.numpy(), probabilities)
