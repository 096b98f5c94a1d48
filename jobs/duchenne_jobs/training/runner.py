"""Runs one segment of a fold job on a worker: restore, train to the rung, report every epoch, save.

The phases differ in one thing. In `search` the held-out rows are inner validation subjects, and every epoch is scored.
In `evaluation` they are a sealed test fold: it is predicted once, after the last epoch, into a file.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duchenne_jobs.config import BASELINE_NAMES
from duchenne_jobs.data import Dataset, open_dataset
from duchenne_jobs.evaluation import Predictions, write_predictions
from duchenne_jobs.models.baselines import predict_baseline
from duchenne_jobs.models.encoders import weights_sha256_of
from duchenne_jobs.training.attention import attention_path, save_attention
from duchenne_jobs.training.checkpoint import checkpoint_file, packed, unpacked
from duchenne_jobs.training.checkpoint_places import Checkpoints, FolderCheckpoints, checkpoints_at
from duchenne_jobs.training.faces import FaceRows, FaceStore
from duchenne_jobs.training.job import FoldJob, JobContext, JobFailed, SegmentResult, inner_predictions_path
from duchenne_jobs.training.ranks import ALONE, Ranks
from duchenne_jobs.training.soft_orders import SoftOrderLines, soft_orders_path
from duchenne_jobs.training.split import Rows, Split, faces_needed, load_split
from duchenne_jobs.training.trainer import Trainer, order_record

WARM_DATASETS = 4
WARM_SPLITS = 16
WARM_STORES = 4  # of which the one in use keeps decoded faces


class FoldJobRunner:
    """Runs segments; keeps datasets, splits and the last trainer warm between them.

    Args:
        ranks: the processes that run each segment together, each by a runner of its own. The first one's `run` reads
            and writes the job's files and asks its context; the others' contexts are not asked.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dataset = lru_cache(maxsize=WARM_DATASETS)(open_dataset)
        self._splits = lru_cache(maxsize=WARM_SPLITS)(self._load_split)
        self._stores = lru_cache(maxsize=WARM_STORES)(FaceStore)
        self._store_in_use: FaceStore | None = None
        self._warm: tuple[FoldJob, Trainer, dict[str, float]] | None = None

    def run(self, job: FoldJob, until_epoch: int, context: JobContext) -> SegmentResult:
        """Take the job from its checkpoint to `until_epoch`.

        Raises:
            JobStopped: the scheduler ended it; every whole epoch is saved.
            JobFailed: it can't succeed.
        """
        first = self.ranks.first
        split = self.ranks.each(self._split_of, job)
        if job.key.method in BASELINE_NAMES:
            return first(self._run_baseline, job, split, context) or SegmentResult(job.epochs, {})
        trainer, metrics, is_warm = self._trainer(job, split)
        self._warm = None  # while an epoch runs, the network holds half of it
        if metrics and not is_warm:
            # Saved, and perhaps lost before it was recorded: a second report changes nothing.
            first(context.report, trainer.epoch, metrics)
        soft_orders = SoftOrderLines(soft_orders_path(job), trainer.epoch)
        while trainer.epoch < until_epoch:
            metrics = {"train_loss": trainer.run_epoch(context.tick if self.ranks.is_first else _no_question)}
            if job.key.phase == "evaluation" and trainer.epoch >= job.epochs:
                break  # a sealed fold is predicted once, and that epoch's numbers come with the predictions
            if job.key.phase == "search":
                predictions = self._predict(trainer, split)
                metrics |= predictions.metrics()
                if trainer.epoch >= job.epochs:
                    first(self._write_inner, job, predictions)
            first(self._save, job, trainer, trainer.state(), metrics, soft_orders)
            first(context.report, trainer.epoch, metrics)
        if job.key.phase == "evaluation" and trainer.epoch >= job.epochs:
            predictions, state = self._predict(trainer, split), trainer.state()
            done = first(self._conclude, job, trainer, state, predictions, metrics, soft_orders)
            return done or SegmentResult(trainer.epoch, metrics)
        if trainer.epoch < job.epochs:
            self._warm = (job, trainer, metrics)
        return SegmentResult(trainer.epoch, metrics)

    def _write_inner(self, job: FoldJob, predictions: Predictions) -> None:
        write_predictions(inner_predictions_path(Path(job.folder), job.key), predictions, _metadata(job))

    def _conclude(
        self,
        job: FoldJob,
        trainer: Trainer,
        state: dict[str, Any],
        predictions: Predictions,
        metrics: dict[str, float],
        soft_orders: SoftOrderLines,
    ) -> SegmentResult:
        """Keep what an evaluation leaves: its last checkpoint, what it looked at, its sealed predictions."""
        kept = self._save(job, trainer, state, {}, soft_orders)
        if job.checkpoints is not None:  # `predict` looks for an entry's networks in the home
            FolderCheckpoints(checkpoint_path(job).parent).save(job.key.slug, kept)
        split = self._split_of(job)
        where = attention_path(Path(job.folder), job.key)
        save_attention(where, trainer.predictor, split.held_out, split.data.tasks, job.config, self.device)
        return self._write(job, trainer.epoch, predictions, metrics)

    def _save(
        self,
        job: FoldJob,
        trainer: Trainer,
        state: dict[str, Any],
        metrics: dict[str, float],
        soft_orders: SoftOrderLines,
    ) -> dict[str, Any]:
        """Keep an epoch before it is reported: what is on record never runs again, whatever is killed."""
        orders = order_record(trainer.network) if job.key.phase == "evaluation" else None
        if orders is not None:
            soft_orders.add(trainer.epoch, orders)
        crop = self._split_of(job).crop
        shown = {"crop": crop and crop.model_dump(mode="json")}  # for `predict`, which cuts faces out alike
        started_from = {"encoder_weights_sha256": weights_sha256_of(trainer.network)}
        kept = state | {"metrics": metrics} | shown | started_from
        checkpoints_of(job).save(job.key.slug, kept)
        return kept

    def _trainer(self, job: FoldJob, split: Split) -> tuple[Trainer, dict[str, float], bool]:
        """The job's trainer at its last checkpoint, the metrics saved with it, and whether it is the warm one.

        The warm trainer serves if it is this job's and not behind the file.
        """
        state = self._saved(job)
        if self._warm is not None and self._warm[0] == job and state and self._warm[1].epoch == state["epoch"]:
            return self._warm[1], self._warm[2], True
        trainer = self.ranks.each(Trainer, job.config, split.train, split.data, job.key.seed, self.device, self.ranks)
        if state is None:
            return trainer, {}, False
        try:
            trainer.restore(state)  # the same state on all ranks
            return trainer, dict(state["metrics"]), False
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            where = checkpoints_of(job).shown(job.key.slug)
            raise JobFailed(
                f"{where}: a checkpoint must fit the network of its job, but got {_first_line(error)}; remove the "
                "file to train this job from its first epoch"
            ) from error

    def _saved(self, job: FoldJob) -> dict[str, Any] | None:
        """The job's last checkpoint, or its parent's, as the first rank finds it."""
        state = None
        if self.ranks.is_first:
            state = checkpoints_of(job).load(job.key.slug)
            if state is None and job.parent is not None:
                state = checkpoints_of(job).load(job.parent.slug)
        if self.ranks.size == 1:
            return state
        shared = self.ranks.share(None if state is None else packed(state))
        return None if shared is None else unpacked(shared)

    def _run_baseline(self, job: FoldJob, split: Split, context: JobContext) -> SegmentResult:
        context.tick()
        for what, rows in (("training", split.train), ("held-out", split.held_out)):
            broken = rows.not_finite()
            if len(broken):
                raise JobFailed(
                    f"{job.key.method} needs finite features, but {len(broken)} {what} rows have others "
                    f"({rows.listed(broken)}); repair these rows or leave it out of `comparators`"
                )
        try:
            probabilities = predict_baseline(
                job.key.method,  # type: ignore[arg-type] # checked against BASELINE_NAMES by the caller
                _features(split.train),
                split.train.labels.numpy(),
                _features(split.held_out),
                job.key.seed,
            )
        except ValueError as error:
            raise JobFailed(_first_line(error)) from error
        return self._write(job, job.epochs, _predictions(split, probabilities.astype(np.float32)), {})

    def _predict(self, trainer: Trainer, split: Split) -> Predictions:
        probabilities = trainer.predict(split.held_out)
        broken = torch.nonzero(~torch.isfinite(probabilities).all(dim=1)).flatten()
        if len(broken):
            raise JobFailed(
                f"epoch {trainer.epoch}: predictions must be finite, but they are not for {len(broken)} of "
                f"{len(probabilities)} held-out rows ({split.held_out.listed(broken)}); lower training.learning_rate, "
                "set training.gradient_clip or look at these rows"
            )
        return _predictions(split, probabilities.clamp(0, 1).numpy())

    def _write(self, job: FoldJob, epoch: int, predictions: Predictions, metrics: dict[str, float]) -> SegmentResult:
        """Write the held-out predictions and score them; `metrics` is what the last epoch gave besides."""
        path = Path(job.folder) / "predictions" / f"{job.key.slug}.arrow"
        digest = write_predictions(path, predictions, _metadata(job))
        scores = metrics | predictions.metrics()
        return SegmentResult(epoch, scores, predictions=str(path), predictions_digest=digest)

    def _split_of(self, job: FoldJob) -> Split:
        split = self._splits(_SplitRequest(job))
        store = split.train.inputs.store if isinstance(split.train.inputs, FaceRows) else None
        if self._store_in_use is not None and self._store_in_use is not store:
            self._store_in_use.forget()
        self._store_in_use = store
        return split

    def _load_split(self, request: _SplitRequest) -> Split:
        dataset: Dataset = self._dataset(request.job.dataset_uri, cache=request.job.cache.opened())
        return load_split(request.job, dataset, self._stores)


