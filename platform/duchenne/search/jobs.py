"""From a configuration to its fold jobs, in either phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from duchenne.spec import Sweep, with_model
from duchenne_jobs.config import MODEL_NAMES, RunConfig
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey


@dataclass(frozen=True)
class SweepContext:
    """A sweep tied to its data: all that its fold jobs have in common.

    Attributes:
        sweep_id: id in the records.
        sweep: what the file says.
        dataset_uri, dataset_digest: where the rows are, and what they must be.
        folder: where checkpoints and predictions go.
    """

    sweep_id: str
    sweep: Sweep
    dataset_uri: str
    dataset_digest: str
    folder: str

    @property
    def folds(self) -> FoldsRequest:
        """How subjects are split."""
        folds = self.sweep.folds
        return FoldsRequest(folds.count, folds.inner, folds.seed, self.sweep.data.protocol)

    def job(self, key: JobKey, config: RunConfig) -> FoldJob:
        """The fold job of that key and configuration."""
        return FoldJob(
            key, config, self.dataset_uri, self.dataset_digest, self.folds, self.folder, config.training.epochs
        )


def search_jobs(context: SweepContext, trial: int, config: RunConfig) -> list[FoldJob]:
    """Every inner fold of every outer fold, with the sweep's first seed."""
    folds = context.sweep.folds
    seed = context.sweep.seeds[0]
    return [
        context.job(JobKey(trial, "search", config.model.name, fold, inner, seed), config)
        for fold in range(folds.count)
        for inner in range(folds.inner)
    ]


def evaluation_jobs(context: SweepContext, selected: Sequence[tuple[int, RunConfig]]) -> list[FoldJob]:
    """The selected configuration of each outer fold, with every seed.

    Args:
        selected: (trial, configuration) of each outer fold.
    """
    return [
        context.job(JobKey(trial, "evaluation", config.model.name, fold, None, seed), config)
        for fold, (trial, config) in enumerate(selected)
        for seed in context.sweep.seeds
    ]


def neural_comparator_jobs(context: SweepContext, selected: Sequence[tuple[int, RunConfig]]) -> list[FoldJob]:
    """The network comparators: the selected encoder, loss and training, only the model exchanged."""
    return [
        context.job(JobKey(None, "evaluation", name, fold, None, seed), with_model(config, name))
        for name in MODEL_NAMES
        if name in context.sweep.comparators
        for fold, (_, config) in enumerate(selected)
        for seed in context.sweep.seeds
    ]


def baseline_jobs(context: SweepContext) -> list[FoldJob]:
    """scikit-learn's comparators: no epochs and no configuration, so they need not wait for the search."""
    return [
        context.job(JobKey(None, "evaluation", name, fold, None, context.sweep.seeds[0]), context.sweep.base)
        for name in context.sweep.comparators
        if name not in MODEL_NAMES
        for fold in range(context.sweep.folds.count)
    ]
