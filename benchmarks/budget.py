"""Can a budget be overrun? Simulated sweeps on a virtual clock, through the real ledger, leases and hold-back.

    python benchmarks/budget.py                       # 10,000 sweeps
    python benchmarks/budget.py --sweeps 200          # a look
    python benchmarks/budget.py --late 30             # steps that outlast the margin: how far over, and the bound

Every sweep draws its prices, billing, limits, workers, durations and failures (workers and drivers killed at any
moment), and the records' clock jumps by up to 5 s either way. What is true is kept beside the records: the seconds
that each worker really held, billed as the node is. Overshoot is the true cost above the limit. Prints the hardware,
the date and the commit; `--out FILE` also writes it down.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from duchenne.driver.prepare import code_revision
from duchenne.plan.holdback import EvaluationNeed
from duchenne.plan.leasing import GRACE_SECONDS, QUANTUM_SECONDS
from duchenne.plan.rates import Rate
from duchenne.pool.filing import SKIPPED_SHARE, Denial, Filing, purpose_of
from duchenne.pool.messages import PoolOptions
from duchenne.records import Amounts, NewSweep, RecordStore, open_store
from duchenne_jobs.config import RunConfig
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey, SegmentResult

CONFIG = RunConfig()  # nothing is trained
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SKEW_SECONDS = 5.0
RENEW_SECONDS = QUANTUM_SECONDS / 2
EXPIRE_SECONDS = 20.0
MARGIN_SECONDS = QUANTUM_SECONDS - RENEW_SECONDS + GRACE_SECONDS - SKIPPED_SHARE * QUANTUM_SECONDS
"""From a refused renewal to the end of what the lease reserved: what stops within it is paid for."""


@dataclass
class Clock:
    """True seconds, and the clock of the records, which is wrong by `skew`."""

    seconds: float = 0.0
    skew: float = 0.0

    def records(self) -> datetime:
        return BEGIN + timedelta(seconds=self.seconds + self.skew)

    def true(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Draw:
    """One sweep as drawn: what it costs, what it runs, and what goes wrong.

    Attributes:
        late: longest seconds from a refusal to the worker's stop (a step, then saving).
        deaths: chance of a segment that its worker dies; `driver_deaths`: moments at which the driver is killed.
    """

    rate: Rate
    gpus: float
    workers: int
    trials: int
    folds: int
    seeds: int
    epochs: int
    epoch_seconds: float
    late: float
    deaths: float
    driver_deaths: tuple[float, ...]
    limits: Amounts

    @classmethod
    def of(cls, chance: random.Random, late: float) -> Draw:
        hourly = 10 ** chance.uniform(-1.5, 1.6)
        rate = Rate(hourly / 3600, chance.choice((0.0, 1.0, 1.0, 60.0)))
        gpus = chance.choice((0.0, 0.25, 1.0))
        trials, folds, seeds, epochs = (
            chance.randint(1, 4),
            chance.randint(1, 2),
            chance.randint(1, 2),
            chance.randint(1, 3),
        )
        epoch_seconds = 10 ** chance.uniform(-0.5, 1.4)
        work = (2 * trials + seeds) * folds * epochs * epoch_seconds * chance.uniform(0.3, 2.5)
        usd = rate.usd_per_second * work + 2 * (rate.lease_usd or 0.0)  # `plan` refuses less than two leases
        limits = Amounts(
            usd=usd, gpu_seconds=gpus * (work * chance.uniform(0.5, 2) + 30) if gpus and chance.random() < 0.5 else None
        )
        deaths = tuple(sorted(chance.uniform(0, work) for _ in range(chance.choice((0, 0, 0, 1, 2)))))
        return cls(
            rate, gpus, chance.randint(1, 3), trials, folds, seeds, epochs, epoch_seconds, late,
            chance.choice((0.0, 0.0, 0.1)), deaths, limits,
        )  # fmt: skip

    def options(self) -> PoolOptions:
        need = EvaluationNeed(self.folds * self.seeds, self.epochs, (), 1.5, self.workers)
        return PoolOptions(
            workers=self.workers,
            cpus=1.0,
            gpus=self.gpus,
            usd_per_second=self.rate.usd_per_second,
            billing_quantum_seconds=self.rate.quantum_seconds,
            need=need,
        )

    def search_jobs(self) -> list[FoldJob]:
        keys = itertools.product(range(self.trials), range(self.folds), range(2))
        return [self._job(JobKey(trial, "search", "monet", fold, inner, 0)) for trial, fold, inner in keys]

    def evaluation_jobs(self) -> list[FoldJob]:
        keys = itertools.product(range(self.folds), range(self.seeds))
        return [self._job(JobKey(0, "evaluation", "monet", fold, None, seed)) for fold, seed in keys]

    def _job(self, key: JobKey) -> FoldJob:
        return FoldJob(key, CONFIG, "nowhere", "sha256:0", FoldsRequest(2, 2, 0), "", self.epochs)


@dataclass
class Hold:
    """A segment in a worker's hands, from `since`; `refused`: it was told to stop, and does at its next step."""

    ticket: int
    job: FoldJob
    since: float
    epoch: int
    refused: bool = False


