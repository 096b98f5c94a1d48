"""What a second of one worker costs, billed as the node is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from duchenne.plan.leasing import GRACE_SECONDS, QUANTUM_SECONDS
from duchenne.plan.packing import gpu_share
from duchenne.spec.errors import SpecError
from duchenne.spec.prices import load_prices
from duchenne.spec.sections import NodeType, Prices, Resources
from duchenne.spec.sweep import Sweep

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Rate:
    """The price of one worker.

    Attributes:
        usd_per_second: 0 where nothing is charged or nobody set a price.
        quantum_seconds: a part of so many seconds is billed as a whole; 0 bills fractions.
    """

    usd_per_second: float
    quantum_seconds: float = 0.0

    def usd(self, seconds: float) -> float | None:
        """Dollars of `seconds`, rounded up to the billing quantum; None where there is no price: unknown, not 0."""
        if not self.usd_per_second:
            return None
        # Less than a microsecond above a whole number of quanta is the clock's noise.
        quanta = math.ceil(seconds / self.quantum_seconds - 1e-6) if self.quantum_seconds else 0
        return self.usd_per_second * (quanta * self.quantum_seconds if self.quantum_seconds else seconds)

    @property
    def lease_usd(self) -> float | None:
        """Dollars that the first lease of a fold job reserves."""
        return self.usd(QUANTUM_SECONDS + GRACE_SECONDS)


def worker_rate(sweep: Sweep) -> Rate:
    """The rate of one worker of a fold job."""
    return rate_of(sweep.prices, sweep.folds.resources)


def rate_of(prices: Prices, resources: Resources) -> Rate:
    """The rate of what holds `resources`.

    On a node type it is the node's price times the larger of the shares of cores and GPUs that the worker holds: what
    it leaves of the other nobody else could use in full.

    Raises:
        ValueError: a price file is named that was not read; `load_sweep` reads it.
    """
    if prices.listed is not None:
        node = prices.listed
        shares = [resources.cpu / node.cpu, *([gpu_share(resources.gpu) / node.gpu] if node.gpu else [])]
        return Rate(node_hour_usd(node, prices.spot) * max(shares) / SECONDS_PER_HOUR, node.billing_quantum_seconds)
    if prices.file is not None:
        raise ValueError(f"a price file must be read before it prices, but {prices.file} was not; use load_sweep")
    hourly = resources.cpu * prices.cpu_hour_usd + gpu_share(resources.gpu) * prices.gpu_hour_usd
    return Rate(hourly / SECONDS_PER_HOUR)


def node_hour_usd(node: NodeType, spot: bool) -> float:
    """Dollars an hour of a whole node."""
    return node.spot_usd_per_hour if spot and node.spot_usd_per_hour is not None else node.on_demand_usd_per_hour


def unbounded(sweep: Sweep) -> list[str]:
    """What the price file charges for and no budget bounds, one line each; empty without such a file."""
    if sweep.prices.file is None:
        return []
    try:
        prices = load_prices(sweep.prices.file)
    except SpecError:  # the sweep carries its node's price; the file is not on this machine
        return []
    kinds = (("storage", prices.storage_usd_per_gib_month, "GiB-month"), ("egress", prices.egress_usd_per_gib, "GiB"))
    return [
        f"not in the budget: {name} at ${price:g} a {unit} (docs/budget.md)" for name, price, unit in kinds if price
    ]
