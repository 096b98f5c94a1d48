"""What the platform costs a fold job whose training does nothing, beside trainers nested in Tune trials.

    python benchmarks/fold_pool.py                 # 100 jobs, then the nested way, on this machine
    python benchmarks/fold_pool.py --trials 200    # does it stay flat, and how much memory does the driver hold?

Both ways run in one process, one after the other, on the same embedded Ray. Prints the hardware, the commit and a line
a figure; `--out FILE` also writes them down.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from duchenne.clusters.local import Machine, embedded_ray
from duchenne.driver.prepare import code_revision
from duchenne.pool import PoolOptions
from duchenne.pool.run import FoldPool
from duchenne.records import NewSweep, RecordStore, holder_name, open_home
from duchenne.search import SweepContext
from duchenne.search.tuner import run_search
from duchenne.spec import Sweep
from duchenne_jobs.training import FoldJob, JobContext, SegmentResult

FOLDS, INNER = 3, 2


class DoNothing:
    """A runner whose training takes no time."""

    def run(self, job: FoldJob, until_epoch: int, context: JobContext) -> SegmentResult:
        context.tick()
        return SegmentResult(until_epoch, {"f1_macro": 0.5})


def nothing_sweep(trials: int) -> Sweep:
    """A random search of `trials` trials, one epoch each, over 3 outer x 2 inner folds."""
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "nothing"},
            "data": {"uri": "builtin://yeast"},
            "training": {"epochs": 1},
            "search": {"space": {"training.learning_rate": {"loguniform": [1e-4, 1e-2]}}, "trials": trials},
            "folds": {"count": FOLDS, "inner": INNER},
            "budget": {"wall_seconds": 3600},
        }
    )


@contextmanager
def warm_pool(
    sweep: Sweep, store: RecordStore, home: Path, workers: int
) -> Iterator[tuple[SweepContext, str, FoldPool]]:
    """A recorded sweep, its lock's token, and a pool whose workers have all asked for work."""
    record = store.create_sweep(
        NewSweep(
            name="nothing",
            team="bench",
            board="bench",
            spec={},
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="nowhere",
        )
    )
    lock = store.acquire_lock(record.id, holder_name(), 3600)
    store.set_sweep_state(record.id, "running", token=lock.token)
    options = PoolOptions(workers=workers, cpus=1.0, gpus=0.0)
    pool = FoldPool(record.id, store.address, home, home / "ray", options, DoNothing)
    pool.start()
    try:
        while pool.snapshot().warm_workers < workers:
            time.sleep(0.1)
        yield SweepContext(record.id, sweep, "nowhere", "sha256:0", str(home)), lock.token, pool
    finally:
        pool.close()


def measure_pool(trials: int, workers: int) -> dict[str, float]:
    """Run `trials` do-nothing trials and read the times off the records."""
    sweep = nothing_sweep(trials)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with open_home(home) as store:
            asked = time.perf_counter()
            with warm_pool(sweep, store, home, workers) as (context, token, pool):
                warm_seconds = time.perf_counter() - asked
                started = time.perf_counter()
                run_search(context, store, token, pool)
                seconds = time.perf_counter() - started
            jobs = store.fold_jobs(context.sweep_id)
            ends = sorted(job.ended_at.timestamp() for job in jobs if job.ended_at is not None)
            trial_ends = sorted(
                trial.ended_at.timestamp() for trial in store.trials(context.sweep_id) if trial.ended_at
            )
    if len(ends) != trials * FOLDS * INNER:
        sys.exit(f"refusing to report: {len(ends)} of {trials * FOLDS * INNER} jobs ended")
    gaps = [later - earlier for earlier, later in itertools.pairwise(trial_ends)]
    part = max(1, min(50, len(gaps) // 4))
    return {
        "warm the pool, s": warm_seconds,
        "fold jobs": len(ends),
        "overhead a fold job, median, s": statistics.median(gaps) / (FOLDS * INNER),
        "overhead a fold job, mean, s": seconds / len(ends),
        f"time a trial, median of the first {part}, s": statistics.median(gaps[:part]),
        f"time a trial, median of the last {part}, s": statistics.median(gaps[-part:]),
        "driver's peak memory, MB": peak_memory_mb(),
    }


def empty_loop(config: dict[str, object]) -> None:
    """The train loop of a nested trainer: nothing."""


def nested_trainer(config: dict[str, object]) -> None:
    """One trial of the nested way: a trainer of its own, started and stopped for one fold."""
    from ray import tune
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    started = time.perf_counter()
    scaling = ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1})
    TorchTrainer(empty_loop, scaling_config=scaling, run_config=RunConfig(storage_path=str(config["storage"]))).fit()
    tune.report({"seconds": time.perf_counter() - started})


def measure_nested(jobs: int) -> dict[str, float]:
    """Median seconds of an empty trainer inside a Tune trial."""
    from ray import tune

    with tempfile.TemporaryDirectory() as folder:
        results = tune.Tuner(
            tune.with_resources(nested_trainer, {"CPU": 0.001}),
            param_space={"storage": folder},
            tune_config=tune.TuneConfig(num_samples=jobs, max_concurrent_trials=1),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    seconds = [result.metrics["seconds"] for result in results if result.metrics and "seconds" in result.metrics]
    if len(seconds) != jobs:
        sys.exit(f"refusing to report: {len(seconds)} of {jobs} nested trainers ended")
    return {"nested trainer a fold job, median, s": statistics.median(seconds), "nested jobs": len(seconds)}


def peak_memory_mb() -> float:
    """VmHWM of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=17, help="do-nothing trials of 6 fold jobs each")
    parser.add_argument("--nested", type=int, default=3, help="nested trainers to time; 0 leaves them out")
    parser.add_argument("--out", type=Path, help="also write the figures into this file")
    arguments = parser.parse_args()
    machine = Machine.here()
    workers = machine.workers(1.0, 0.0)
    lines = [
        f"fold pool, {datetime.now(UTC):%Y-%m-%d}, commit {code_revision()}",
        f"{platform.machine()}, {os.cpu_count()} cores, {workers} pool workers, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f} at the start",
    ]
    with embedded_ray(machine, cpus_needed=workers):
        figures = measure_pool(arguments.trials, workers)
        if arguments.nested:
            figures |= measure_nested(arguments.nested)
            figures["nested / pool"] = (
                figures["nested trainer a fold job, median, s"] / figures["overhead a fold job, median, s"]
            )
    lines += [f"{name}: {value:.3f}" for name, value in figures.items()]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