@dataclass
class Truth:
    """What was really held, whatever the records say."""

    usd: float = 0.0
    gpu_seconds: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)

    def pay(self, draw: Draw, seconds: float) -> None:
        self.usd += draw.rate.usd(seconds) or 0.0
        self.gpu_seconds += draw.gpus * seconds


class Simulation:
    """One sweep: workers that lease, train, renew, stop and die, in the order of a heap of moments."""

    def __init__(self, store: RecordStore, clock: Clock, draw: Draw, chance: random.Random) -> None:
        self.store, self.clock, self.draw, self.chance = store, clock, draw, chance
        new = NewSweep(
            name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="", budget=draw.limits
        )
        self.sweep = store.create_sweep(new).id
        self.search_jobs, self.evaluation_jobs = draw.search_jobs(), draw.evaluation_jobs()
        self.truth = Truth()
        self.began = clock.seconds
        self.reached: Counter[JobKey] = Counter()
        self.holds: dict[int, Hold] = {}
        self.moments: list[tuple[float, int, str, int]] = []
        self.order = itertools.count()
        self.over: set[str] = set()
        self.ended = False
        self._start_driver()

    def run(self) -> Truth:
        """Play to the end, and return what was true."""
        self._at(EXPIRE_SECONDS, "expire", -1)
        for moment in self.draw.driver_deaths:
            self._at(moment, "driver dies", -1)
        for _ in range(100_000):
            if not self.moments or (not self._waiting() and not self.holds):
                break
            moment, _, what, worker = heapq.heappop(self.moments)
            self.clock.seconds = max(self.clock.seconds, moment)
            if self.chance.random() < 0.05:
                self.clock.skew = self.chance.uniform(-SKEW_SECONDS, SKEW_SECONDS)
            self._play(what, worker)
        else:
            sys.exit("refusing to report: a simulated sweep does not end")
        self.clock.seconds += 100.0
        self.store.ledger.expire(sweep=self.sweep)
        done = all(self.reached[job.key] >= job.epochs for job in self.evaluation_jobs)
        self.truth.ends["evaluated" if done else "exhausted"] += 1
        self.truth.ends["search cut"] += "search" in self.over
        if "search" in self.over and not done:
            self.truth.ends[f"cut, then {'not evaluated' if self._selectable() else 'nothing to select'}"] += 1
        return self.truth

    def _start_driver(self) -> None:
        self.filing = Filing(self.sweep, self.store, "", self.draw.options(), clock=self.clock.true)
        self.store.requeue_unfinished(self.sweep, token=None, retry_limit=10**6)
        self.store.ledger.expire(sweep=self.sweep)
        for worker in range(self.draw.workers):
            self._at(0.0, "ask", worker)

    def _play(self, what: str, worker: int) -> None:
        if what == "expire":
            self.store.ledger.expire(sweep=self.sweep)
            self._at(EXPIRE_SECONDS, what, worker)
        elif what == "driver dies":
            for hold in self.holds.values():  # its workers die with it; nobody settles their leases
                self.truth.pay(self.draw, self.clock.seconds - hold.since)
            self.holds.clear()
            self.moments = [entry for entry in self.moments if entry[2] in ("expire", "driver dies")]
            heapq.heapify(self.moments)
            self.clock.seconds += self.chance.uniform(0, 40)
            self._start_driver()
        elif what == "ask":
            self._ask(worker)
        elif worker in self.holds:
            {"epoch": self._epoch, "renew": self._renew, "dies": self._dies, "stopped": self._stopped}[what](worker)

    def _waiting(self) -> list[FoldJob]:
        """Jobs that nobody runs: the evaluation's once the search is done or over."""
        if self.ended:
            return []
        held = {hold.job.key for hold in self.holds.values()}
        left = [job for job in self.search_jobs if self.reached[job.key] < job.epochs]
        if "search" not in self.over and left:
            return [job for job in left if job.key not in held]
        if any(purpose_of(key) == "search" for key in held) or not self._selectable():
            return []
        return [job for job in self.evaluation_jobs if self.reached[job.key] < job.epochs and job.key not in held]

    def _selectable(self) -> bool:
        """Whether some trial has an epoch on all its folds."""
        reached: dict[int | None, int] = {}
        for job in self.search_jobs:
            trial = job.key.trial
            reached[trial] = min(reached.get(trial, self.draw.epochs), self.reached[job.key])
        return any(reached.values())

    def _ask(self, worker: int) -> None:
        if worker in self.holds:
            return
        waiting = self._waiting()
        if not waiting:
            if self.holds:
                self._at(1.0, "ask", worker)
            return
        job = waiting[0]
        self.filing.recorded([job], job.epochs)
        lease = self.filing.reserve(f"w{worker}", job.key)
        if isinstance(lease, Denial):
            if not lease.passing:
                self._run_out(job.key, lease)
            self._at(1.0, "ask", worker)
            return
        self.filing.begin(job.key, f"w{worker}")
        self.holds[worker] = Hold(lease, job, self.clock.seconds, self.reached[job.key])
        self._at(self._epoch_seconds(), "epoch", worker)
        self._at(RENEW_SECONDS, "renew", worker)
        if self.chance.random() < self.draw.deaths:
            self._at(self.chance.uniform(0, 2 * self.draw.epoch_seconds), "dies", worker)

    def _epoch(self, worker: int) -> None:
        hold = self.holds[worker]
        hold.epoch += 1
        self.filing.result(hold.job.key, hold.epoch, {})
        self.reached[hold.job.key] = hold.epoch
        if hold.epoch < hold.job.epochs:
            self._extend(worker)
            if not hold.refused:
                self._at(self._epoch_seconds(), "epoch", worker)
            return
        self._leave(worker)
        self.filing.succeed(hold.job.key, SegmentResult(hold.epoch, {}))

    def _renew(self, worker: int) -> None:
        if not self.holds[worker].refused:
            self._extend(worker)
            self._at(RENEW_SECONDS + self.chance.uniform(0, 0.2), "renew", worker)

    def _extend(self, worker: int) -> None:
        """Ask for another quantum; after a no the step that runs ends, and what was learned is saved."""
        hold = self.holds[worker]
        purpose = purpose_of(hold.job.key)
        denial = None
        if not self.ended and purpose not in self.over:
            denial = self.filing.extend(hold.ticket)
            if denial is None:
                return
            if not denial.passing:  # else it goes back to the queue
                self._run_out(hold.job.key, denial)
        hold.refused = True
        self._drop(worker)
        self._at(self.chance.uniform(0, self.draw.late), "stopped", worker)

    def _stopped(self, worker: int) -> None:
        key = self.holds[worker].job.key
        self._leave(worker)
        self.filing.end_attempt(key, "interrupted", None)

    def _dies(self, worker: int) -> None:
        """SIGKILL: it holds nothing from now on; the queue hears of it later and settles on what it saw."""
        hold = self.holds.pop(worker)
        self._drop(worker)
        self.truth.pay(self.draw, self.clock.seconds - hold.since)
        self.clock.seconds += self.chance.uniform(0, 5)
        self.filing.settle(hold.ticket, hold.job.key, self.clock.seconds - hold.since, wasted=True)
        self.filing.end_attempt(hold.job.key, "interrupted", "killed")
        self._at(0.0, "ask", worker)

    def _leave(self, worker: int) -> None:
        hold = self.holds.pop(worker)
        self._drop(worker)
        seconds = self.clock.seconds - hold.since
        self.truth.pay(self.draw, seconds)
        self.filing.settle(hold.ticket, hold.job.key, seconds, wasted=False)
        self._at(0.0, "ask", worker)

    def _run_out(self, key: JobKey, denial: Denial) -> None:
        if denial.final:
            self.ended = True
        else:
            self.over.add(purpose_of(key))

    def _epoch_seconds(self) -> float:
        return self.draw.epoch_seconds * self.chance.lognormvariate(0.0, 0.3)

    def _at(self, seconds: float, what: str, worker: int) -> None:
        heapq.heappush(self.moments, (self.clock.seconds + seconds, next(self.order), what, worker))

    def _drop(self, worker: int) -> None:
        """Forget what was planned for a worker."""
        self.moments = [entry for entry in self.moments if entry[3] != worker]
        heapq.heapify(self.moments)


