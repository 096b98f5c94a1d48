"""Runs clips side by side, in processes of this machine or as tasks of Ray, and hands over their parts in order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from duchenne_jobs.data.digest import canonical_digest, file_digest
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.ingesters.clips import Clip
from duchenne_jobs.data.ingesters.cut import CutPlan, cut_clip
from duchenne_jobs.data.ingesters.source import Workshop
from duchenne_jobs.data.manifest import SHARD_SUFFIX
from duchenne_jobs.data.processes import obey_parent

_POLL_SECONDS = 0.25
_RAY_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}

Job = tuple[Clip, CutPlan, Path]


def default_workers() -> int:
    """One for each CPU that this process may use."""
    return len(os.sched_getaffinity(0))


def cut_all(clips: Sequence[Clip], plan: CutPlan, workshop: Workshop) -> Iterator[Path]:
    """Parts of `clips`, in their order, each as soon as it and all before it are there.

    A part is named by a digest of everything that it is made from: one that an earlier run finished is taken as it is,
    and one that nothing asks for any more is removed.

    Raises:
        DatasetError: the first clip that can't be cut; finished parts stay.
    """
    workshop.folder.mkdir(parents=True, exist_ok=True)
    prefix = _plan_digest(plan)
    targets = [workshop.folder / f"{part_name(clip, prefix)}{SHARD_SUFFIX}" for clip in clips]
    for stale in set(workshop.folder.iterdir()) - set(targets):
        stale.unlink(missing_ok=True)
    waiting: list[Job] = []
    for clip, target in zip(clips, targets, strict=True):
        if target.exists():
            workshop.advance(len(clip.frames))
        else:
            waiting.append((clip, plan, target))
    workers = max(1, min(workshop.workers, len(waiting)))
    plan = replace(plan, threads=max(1, default_workers() // workers))
    jobs = [(clip, plan, target) for clip, _, target in waiting]
    if workshop.executor == "ray":
        made = _by_ray(jobs, workers, workshop.advance)
    elif workers == 1:
        made = _here(jobs, workshop.advance)
    else:
        made = _by_processes(jobs, workers, workshop.advance)
    finished = set(targets) - {target for _, _, target in jobs}
    for target in targets:
        while target not in finished:
            finished.add(next(made))
        yield target


def part_name(clip: Clip, prefix: str) -> str:
    """The name of a clip's part: equal inputs, equal names."""
    return canonical_digest([prefix, clip.fingerprint()]).removeprefix("sha256:")


def _plan_digest(plan: CutPlan) -> str:
    from importlib.metadata import version

    models = [file_digest(Path(path)) for path in (plan.detector, plan.parser) if path and Path(path).is_file()]
    return canonical_digest(
        {
            "description": plan.description.model_dump(mode="json"),
            "crop": [plan.size, plan.enlarge, plan.detector, str(plan.parser)],
            "models": models,
            "versions": [version(name) for name in ("duchenne", "numpy", "pillow", "pyarrow")],
        }
    )


def _here(jobs: Sequence[Job], advance: Callable[[int], None]) -> Iterator[Path]:
    for clip, plan, target in jobs:
        cut_clip(clip, plan, target, advance)
        yield target


def _by_processes(jobs: Sequence[Job], workers: int, advance: Callable[[int], None]) -> Iterator[Path]:
    # Fresh processes: a fork of a process with threads (Arrow's, a progress bar's) can stop for ever.
    context = multiprocessing.get_context("spawn")
    rows, stop = context.Value("q", 0), context.Event()
    told = 0
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(rows, stop))
    futures: dict[Future[None], Path] = {pool.submit(_cut_counted, job): job[2] for job in jobs}
    try:
        for future, target in futures.items():
            while not future.done():
                wait([future], timeout=_POLL_SECONDS)
                now = rows.value
                advance(now - told)
                told = now
            future.result()
            yield target
        advance(rows.value - told)
    except BrokenExecutor as error:
        raise DatasetError(
            f"a worker of {workers} was killed, perhaps for want of memory; run the same command again with fewer "
            "--workers: finished clips are kept"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


_rows: Any = None
_stop: Any = None


class _Stopped(Exception):  # noqa: N818 - no error: someone else's failure or Ctrl-C ends this clip
    """The ingest is over."""


def _begin(rows: Any, stop: Any) -> None:
    """In each process: what the parent counts rows with, and whether to stop."""
    global _rows, _stop
    _rows, _stop = rows, stop
    obey_parent()


def _cut_counted(job: Job) -> None:
    def advance(count: int) -> None:
        if _stop.is_set():
            raise _Stopped
        with _rows.get_lock():
            _rows.value += count

    cut_clip(*job, advance)


def _by_ray(jobs: Sequence[Job], workers: int, advance: Callable[[int], None]) -> Iterator[Path]:
    """Progress counts whole clips here: a task can't report on the way without an actor beside it."""
    for name, value in _RAY_QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    ours = not ray.is_initialized()
    if ours:
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
        ray.init(include_dashboard=False if local else None, logging_level="ERROR", log_to_driver=False, **local)
    try:
        cut = ray.remote(num_cpus=1)(_cut_silently)
        tasks = [(cut.remote(job), job) for job in jobs]
        for task, (clip, _, target) in tasks:
            try:
                ray.get(task)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, DatasetError) else error) from None
            except ray.exceptions.RayError as error:
                raise DatasetError(
                    f"a Ray worker was lost while it cut {clip.name}: {type(error).__name__}; run the same command "
                    "again: finished clips are kept"
                ) from error
            advance(len(clip.frames))
            yield target
    finally:
        if ours:
            ray.shutdown()


def _cut_silently(job: Job) -> None:
    cut_clip(*job, lambda _: None)
