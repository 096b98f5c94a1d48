"""The virtual cluster that a sweep's file and a few numbers describe."""

from __future__ import annotations

from duchenne.plan.cost_model import CostModel, Setting
from duchenne.plan.packing import most_by_cores, most_by_gpus
from duchenne.plan.rates import node_hour_usd, worker_rate
from duchenne.plan.sizes import growth, setting_of
from duchenne.simulation.model import HOUR, Cluster, Durations, Failures, Nodes
from duchenne.spec.sweep import Sweep

UNKNOWN_ROWS, UNKNOWN_TASKS = 1000.0, 12  # of a dataset that is not on this disk


def cluster_of(
    sweep: Sweep,
    model: CostModel,
    nodes: int,
    workers_per_node: int | None = None,
    startup_seconds: float = 60.0,
    evictions_per_hour: float = 0.0,
    noise: float = 0.15,
    failures: Failures | None = None,
) -> Cluster:
    """Nodes of the sweep's node type where it names one, else such that hold `workers_per_node` workers and no more."""
    workers = workers_per_node or _fitting(sweep)
    listed = sweep.prices.listed
    hourly = worker_rate(sweep).usd_per_second * HOUR * workers
    price = node_hour_usd(listed, sweep.prices.spot) if listed is not None else hourly or None
    return Cluster(
        Nodes(nodes, workers, startup_seconds, price, evictions_per_hour),
        Durations(model, setting_or_unknown(sweep), growth(sweep), noise),
        failures or Failures(),
    )


def fold_groups(sweep: Sweep, cluster: Cluster) -> int:
    """Fold jobs that the pool runs at once.

    Raises:
        ValueError: it has no room for one.
    """
    together, workers = sweep.folds.workers_per_fold, cluster.nodes.workers
    if workers < together:
        raise ValueError(
            f"folds.workers_per_fold: a fold's workers must fit the pool of {workers}, but got {together}; lower it, "
            "or simulate more nodes"
        )
    return workers // together


def setting_or_unknown(sweep: Sweep) -> Setting:
    """What a fold job of the search trains on."""
    epochs = sweep.training.epochs
    return setting_of(sweep, "search", epochs) or Setting(UNKNOWN_ROWS, UNKNOWN_TASKS, epochs=epochs)


def _fitting(sweep: Sweep) -> int:
    """Workers that a node of the sweep's type holds."""
    node, resources = sweep.prices.listed, sweep.folds.resources
    if node is None:
        return 1
    by_cores = most_by_cores(node.cpu, resources.cpu)
    return max(1, min(by_cores, most_by_gpus(node.gpu, resources.gpu)) if resources.gpu else by_cores)