@dataclass(frozen=True)
class Report:
    """What came out of many sweeps. Shares are of the limit; `bound` is the overshoot that the formula allows."""

    sweeps: int
    overran: int
    overshoot: float
    beyond_bound: int
    spent: float
    ends: Counter[str]


@contextmanager
def records(clock: Clock) -> Iterator[RecordStore]:
    """Records in memory where the machine has such a folder, else on disk; with the virtual clock."""
    memory = Path("/dev/shm")  # noqa: S108 - a file system in memory, not a secret
    with (
        tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder,
        open_store(Path(folder) / "records.sqlite", clock=clock.records) as store,
    ):
        yield store


def simulate(sweeps: int, seed: int, late: float, seconds: float | None = None) -> Report:
    """Play `sweeps` sweeps, or as many as fit into `seconds`."""
    overran, worst, beyond, spent, played = 0, 0.0, 0, 0.0, 0
    ends: Counter[str] = Counter()
    started = time.perf_counter()
    clock = Clock()
    with records(clock) as store:
        for number in range(sweeps):
            if seconds is not None and time.perf_counter() - started > seconds:
                break
            chance = random.Random(seed * 1_000_003 + number)
            draw = Draw.of(chance, late)
            truth = Simulation(store, clock, draw, chance).run()
            over, allowed = overshoot(draw, truth), bound(draw)
            # Sums of floats differ in their last digits from the ledger's whole nano-dollars.
            overran += over > 1e-9
            beyond += over > allowed + 1e-9
            worst, spent, played = max(worst, over), spent + truth.usd / (draw.limits.usd or 1.0), played + 1
            ends += truth.ends
    return Report(played, overran, max(0.0, worst), beyond, spent / max(1, played), ends)


