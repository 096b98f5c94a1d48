"""Stores of the contract tests, on each database of `url`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from duchenne.records import Amounts, FoldJobKey, Lock, NewSweep, RecordStore, Sweep, open_store


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[RecordStore]:
    with open_store(url, clock=clock) as opened:
        yield opened


def new_sweep(name: str = "Yeast quickstart", budget: Amounts | None = None, team: str = "faces") -> NewSweep:
    return NewSweep(
        name=name,
        team=team,
        board="yeast",
        spec={"model": {"name": "monet"}, "seeds": [0, 1]},
        spec_text="kind: Sweep\n",
        spec_digest="sha256:spec",
        dataset_uri="data/yeast",
        budget=budget or Amounts(),
    )


@pytest.fixture
def make_sweep(store: RecordStore) -> Callable[..., Sweep]:
    """make_sweep(name=..., budget=..., team=...) -> a recorded sweep."""

    def make(**options: object) -> Sweep:
        return store.create_sweep(new_sweep(**options))  # type: ignore[arg-type]

    return make


@pytest.fixture
def sweep(make_sweep: Callable[..., Sweep]) -> Sweep:
    return make_sweep()


@pytest.fixture
def lock(store: RecordStore, sweep: Sweep) -> Lock:
    return store.acquire_lock(sweep.id, "driver-one", ttl_seconds=60)


@pytest.fixture
def make_key(sweep: Sweep) -> Callable[..., FoldJobKey]:
    """make_key(fold=..., ...) -> the key of a fold job of `sweep`."""

    def make(**changes: object) -> FoldJobKey:
        values: dict[str, object] = {
            "sweep": sweep.id,
            "trial": 0,
            "phase": "search",
            "method": "monet",
            "fold": 0,
            "inner": 0,
            "seed": 0,
        }
        return FoldJobKey(**{**values, **changes})  # type: ignore[arg-type]

    return make
