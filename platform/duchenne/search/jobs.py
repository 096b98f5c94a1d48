"""From a configuration to its fold jobs, in either phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from duchenne.spec import Sweep, overlay
from duchenne_jobs.config import RunConfig
from duchenne_jobs.data.cache import CacheChoice
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
        return folds_request(self.sweep)

    @property
    def checkpoints(self) -> str | None:
        """Where its fold jobs keep theirs; None for `folder`."""
        place = self.sweep.checkpoints
        return None if place is None else f"{place.uri.rstrip('/')}/{self.sweep_id}"

    def job(self, key: JobKey, config: RunConfig) -> FoldJob:
        """The fold job of that key and configuration."""
        return FoldJob(
            key=key,
            config=config,
            dataset_uri=self.dataset_uri,
            dataset_digest=self.dataset_digest,
            folds=self.folds,
            folder=self.folder,
            epochs=config.training.epochs,
            checkpoints=self.checkpoints,
            cache=cache_choice(self.sweep),
        )


def folds_request(sweep: Sweep) -> FoldsRequest:
    """How a sweep splits the subjects of its dataset."""
    folds = sweep.folds
    return FoldsRequest(
        count=folds.outer_count,
        inner=folds.inner_count,
        seed=folds.seed,
        protocol=sweep.data.protocol,
        method=folds.method,
        validation=folds.validation or 0.0,
        test=folds.test or 0.0,
    )


def cache_choice(sweep: Sweep) -> CacheChoice:
    """How the fold jobs of a sweep keep its data on the machines that they run on."""
    data = sweep.data
    return CacheChoice(data.cache, data.cache_folder, round(data.cache_gb * 1e9))


def search_jobs(context: SweepContext, trial: int, config: RunConfig, parent: int | None = None) -> list[FoldJob]:
    """Every inner fold of every outer fold, with the sweep's first seed.

    `parent` is a trial whose steps so far are the first of this one too.
    """
    folds = context.sweep.folds
    seed = context.sweep.seeds[0]
    jobs = [
        context.job(JobKey(trial, "search", config.model.name, fold, inner, seed), config)
        for fold in range(folds.outer_count)
        for inner in range(folds.inner_count)
    ]
    return jobs if parent is None else [replace(job, parent=replace(job.key, trial=parent)) for job in jobs]


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
    """The network comparators: the selected configuration with what each of them changes.

    Raises:
        ValueError: a change that does not go with the configuration that was selected.
    """
    return [
        context.job(JobKey(None, "evaluation", comparator.name, fold, None, seed), overlay(config, comparator.changes))
        for comparator in context.sweep.comparators
        if not comparator.is_baseline
        for fold, (_, config) in enumerate(selected)
        for seed in context.sweep.seeds
    ]


def baseline_jobs(context: SweepContext) -> list[FoldJob]:
    """scikit-learn's comparators: no epochs and no configuration, so they need not wait for the search."""
    return [
        context.job(JobKey(None, "evaluation", comparator.name, fold, None, context.sweep.seeds[0]), context.sweep.base)
        for comparator in context.sweep.comparators
        if comparator.is_baseline
        for fold in range(context.sweep.folds.outer_count)
    ]
