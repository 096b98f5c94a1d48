"""Can a budget be overrun? Simulated sweeps on a virtual clock, through the queue, leases, search and hold-back that
real ones run through.

    python benchmarks/budget.py                       # 10,000 sweeps within the margin, 1,000 beyond, 200 on SQL
    python benchmarks/budget.py --sweeps 200          # a look
    python benchmarks/budget.py --late 30             # steps that outlast the margin: how far over, and the bound

Every sweep draws its prices, billing, limits, workers, search, durations and failures: errors of jobs, workers and
nodes that die, drivers that are killed at any moment, and a records' clock that is wrong by up to 5 s and jumps.
What is true is kept beside the records: the seconds that each worker really held, billed as the node is. Overshoot is
the true cost above the limit. Prints the hardware, the date and the commit; `--out FILE` also writes it down.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from duchenne.driver.prepare import code_revision
from duchenne.plan.cost_model import Setting, stated_model
from duchenne.plan.leasing import GRACE_SECONDS, QUANTUM_SECONDS
from duchenne.pool.filing import SKIPPED_SHARE
from duchenne.records import Amounts, RecordStore
from duchenne.records.database import Database
from duchenne.records.migrate import migrate
from duchenne.simulation.model import Cluster, Durations, Failures, Nodes, Services
from duchenne.simulation.records import MemoryRecords
from duchenne.simulation.sweep import Played, PlayedRecords, Simulation
from duchenne.spec.sweep import Sweep

SKEW_SECONDS = 5.0
SERVICES = Services(queue_seconds=0.02, transaction_seconds=0.005, group_seconds=2.0, driver_seconds=20.0)
LONGEST_ANSWER = 1.0  # seconds that the queue may take with these: asserted of each sweep
MARGIN_SECONDS = QUANTUM_SECONDS / 2 + GRACE_SECONDS - SKIPPED_SHARE * QUANTUM_SECONDS
"""From a refused renewal to the end of what the lease reserved: what stops within it is paid for."""

Recorder = Callable[[Callable[[], datetime]], PlayedRecords]


@dataclass(frozen=True)
class Draw:
    """One sweep as drawn: what it runs, what it may spend, and what goes wrong.

    Attributes:
        late: longest seconds from a refusal to the worker's stop (a step, then saving).
    """

    sweep: Sweep
    cluster: Cluster
    limits: Amounts
    late: float

    @classmethod
    def of(cls, chance: random.Random, late: float) -> Draw:
        """`plan` refuses less than two leases; everything else is drawn."""
        hourly, quantum = 10 ** chance.uniform(-1.5, 1.6), chance.choice((0.001, 1.0, 1.0, 60.0))
        gpu, workers = chance.choice((0.0, 0.25, 1.0)), chance.randint(1, 3)
        trials, seeds, epochs = chance.randint(1, 4), chance.randint(1, 2), chance.randint(1, 3)
        epoch_seconds = 10 ** chance.uniform(-0.5, 1.4)
        node = {
            "cpu": 1,
            "gpu": gpu,
            "memory_gib": 1,
            "on_demand_usd_per_hour": hourly,
            "billing_quantum_seconds": quantum,
        }
        search = {
            "trials": trials,
            "space": {"loss.dice": {"uniform": [0, 1]}},
            **chance.choice(
                (
                    {"scheduler": "fifo"},
                    {"scheduler": "asha"},
                    {"scheduler": "median_stopping"},
                    {"scheduler": "asha", "racing": {}},
                    {"scheduler": {"name": "asha", "rungs": "worker_seconds", "grace": epoch_seconds}},
                )
            ),
        }
        sweep = Sweep.model_validate(
            {
                "apiVersion": "duchenne/v1",
                "kind": "Sweep",
                "metadata": {"name": "drawn"},
                "data": {"uri": "builtin://yeast"},
                "training": {"epochs": epochs},
                "search": search,
                "comparators": chance.choice(([], ["vmnc"], ["logistic_regression"])),
                "folds": {"count": 2, "inner": 2, "resources": {"cpu": 1, "gpu": gpu}},
                "seeds": seeds,
                "prices": {"listed": node},
                "budget": {"usd": 1.0},
            }
        )
        work = (4 * trials + 2 * seeds) * epochs * epoch_seconds * chance.uniform(0.3, 2.5)
        lease = QUANTUM_SECONDS + GRACE_SECONDS
        usd = hourly / 3600 * (work + 2 * max(lease, -(-lease // quantum) * quantum))
        gpu_seconds = gpu * (work * chance.uniform(0.5, 2) + 2 * lease) if gpu and chance.random() < 0.5 else None
        wall = work * chance.uniform(0.5, 3) + 60 if chance.random() < 0.2 else None
        failures = Failures(
            errors_per_hour=chance.choice((0.0, 0.0, 20.0)),
            losses_per_hour=chance.choice((0.0, 0.0, 10.0)),
            driver_deaths_per_hour=chance.choice((0.0, 0.0, 3600 / (work + 60))),
            skew_seconds=SKEW_SECONDS,
            late_seconds=late,
        )
        setting = Setting(1000.0, 14)
        cluster = Cluster(
            Nodes(workers, startup_seconds=5.0, evictions_per_hour=chance.choice((0.0, 10.0))),
            Durations(stated_model(epoch_seconds, sweep.base, setting), setting, growth=2.0, noise=0.3),
            failures,
            SERVICES,
        )
        return cls(sweep, cluster, Amounts(usd=usd, gpu_seconds=gpu_seconds, wall_seconds=wall), late)

    def play(self, seed: int, records: Recorder) -> Played:
        """The sweep, from its first node to its end."""
        return Simulation(self.sweep, self.cluster, seed, records, self.limits).play()

    def overshoot(self, played: Played) -> float:
        """The largest share of a limit by which the truth lies above it."""
        over = [played.truth.usd / (self.limits.usd or 1.0) - 1.0]
        if self.limits.gpu_seconds:
            over.append(played.truth.gpu_seconds / self.limits.gpu_seconds - 1.0)
        return max(over)

    def bound(self, played: Played) -> float:
        """docs/budget.md: n (1 + d) p (max(0, s + w + l - m) + b) as a share of the limit, and 0 within the margin."""
        beyond = max(0.0, self.late + played.load.queue.longest - MARGIN_SECONDS)
        if not beyond:
            return 0.0
        truth, rate = played.truth, played.truth.rate
        late = self.cluster.nodes.workers * (1 + truth.events["driver killed"])
        dollars = late * rate.usd_per_second * (beyond + rate.quantum_seconds) / (self.limits.usd or 1.0)
        gpus = late * truth.gpus * beyond / self.limits.gpu_seconds if self.limits.gpu_seconds else 0.0
        return max(dollars, gpus)


class CountedStore(RecordStore):
    """The database's records; what they are asked is not counted."""

    def made(self) -> int:
        """Calls cost the same whatever is behind them."""
        return 0


