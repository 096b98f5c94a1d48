"""Population-based training (Jaderberg et al. 2017) of schedules: what a learning rate should be, epoch by epoch.

A population of P trials is trained in generations of some epochs. After each, the worst give way to copies of the best
whose schedule is perturbed from there on; the others go on as they are. Each member of each generation is a trial of
its own, number g P + i:

- Its values are a whole configuration: the first values and, as `training.schedule`, every change since. The same
  configuration trained from its first epoch takes exactly the same steps, so what is selected can be evaluated.
- It goes on from its parent's checkpoints, which is a saving and changes nothing.
- It is a pure function of (seed, number) and the scores of the generation before. A resumed search draws the same.

Whoever waits for a generation is told None.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from duchenne.search.proposals import Values, draw
from duchenne.spec import Choice, Grid, LogUniform, RandInt, Sweep, Uniform
from duchenne.spec.population import SCHEDULE_PATH, generation_ends, scheduled_field

Change = dict[str, Any]

SMALLEST: Final = 1e-12  # what a schedule may bring a learning rate down to


class PopulationProposer:
    """Trials of a population, generation after generation."""

    def __init__(self, sweep: Sweep) -> None:
        self._space = sweep.search.space
        self._seed = sweep.search.seed
        self._size = sweep.search.trials or 1
        self._options = sweep.search.population
        self._ends = generation_ends(sweep)
        self._values: dict[int, Values] = {}
        self._scores: dict[int, float | None] = {}

    def propose(self, number: int) -> Values | None:
        """The values of a member; None until the generation before it has ended."""
        generation = number // self._size
        if generation == 0:
            generator = np.random.default_rng([self._seed, number])
            values = {path: draw(dimension, generator) for path, dimension in self._space.items()}
        else:
            parent = self.parent(number)
            if parent is None:
                return None
            values = self._values[parent]
            if parent != number - self._size:
                values = self._explored(values, number, self._ends[generation - 1])
        self._values[number] = values
        return values

    def learn(self, number: int, values: Values, score: float | None) -> None:
        """A member has reached the end of its generation."""
        self._values[number] = values
        self._scores[number] = score

    def parent(self, number: int) -> int | None:
        """Itself a generation ago, or the better member that it copies; None for the first generation."""
        generation = number // self._size
        before = range((generation - 1) * self._size, generation * self._size)
        if generation == 0 or any(other not in self._scores for other in before):
            return None
        ranked = sorted(before, key=lambda other: (-_known(self._scores[other]), other))
        replaced = min(max(1, round(self._options.quantile * self._size)), self._size // 2)
        if number - self._size not in ranked[len(ranked) - replaced :]:
            return number - self._size
        generator = np.random.default_rng([self._seed, number])
        return ranked[int(generator.integers(replaced))]

    def _explored(self, values: Values, number: int, epoch: int) -> Values:
        """The values with every scheduled quantity perturbed after `epoch`."""
        generator = np.random.default_rng([self._seed, number, 1])
        schedule: list[Change] = list(values.get(SCHEDULE_PATH, ()))
        change: Change = {"after": epoch}
        for path, dimension in self._space.items():
            field = scheduled_field(path)
            now = _current(path, values, schedule)
            factor = float(generator.choice(self._options.factors))
            change[field] = _perturbed(field, now, factor, dimension, generator)
        return values | {SCHEDULE_PATH: [*schedule, change]}


def _known(score: float | None) -> float:
    return float("-inf") if score is None else score


def _current(path: str, values: Values, schedule: list[Change]) -> float:
    """What the quantity is set to at present: by the last change that names it, else by the first values."""
    field = scheduled_field(path)
    changed = [change[field] for change in schedule if field in change]
    return float(changed[-1] if changed else values[path])


def _perturbed(
    field: str,
    now: float,
    factor: float,
    dimension: Choice | Grid | Uniform | LogUniform | RandInt,
    generator: np.random.Generator,
) -> float:
    """A listed quantity moves to a neighbour in the list, another by the factor, within its bounds.

    Of `decay`, which lies below 1 and close to it, what it takes away is multiplied.
    """
    if isinstance(dimension, (Choice, Grid)):
        listed = sorted(float(value) for value in _listed(dimension))
        place = listed.index(now) + int(generator.choice((-1, 1)))
        return listed[min(max(place, 0), len(listed) - 1)]
    low, high = dimension.uniform if isinstance(dimension, Uniform) else _bounds(dimension)
    moved = 1.0 - (1.0 - now) * factor if field == "decay" else now * factor
    return min(max(moved, low, SMALLEST if field == "learning_rate" else low), high)


def _listed(dimension: Choice | Grid) -> tuple[Any, ...]:
    return dimension.choice if isinstance(dimension, Choice) else dimension.grid


def _bounds(dimension: LogUniform | RandInt) -> tuple[float, float]:
    if isinstance(dimension, LogUniform):
        return dimension.loguniform
    return float(dimension.randint[0]), float(dimension.randint[1] - 1)
