"""What really happened in a simulated sweep, whatever its records say: who held what for how long."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from duchenne.plan.rates import Rate

Fate = Literal["done", "stopped", "error", "lost"]
"""How a segment left its worker; what ended in an error or was lost is run again."""


class Held(NamedTuple):
    """A segment in the hands of a fold's workers, in seconds since the sweep began."""

    start: float
    end: float
    phase: str
    fate: Fate


@dataclass
class Truth:
    """Kept beside the records, by true seconds.

    Attributes:
        rate, gpus: of one worker; `workers` of them hold a segment together.
        held: every segment, in the order of their ends.
        nodes: (start, end) of every stretch in which the whole pool was paid for.
        events: what went wrong, by kind.
    """

    rate: Rate
    gpus: float = 0.0
    workers: int = 1
    held: list[Held] = field(default_factory=list)
    nodes: list[tuple[float, float]] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0
    gpu_seconds: float = 0.0

    def pay(self, start: float, end: float, phase: str, fate: Fate) -> None:
        """A segment was held from `start` to `end`, billed as its node is."""
        self.held.append(Held(start, end, phase, fate))
        self.usd += self.workers * (self.rate.usd(end - start) or 0.0)
        self.gpu_seconds += self.workers * self.gpus * (end - start)

    def busy_seconds(self, phase: str | None = None) -> float:
        """Worker-seconds under segments."""
        return self.workers * sum(held.end - held.start for held in self.held if phase in (None, held.phase))

    @property
    def wasted_seconds(self) -> float:
        """Worker-seconds of segments that brought nothing: errors and losses."""
        return self.workers * sum(held.end - held.start for held in self.held if held.fate in ("error", "lost"))
