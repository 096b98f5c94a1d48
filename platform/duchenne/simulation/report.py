"""What a simulated sweep says: makespan, cost, idle and wasted shares, and what held it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from duchenne.records.costs import costs_of
from duchenne.simulation.model import HOUR, Cluster
from duchenne.simulation.sweep import Played

Bottleneck = Literal["nodes", "queue", "driver", "database", "budget"]

BUSY: Final = 0.7
"""A part that is busy for so much of the search holds the rest up: whoever calls it waits about twice as long as its
work takes."""


@dataclass(frozen=True)
class Report:
    """Shares are of 1; None where there is nothing that they could be a share of.

    Attributes:
        makespan_seconds: from the start of the first node to the end.
        search_seconds: until a configuration was selected; None where it never was.
        trials, fold_jobs: that ran; `segments` they ran in, and `stopped` trials that ended early.
        spent_usd: by the ledger; `nodes_usd` is what the nodes cost from their start to their end.
        usd_by_phase, seconds_by_phase: of fold jobs, in dollars and in worker-seconds.
        idle_share: of the worker-seconds that the nodes were there, how much no fold job held.
        wasted_share: of the worker-seconds that jobs held, how much was lost to errors and lost workers.
        utilisation: how busy each part was.
        longest_answer_seconds: the longest that the queue took to answer (`l` of docs/budget.md).
        overshoot_usd: what was truly spent above the limit.
        events: what went wrong.
    """

    state: str
    reason: str | None
    makespan_seconds: float
    search_seconds: float | None
    trials: int
    stopped: int
    fold_jobs: int
    segments: int
    spent_usd: float | None
    nodes_usd: float | None
    usd_by_phase: dict[str, float | None]
    seconds_by_phase: dict[str, float]
    idle_share: float | None
    wasted_share: float | None
    utilisation: dict[str, float]
    bottleneck: Bottleneck
    longest_answer_seconds: float
    overshoot_usd: float | None
    events: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The document of `duchenne simulate --json`."""
        return dict(vars(self))


def report(played: Played, cluster: Cluster) -> Report:
    """Sum up what was played."""
    store, truth, sweep = played.records, played.truth, played.sweep
    record, trials = store.get_sweep(sweep), store.trials(sweep)
    costs = costs_of(store, sweep)
    busy, there = truth.busy_seconds(), _there(played) * cluster.nodes.workers
    utilisation = _utilisation(played, cluster)
    limit = record.budget.usd
    return Report(
        state=played.state,
        reason=played.reason,
        makespan_seconds=played.seconds,
        search_seconds=played.search_seconds,
        trials=len(trials),
        stopped=sum(trial.state == "stopped" for trial in trials),
        fold_jobs=sum(job.attempts > 0 for job in store.fold_jobs(sweep)),
        segments=len(truth.held),
        spent_usd=store.ledger.totals(sweep)["spent"].usd,
        nodes_usd=_nodes_usd(played, cluster),
        usd_by_phase={part.name: part.amounts.usd for part in costs.phases},
        seconds_by_phase={phase: truth.busy_seconds(phase) for phase in ("search", "evaluation")},
        idle_share=1.0 - busy / there if there else None,
        wasted_share=truth.wasted_seconds / busy if busy else None,
        utilisation=utilisation,
        bottleneck=_bottleneck(played, utilisation),
        longest_answer_seconds=played.load.queue.longest,
        overshoot_usd=None if limit is None or not truth.usd else max(0.0, truth.usd - limit),
        events=dict(sorted(truth.events.items())),
    )


def _there(played: Played) -> float:
    """Seconds for which the pool was paid, over all drivers."""
    return sum(end - start for start, end in played.truth.nodes)


def _nodes_usd(played: Played, cluster: Cluster) -> float | None:
    hourly = cluster.nodes.usd_per_hour
    return None if hourly is None else hourly * cluster.nodes.count * _there(played) / HOUR


def _utilisation(played: Played, cluster: Cluster) -> dict[str, float]:
    """Nodes and Tune's driver: of the search, or of all where it did not end; queue and database: of all."""
    load, end = played.load, played.search_seconds or played.seconds
    whole = max(end, 1e-9)
    held = played.truth.workers * sum(max(0.0, min(held.end, end) - held.start) for held in played.truth.held)
    there = sum(max(0.0, min(last, end) - first) for first, last in played.truth.nodes) * cluster.nodes.workers
    return {
        "nodes": held / there if there else 0.0,
        "queue": load.calls_seconds / played.seconds,
        "database": load.database_seconds / played.seconds,
        "driver": load.driver.busy_seconds / whole,
    }


def _bottleneck(played: Played, utilisation: dict[str, float]) -> Bottleneck:
    """What would have to grow for the sweep to get further, or to end sooner."""
    if played.cut or played.state == "exhausted":
        return "budget"
    server = utilisation["queue"] + utilisation["database"]
    if max(server, utilisation["driver"]) < BUSY:
        return "nodes"
    if utilisation["driver"] >= server:
        return "driver"
    return "database" if utilisation["database"] >= utilisation["queue"] else "queue"
