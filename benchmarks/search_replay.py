"""Recorded learning curves, and a purse that pays for their epochs: what `search_efficiency.py` replays searches on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from duchenne.spec import Sweep
from duchenne_jobs.evaluation import METRICS

RESULTS = Path(__file__).parent / "results"


class Spent(Exception):  # noqa: N818 - ends a replay
    """The budget does not pay for what was asked."""


@dataclass(frozen=True)
class Table:
    """Recorded curves; more score is better.

    Attributes:
        scores: (C, F, E) of C configurations, F folds, E epochs.
        epoch_seconds: (C,) of one fold.
    """

    name: str
    made: str
    space: Mapping[str, Sequence[Any]]
    base: Mapping[str, Any]
    metric: str
    folds: Mapping[str, int]
    scores: np.ndarray
    epoch_seconds: np.ndarray
    places: Mapping[str, int]

    @classmethod
    def read(cls, name: str) -> Table:
        """From results/search_curves_NAME.json."""
        text = json.loads((RESULTS / f"search_curves_{name}.json").read_text(encoding="utf-8"))
        sign = 1.0 if METRICS[text["metric"]] == "max" else -1.0
        return cls(
            name=name,
            made=text["made"],
            space=text["space"],
            base=text["base"],
            metric=text["metric"],
            folds=text["folds"],
            scores=sign * np.array([row["scores"] for row in text["rows"]]),
            epoch_seconds=np.array([row["epoch_seconds"] for row in text["rows"]]),
            places={_key(row["values"]): place for place, row in enumerate(text["rows"])},
        )

    @property
    def epochs(self) -> int:
        """E."""
        return int(self.scores.shape[2])

    def place(self, values: Mapping[str, Any]) -> int:
        """The row of a configuration."""
        return self.places[_key(values)]

    def whole(self, place: int) -> float:
        """The configuration's score by its whole cross-validation, in points."""
        return float(100 * self.scores[place, :, -1].mean())

    def sweep(self, seed: int, **search: Any) -> Sweep:
        """A sweep over the table's space."""
        space = {path: {"choice": list(values)} for path, values in self.space.items()}
        return Sweep.model_validate(
            {
                "apiVersion": "duchenne/v1",
                "kind": "Sweep",
                "metadata": {"name": "replay"},
                "data": {"uri": "builtin://yeast"},
                **self.base,
                "folds": dict(self.folds),
                "search": {"space": space, "metric": self.metric, "seed": seed, **search},
                "budget": {"wall_seconds": 1e6},
            }
        )


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps({path: values[path] for path in sorted(values)}, sort_keys=True)


@dataclass
class Purse:
    """Pays for epochs, and remembers what the search would have selected at each cost.

    Attributes:
        trace: (cost, score of the configuration that would be selected), ascending in cost.
    """

    table: Table
    budget: float
    cost: float = 0.0
    jobs: int = 0
    trace: list[tuple[float, float]] = field(default_factory=list)
    _best: float = float("-inf")

    def pay(self, place: int, folds: int, epochs: int) -> None:
        """`epochs` more of `folds` folds.

        Raises:
            Spent: they are not in the budget.
        """
        price = float(self.table.epoch_seconds[place]) * folds * epochs
        if self.cost + price > self.budget:
            raise Spent
        self.cost += price

    def ended(self, place: int) -> None:
        """A trial ran all its epochs on all folds."""
        score = self.table.whole(place)
        if score > self._best:
            self._best = score
            self.trace.append((self.cost, score))

    def score_at(self, cost: float) -> float:
        """Of what would have been selected; the worst of the table before anything was."""
        found = [score for at, score in self.trace if at <= cost]
        return found[-1] if found else min(self.table.whole(place) for place in range(len(self.table.scores)))