@dataclass
class Report:
    """What came out of many sweeps. Shares are of the limit; `beyond` counts those beyond what the formula allows."""

    sweeps: int = 0
    overran: int = 0
    worst: float = 0.0
    beyond: int = 0
    spent: float = 0.0
    segments: int = 0
    slow_answers: int = 0
    ends: Counter[str] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.ends = Counter()

    def add(self, draw: Draw, played: Played) -> None:
        """Count a sweep. Sums of floats differ in their last digits from the ledger's whole nano-dollars."""
        over, allowed = draw.overshoot(played), draw.bound(played)
        self.sweeps += 1
        self.overran += over > 1e-9
        self.beyond += over > allowed + 1e-9
        self.worst = max(self.worst, over)
        self.spent += played.truth.usd / (draw.limits.usd or 1.0)
        self.segments += len(played.truth.held)
        self.slow_answers += played.load.queue.longest > LONGEST_ANSWER
        self.ends[f"ended {played.state}"] += 1
        self.ends["search cut"] += played.cut
        self.ends.update(played.truth.events)

    def lines(self, late: float) -> list[str]:
        """For people."""
        return [
            f"sweeps: {self.sweeps} ({self.segments} segments), workers stop within {late:g} s of a refusal "
            f"(margin {MARGIN_SECONDS:g} s, answers within {LONGEST_ANSWER:g} s)",
            f"sweeps over their limit: {self.overran}",
            f"largest overshoot, share of the limit: {max(0.0, self.worst):.6f}",
            f"sweeps beyond the documented bound: {self.beyond}",
            f"spent, mean share of the limit: {self.spent / max(1, self.sweeps):.3f}",
            ", ".join(f"{name} {number}" for name, number in sorted(self.ends.items())),
        ]


