"""What every kind of cluster does for a sweep, in the same way: the port that the verbs speak to.

What holds for every adapter:

- `submit` leaves a sweep that runs by itself, or nothing; it returns once the cluster has it, not once it runs.
- `watch` yields each status that differs from the one before, and ends with the sweep.
- `stop` returns when nothing runs any more. A sweep that ended, or that is not there, is refused in one line.
- `resume` goes on with a sweep that ended before it was done: what is on record does not run again. One that runs is
  refused.
- What can't be done is a `ClusterError` of one line, and leaves nothing half-made.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from duchenne.clusters.limits import Limits
from duchenne.spec import Sweep

Json = dict[str, Any]
State = Literal["queued", "starting", "running", "retrying", "succeeded", "failed", "stopped", "exhausted", "gone"]
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "stopped", "exhausted", "gone"})
LISTED: dict[State, str] = {"starting": "queued", "retrying": "running", "gone": "stopped"}
UNITS = ("usd", "gpu_hours", "wall_seconds")


@dataclass(frozen=True)
class Status:
    """One look at a sweep. `detail` is one line for a person; empty where the state says it all."""

    state: State
    detail: str = ""


@dataclass(frozen=True)
class Listed:
    """A sweep in `duchenne ls --cluster`: the contract's shape. None is unknown."""

    id: str
    name: str
    team: str
    state: str
    trials: int | None = None
    spent_usd: float | None = None


class Port(Protocol):
    """A cluster, for the verbs. See the module's text for what each call promises."""

    def preview(self, sweep: Sweep) -> list[Json]:
        """What `submit` would send; touches nothing."""

    def submit(self, sweep: Sweep) -> str:
        """Send a sweep; returns its id."""

    def watch(self, sweep_id: str) -> Iterator[Status]:
        """Each new status, until the sweep has ended."""

    def logs(self, sweep_id: str, follow: bool = False) -> Iterator[str]:
        """Lines of the driver's log; with `follow` until the driver ends."""

    def stop(self, sweep_id: str) -> None:
        """End a sweep, and wait until nothing of it runs."""

    def resume(self, sweep_id: str, limits: Limits, sweep: Sweep | None = None) -> None:
        """Go on. `sweep` is its spec, where the cluster has kept none."""

    def cost(self, sweep_id: str) -> Json:
        """`budget`, `spent`, `reserved`, `wasted`, each in the contract's units; None is unknown."""

    def sweeps(self) -> list[Listed]:
        """The sweeps that the cluster knows, the newest first."""


def fresh_id(sweep: Sweep) -> str:
    """An id for a new sweep: its name and six digits, at most 47 characters for KubeRay."""
    return f"{sweep.metadata.name}-{secrets.token_hex(3)}"


def listed_state(state: State) -> str:
    """A state as `ls` knows it: queued, running, succeeded, failed, stopped or exhausted."""
    return LISTED.get(state, state)


def one_line(text: str, most: int = 400) -> str:
    """Text of somebody else's as one line of a message."""
    return " ".join(text.split())[:most]


def unknown() -> dict[str, float | None]:
    """Amounts of which nothing is known."""
    return dict.fromkeys(UNITS)
