"""Embedded Ray on this machine: started with the driver, gone with it, silent on the terminal.

A driver that runs as a Ray job (`RAY_ADDRESS` is set) joins that cluster instead, and leaves it running.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from duchenne.plan.packing import most_by_cores, most_by_gpus
from duchenne.spec import Sweep
from duchenne.spec.errors import Fault

DRIVER_CPUS = 1.0  # for trials, which only wait
OBJECT_STORE_BYTES = 256 * 1024 * 1024  # results are small; datasets are memory-mapped, not shared

# What a cluster offers to the pool, from whoever made it: its workers may not have started yet.
CPUS_VARIABLE = "DUCHENNE_CLUSTER_CPUS"
GPUS_VARIABLE = "DUCHENNE_CLUSTER_GPUS"
ADDRESS_VARIABLE = "RAY_ADDRESS"

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # a failed trial is told by the records
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the driver's to hear: it saves, stops and says how to go on
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # The records are the truth; Tune's own experiment state is written as rarely as it lets us.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}


class TooSmall(ValueError):  # noqa: N818 - reads as the fact it states
    """The machine lacks what a worker needs."""


@dataclass(frozen=True)
class Machine:
    """What this machine, or the cluster that this driver runs on, offers to a pool."""

    cpus: float
    gpus: float

    @classmethod
    def here(cls) -> Machine:
        """CPUs that this process may use, and visible CUDA devices; on a cluster, what its maker says."""
        if CPUS_VARIABLE in os.environ:
            return cls(cpus=float(os.environ[CPUS_VARIABLE]), gpus=float(os.environ.get(GPUS_VARIABLE, "0")))
        import torch

        return cls(cpus=float(len(os.sched_getaffinity(0))), gpus=float(torch.cuda.device_count()))

    def workers(self, cpus: float, gpus: float) -> int:
        """How many workers of that size fit; at least one, which may then share cores.

        Raises:
            TooSmall: a worker needs GPUs that this machine has not.
        """
        if gpus > self.gpus:
            raise TooSmall(
                f"folds.resources.gpu: a worker needs {gpus:g} GPU, but this machine has {self.gpus:g}; "
                "set it to 0 or submit to a cluster"
            )
        by_cpu = most_by_cores(self.cpus, cpus)
        return max(1, by_cpu if gpus == 0 else min(by_cpu, most_by_gpus(self.gpus, gpus)))

    def fold_groups(self, cpus: float, gpus: float, workers_per_fold: int) -> int:
        """How many fold jobs run side by side, each on that many workers of that size.

        Raises:
            TooSmall: not one does.
        """
        workers = self.workers(cpus, gpus)
        if workers < workers_per_fold:
            raise TooSmall(
                f"folds.workers_per_fold: a fold's workers must fit the pool, which has room for {workers} of {cpus:g} "
                f"CPU and {gpus:g} GPU, but got {workers_per_fold}; lower it or folds.resources, or submit to a cluster"
            )
        return workers // workers_per_fold


def pool_faults(sweep: Sweep) -> list[Fault]:
    """A fold whose workers can't run at once on this machine's cores, for a sweep that is to run here."""
    folds, cores = sweep.folds, float(os.environ.get(CPUS_VARIABLE, len(os.sched_getaffinity(0))))
    most = max(1, most_by_cores(cores, folds.resources.cpu))
    if sweep.cluster != "local" or folds.workers_per_fold <= most:
        return []
    rule = f"a fold's workers must fit the pool, and this machine has room for {most} of {folds.resources.cpu:g} CPU"
    return [
        Fault(
            ("folds", "workers_per_fold"),
            rule,
            str(folds.workers_per_fold),
            "lower it or folds.resources.cpu, or name a cluster",
        )
    ]


@contextmanager
def embedded_ray(machine: Machine, cpus_needed: float, folder: Path | None = None) -> Iterator[None]:
    """Ray for the time of the block. One that this process runs, or is a job of, is used and left running.

    What a Ray of its own leaves behind is cleaned up when this process ends, however it does; so is what was half
    written below `folder`.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray

    from duchenne.pool.reaper import start_reaper

    if ray.is_initialized():
        yield
        return
    if ADDRESS_VARIABLE in os.environ:
        with _signal_kept(signal.SIGTERM):
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
        try:
            yield
        finally:
            ray.shutdown()
        return
    start_reaper(folder)
    with _signal_kept(signal.SIGTERM):
        ray.init(
            num_cpus=int(max(machine.cpus, cpus_needed) + DRIVER_CPUS),
            num_gpus=int(machine.gpus),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signal_kept(number: signal.Signals) -> Iterator[None]:
    """A signal means afterwards what it meant before: Ray gives SIGTERM a handler of its own."""
    before = signal.getsignal(number)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, before)