def simulate(sweeps: int, seed: int, late: float, seconds: float | None = None) -> Report:
    """Play `sweeps` sweeps, or as many as fit into `seconds`."""
    report, started = Report(), time.perf_counter()
    for number in range(sweeps):
        if seconds is not None and time.perf_counter() - started > seconds:
            break
        draw = Draw.of(random.Random(seed * 1_000_003 + number), late)
        report.add(draw, draw.play(number, MemoryRecords))
    return report


def cross_check(sweeps: int, seed: int, late: float) -> tuple[int, int]:
    """(sweeps, segments) that went the same way in memory and in a database; ends the program where one did not."""
    memory = Path("/dev/shm")  # noqa: S108 - a file system in memory, not a secret
    segments = 0
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        for number in range(sweeps):
            draw = Draw.of(random.Random(seed * 1_000_003 + number), late)
            draw = Draw(draw.sweep, _unqueued(draw.cluster), draw.limits, late)
            databases = (Path(folder) / f"{number}-{part}.sqlite" for part in count())

            def in_database(clock: Callable[[], datetime], places: object = databases) -> PlayedRecords:
                store = CountedStore(Database(next(places), clock=clock))  # type: ignore[call-overload]
                migrate(store.database)
                return store

            one, other = draw.play(number, MemoryRecords), draw.play(number, in_database)
            told = [(each.state, each.truth.held, each.records.ledger.totals(each.sweep)) for each in (one, other)]
            if told[0] != told[1]:
                sys.exit(f"refusing to report: sweep {number} of seed {seed} went another way in a database")
            segments += len(one.truth.held)
            if isinstance(other.records, RecordStore):
                other.records.close()
            for path in Path(folder).iterdir():
                path.unlink()
    return sweeps, segments


def _unqueued(cluster: Cluster) -> Cluster:
    """Without waiting for the database, which counts transactions in memory only."""
    return Cluster(cluster.nodes, cluster.durations, cluster.failures, Services(group_seconds=2.0, driver_seconds=20.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, help="stop beginning sweeps after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--late", type=float, help="one batch, with at most so many seconds from a refusal to a stop")
    parser.add_argument("--out", type=Path, help="also write the figures into this file")
    arguments = parser.parse_args()
    began = time.process_time()
    sweeps, seed = arguments.sweeps, arguments.seed
    batches = [(sweeps, 8.0), (sweeps // 10, 60.0)] if arguments.late is None else [(sweeps, arguments.late)]
    reports = [(late, simulate(number, seed, late, arguments.seconds)) for number, late in batches]
    lines = [line for late, report in reports for line in report.lines(late)]
    if arguments.late is None:
        same, segments = cross_check(max(1, sweeps // 50), seed, 8.0)
        lines.append(f"the same in memory and in SQLite, to the last of {segments} segments: {same} sweeps")
    lines = [
        f"budget, {datetime.now(UTC):%Y-%m-%d}, commit {code_revision()}, seed {seed}",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f}, {time.process_time() - began:.0f} s of one core",
        *lines,
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")
    if any(report.beyond or (late + LONGEST_ANSWER <= MARGIN_SECONDS and report.overran) for late, report in reports):
        sys.exit(1)


if __name__ == "__main__":
    main()