def overshoot(draw: Draw, truth: Truth) -> float:
    """The largest share of a limit by which the truth lies above it."""
    over = [truth.usd / (draw.limits.usd or 1.0) - 1.0]
    if draw.limits.gpu_seconds:
        over.append(truth.gpu_seconds / draw.limits.gpu_seconds - 1.0)
    return max(over)


def bound(draw: Draw) -> float:
    """docs/budget.md: workers x price x the seconds by which stopping outlasts the margin, as a share of the limit."""
    beyond = max(0.0, draw.late - MARGIN_SECONDS)
    if not beyond:
        return 0.0
    dollars = draw.workers * draw.rate.usd_per_second * (beyond + draw.rate.quantum_seconds) / (draw.limits.usd or 1.0)
    gpus = draw.workers * draw.gpus * beyond / draw.limits.gpu_seconds if draw.limits.gpu_seconds else 0.0
    return max(dollars, gpus)


def describe(report: Report, late: float) -> list[str]:
    """The lines of a report."""
    return [
        f"sweeps: {report.sweeps}, workers stop within {late:g} s of a refusal (margin {MARGIN_SECONDS:g} s)",
        f"sweeps over their limit: {report.overran}",
        f"largest overshoot, share of the limit: {report.overshoot:.6f}",
        f"sweeps beyond the documented bound: {report.beyond_bound}",
        f"spent, mean share of the limit: {report.spent:.3f}",
        *(f"{name}: {count}" for name, count in sorted(report.ends.items())),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, help="stop beginning sweeps after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--late", type=float, default=8.0, help="longest seconds from a refusal to a stop")
    parser.add_argument("--out", type=Path, help="also write the figures into this file")
    arguments = parser.parse_args()
    began = time.perf_counter()
    report = simulate(arguments.sweeps, arguments.seed, arguments.late, arguments.seconds)
    lines = [
        f"budget, {datetime.now(UTC):%Y-%m-%d}, commit {code_revision()}, seed {arguments.seed}",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f}, {time.perf_counter() - began:.0f} s",
        *describe(report, arguments.late),
    ]
    print("\n".join(lines))
    if arguments.out:
        with arguments.out.open("a") as file:
            file.write("\n".join(lines) + "\n")
    if report.beyond_bound or (arguments.late <= MARGIN_SECONDS and report.overran):
        sys.exit(1)


if __name__ == "__main__":
    main()