class _SplitRequest:
    """A job seen as the rows that it needs: jobs that differ in anything else share their split."""

    def __init__(self, job: FoldJob) -> None:
        self.job = job
        data = (job.dataset_uri, job.dataset_digest, job.cache)
        self._rows = (data, job.folds, job.key.fold, job.key.inner, faces_needed(job))

    def __hash__(self) -> int:
        return hash(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SplitRequest) and self._rows == other._rows


def checkpoints_of(job: FoldJob) -> Checkpoints:
    """Where the job saves and what it resumes from."""
    return checkpoints_at(job.checkpoints or str(Path(job.folder) / "checkpoints"))


def checkpoint_path(job: FoldJob) -> Path:
    """Where the job's last checkpoint stands in its folder; the model of an evaluation always does in the end."""
    return checkpoint_file(Path(job.folder) / "checkpoints", job.key.slug)


def _no_question() -> None:
    """The first rank asks its scheduler at each step; the others hear what it was told."""


def _features(rows: Rows) -> np.ndarray:
    """(N, F) float64 of rows that have features, which `load_split` has made sure of."""
    assert rows.features is not None  # noqa: S101
    return rows.features.numpy().astype(np.float64)


def _metadata(job: FoldJob) -> dict[str, str]:
    """What a prediction file says of where it comes from."""
    return {
        "job": json.dumps(job.key.__dict__),
        "dataset_digest": job.dataset_digest,
        "config": job.config.model_dump_json(),
    }


def _first_line(error: Exception) -> str:
    """An error of a library as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _predictions(split: Split, probabilities: np.ndarray) -> Predictions:
    rows = split.held_out
    return Predictions(split.data.tasks, rows.subjects, rows.sequences, rows.frames, rows.labels.numpy(), probabilities)
