"""Order evolution: a small set of orders that moves towards the good ones (ours; no equation of the thesis).

The thesis draws M of T! orders once, so that the best one is in the set by luck (2.5.3 says so of AU1 and AU2). Orders
near a good one tend to be good as well (Tallec 2023, fig. 2.7): the bad ones of little weight give way to such
neighbours.

Shapes: M orders, C steps, N replaced orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise, product

import torch
from torch import Tensor

from duchenne_jobs.config import EvolutionConfig

Order = tuple[int, ...]

TOLERANCE = 1e-4
"""Rounding of a softmax must not tell the weights of a uniform mixture apart."""


@dataclass(frozen=True)
class Replacement:
    """Which orders give way to which.

    Attributes:
        places: (N,) rows of the set.
        orders: (N, C) what stands there from now on.
        parents: (N,) rows of the orders that they are neighbours of.
    """

    places: Tensor
    orders: Tensor
    parents: Tensor


def neighbours_of(order: Order, kind: str) -> list[Order]:
    """The distinct orders one change away from `order`, without it.

    Args:
        kind: `adjacent`: two neighbouring steps swapped (C - 1 orders); `any`: two steps swapped (C (C - 1) / 2);
            `insertion`: one step taken out and put elsewhere ((C - 1)^2).
    """
    found: dict[Order, None] = {}
    steps = range(len(order))
    if kind == "insertion":
        for taken, place in product(steps, steps):
            rest = order[:taken] + order[taken + 1 :]
            found.setdefault((*rest[:place], order[taken], *rest[place:]))
    else:
        for one, other in pairwise(steps) if kind == "adjacent" else combinations(steps, 2):
            swapped = list(order)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            found.setdefault(tuple(swapped))
    found.pop(order, None)
    return list(found)


def evolved(
    orders: Tensor, weights: Tensor, losses: Tensor, config: EvolutionConfig, generator: torch.Generator
) -> Replacement | None:
    """Choose the orders that give way, and neighbours of the parents that are not in the set to take their place.

    The orders of the lowest training losses are the parents and stay. Of the others, those that the mixture has not
    learned to favour (pi_m <= 1/M) give way, the highest loss first, at most the share `replaced` of the set. Losses
    rank, since they tell orders apart long before the weights do: Adam moves every logit by about the learning rate a
    step, and a weight is the sum of a whole training's steps. The parents take turns, each with a neighbour drawn at
    random.

    Args:
        orders: (M, C) distinct permutations.
        weights: (M,) the mixture pi.
        losses: (M,) mean L^sigma_m over the rows of an epoch (Tallec 2023, eq. 2.28); NaN where it is unknown: such an
            order stays.
        generator: the draws; the result is a pure function of it and the rest.

    Returns:
        What to replace; None where no order is to give way or every neighbour is in the set.
    """
    known = [place for place in torch.argsort(losses, stable=True).tolist() if not bool(losses[place].isnan())]
    parents = known[: config.parents]
    limit = max(1, int(config.replaced * len(orders)))
    low = weights <= (1 + TOLERANCE) / len(orders)
    leaving = [place for place in reversed(known[config.parents :]) if bool(low[place])][:limit]
    taken: set[Order] = {tuple(order) for order in orders.tolist()}
    waiting = [
        (parent, _shuffled(neighbours_of(tuple(orders[parent].tolist()), config.neighbours), generator))
        for parent in parents
    ]
    born: list[tuple[Order, int]] = []
    for turn in range(max((len(neighbours) for _, neighbours in waiting), default=0)):
        for parent, neighbours in waiting:
            if turn < len(neighbours) and neighbours[turn] not in taken and len(born) < len(leaving):
                taken.add(neighbours[turn])
                born.append((neighbours[turn], parent))
    if not born:
        return None
    return Replacement(
        places=torch.tensor(leaving[: len(born)]),
        orders=torch.tensor([order for order, _ in born]),
        parents=torch.tensor([parent for _, parent in born]),
    )


def _shuffled(orders: list[Order], generator: torch.Generator) -> list[Order]:
    return [orders[place] for place in torch.randperm(len(orders), generator=generator).tolist()]
