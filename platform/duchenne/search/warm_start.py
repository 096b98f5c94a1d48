"""Earlier sweeps of the same space: what they measured is where a learning algorithm begins.

A trial of another sweep says something about this one only if all that the space does not vary is the same: data and
metric, model, loss and training, and the values must lie in this space. Trials that were stopped early have seen fewer
epochs and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from duchenne.records import Sweep as SweepRecord
from duchenne.records import Trial
from duchenne.spec import Sweep, apply, paths
from duchenne.spec.search import Choice, Grid, LogUniform, RandInt, Uniform

BOARD = "board"
WARM_START = "warm start"
"""The event that says how many earlier trials the search began with."""


class WarmStartRefused(ValueError):  # noqa: N818 - reads as the fact it states
    """An earlier sweep does not fit; the message is one line with the field's name."""


class EarlierSweeps(Protocol):
    """What is asked of the records."""

    def get_sweep(self, sweep: str) -> SweepRecord:
        """One sweep, by its id or the beginning of it."""
        ...

    def list_sweeps(self, team: str | None = None, board: str | None = None) -> list[SweepRecord]:
        """Sweeps, of a team and board where these are given."""
        ...

    def trials(self, sweep: str) -> list[Trial]:
        """The trials, by number."""
        ...


@dataclass(frozen=True)
class Known:
    """A trial of an earlier sweep.

    Attributes:
        values: as drawn, by dotted path.
        score: of the metric, more is better.
    """

    sweep: str
    values: dict[str, Any]
    score: float


@dataclass(frozen=True)
class WarmStart:
    """What a search begins with.

    Attributes:
        known: trials of earlier sweeps, whose values this space could have drawn.
        outside: how many more were left out, since it could not.
    """

    known: tuple[Known, ...] = ()
    outside: int = 0

    @property
    def detail(self) -> dict[str, Any]:
        """What the event says."""
        sweeps = sorted({trial.sweep for trial in self.known})
        return {"used": len(self.known), "outside_the_space": self.outside, "sweeps": sweeps}


def warm_start(store: EarlierSweeps, sweep: Sweep, dataset_digest: str | None, own: str | None = None) -> WarmStart:
    """What the sweeps of `search.warm_start` know.

    Args:
        dataset_digest: of this sweep's data.
        own: this sweep's id, once it has one: it is not earlier than itself.

    Raises:
        WarmStartRefused: a named sweep is of other data, another metric, space or base configuration.
        duchenne.records.NotFoundError: a named sweep is not there.
    """
    known: list[Known] = []
    outside = 0
    sign = 1.0 if sweep.search.mode == "max" else -1.0
    for earlier in _earlier(store, sweep, dataset_digest, own):
        for trial in store.trials(earlier.id):
            if trial.state != "succeeded" or trial.value is None:
                continue
            if _lies_within(sweep, trial.config):
                known.append(Known(earlier.id, dict(trial.config), sign * trial.value))
            else:
                outside += 1
    return WarmStart(tuple(known), outside)


def _earlier(store: EarlierSweeps, sweep: Sweep, dataset_digest: str | None, own: str | None) -> Iterator[SweepRecord]:
    """The sweeps that are named, each of which must fit, and those of the board that do."""
    seen = {own}
    for name in sweep.search.warm_start:
        if name == BOARD:
            board = store.list_sweeps(board=sweep.board)
            found = [one for one in board if _misfit(sweep, dataset_digest, one) is None]
        else:
            found = [store.get_sweep(name)]
            misfit = _misfit(sweep, dataset_digest, found[0])
            if misfit is not None:
                raise WarmStartRefused(f"search.warm_start: {misfit}; leave {name} out")
        yield from (one for one in found if one.id not in seen)
        seen |= {one.id for one in found}


def _misfit(sweep: Sweep, dataset_digest: str | None, earlier: SweepRecord) -> str | None:
    """Why an earlier sweep says nothing about this one, or None."""
    if earlier.dataset_digest != dataset_digest:
        digests = f"{_short(earlier.dataset_digest)} and not {_short(dataset_digest)}"
        return f"{earlier.id} must be of the same data, but has {digests}"
    try:
        other = Sweep.model_validate(earlier.spec)
    except ValidationError:
        return f"{earlier.id} must be readable by this version, but its file is not"
    if other.search.metric != sweep.search.metric:
        return f"{earlier.id} must compare by {sweep.search.metric}, but does by {other.search.metric}"
    if set(other.search.space) != set(sweep.search.space):
        differ = sorted(set(other.search.space) ^ set(sweep.search.space))
        return f"{earlier.id} must vary the same fields, but differs in {', '.join(differ)}"
    changed = sorted(_differences(_fixed(other), _fixed(sweep)))
    if changed:
        return f"{earlier.id} must fix the same values, but differs in {', '.join(changed[:4])}"
    return None


def _fixed(sweep: Sweep) -> dict[str, Any]:
    """The base configuration without what the space varies."""
    tree: dict[str, Any] = sweep.base.model_dump(mode="json")
    for path in sweep.search.space:
        paths.put(tree, path, None)
    return tree


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], within: str = "") -> Iterator[str]:
    for name in one.keys() | other.keys():
        left, right = one.get(name), other.get(name)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            yield from _differences(left, right, f"{within}{name}.")
        elif left != right:
            yield f"{within}{name}"


def _lies_within(sweep: Sweep, values: Mapping[str, Any]) -> bool:
    """Whether this sweep could have drawn these values."""
    if values.keys() != sweep.search.space.keys():
        return False
    if not all(_holds(dimension, values[path]) for path, dimension in sweep.search.space.items()):
        return False
    try:
        apply(sweep, values)
    except ValueError:
        return False
    return True


def _holds(dimension: Choice | Grid | Uniform | LogUniform | RandInt, value: Any) -> bool:
    match dimension:
        case Choice(choice=listed) | Grid(grid=listed):
            return value in listed
        case RandInt(randint=(low, high)):
            return isinstance(value, int) and low <= value < high
        case Uniform(uniform=(low, high)) | LogUniform(loguniform=(low, high)):
            return isinstance(value, (int, float)) and low <= value <= high


def _short(digest: str | None) -> str:
    return "no digest" if digest is None else digest[:19]
