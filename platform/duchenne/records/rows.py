"""What the record store takes and gives: frozen dataclasses, never rows that are tied to a session.

Times are aware datetimes in UTC. `None` means unknown or not yet, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

SweepState = Literal["queued", "running", "succeeded", "failed", "stopped", "exhausted"]
TrialState = Literal["queued", "running", "succeeded", "stopped", "failed"]
JobState = Literal["queued", "running", "succeeded", "stopped", "failed"]
Phase = Literal["search", "evaluation"]
Outcome = Literal["succeeded", "failed", "stopped", "paused", "interrupted", "lost"]

SWEEP_STATES: tuple[str, ...] = get_args(SweepState)
TRIAL_STATES: tuple[str, ...] = get_args(TrialState)
JOB_STATES: tuple[str, ...] = get_args(JobState)
PHASES: tuple[str, ...] = get_args(Phase)
OUTCOMES: tuple[str, ...] = get_args(Outcome)
FINISHED = frozenset({"succeeded", "stopped", "failed"})
"""States of trials and fold jobs that no later write changes."""

SEARCH_CUT = "search cut short by the budget"
"""The event that closes a search: what was selected then stays selected, whatever the budget becomes."""


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What a lease asks for, what a budget allows, or what was spent. `None`: not counted, or no limit."""

    usd: float | None = None
    gpu_seconds: float | None = None
    wall_seconds: float | None = None

    def as_json(self) -> dict[str, float | None]:
        """The shape of the `cost` verb: {"usd", "gpu_hours", "wall_seconds"}."""
        hours = None if self.gpu_seconds is None else self.gpu_seconds / 3600.0
        return {"usd": self.usd, "gpu_hours": hours, "wall_seconds": self.wall_seconds}


@dataclass(frozen=True, kw_only=True)
class NewSweep:
    """A sweep to be recorded. Digests that are not known yet are bound later, by `RecordStore.bind_data`."""

    name: str
    team: str
    board: str
    spec: Mapping[str, Any]
    spec_text: str
    spec_digest: str
    dataset_uri: str
    dataset_digest: str | None = None
    folds_digest: str | None = None
    code_revision: str | None = None
    image: str | None = None
    budget: Amounts = field(default_factory=Amounts)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One sweep, from `queued` to its end."""

    id: str
    name: str
    team: str
    board: str
    state: SweepState
    spec: dict[str, Any]
    spec_text: str
    spec_digest: str
    dataset_uri: str
    dataset_digest: str | None
    folds_digest: str | None
    code_revision: str | None
    image: str | None
    budget: Amounts
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    stop_requested: bool
    lock_holder: str | None
    lock_since: datetime | None
    lock_expires_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """One line of `duchenne ls`: `dataclasses.asdict` gives the contract's shape."""

    id: str
    name: str
    team: str
    state: SweepState
    trials: int
    spent_usd: float | None


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The right to drive one sweep until `expires_at`. The token is the fence: pass it with every driver's write."""

    sweep: str
    token: str
    holder: str
    since: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration of the search. `value` is the metric that the search compares; `rung` counts reports."""

    sweep: str
    number: int
    config: dict[str, Any]
    state: TrialState
    value: float | None
    rung: int
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class FoldJobKey:
    """What makes a fold job itself: whoever computes the same key means the same job.

    `trial` is None for a method that no trial chose (a comparator), `inner` is None in the evaluation phase.
    """

    sweep: str
    trial: int | None
    phase: Phase
    method: str
    fold: int
    inner: int | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class FoldJob:
    """One training on one fold. `attempts` counts the attempts that started."""

    id: int
    key: FoldJobKey
    state: JobState
    attempts: int
    error: str | None
    predictions: str | None
    predictions_digest: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run of a fold job on one worker. `number` counts from 1; `epochs` is how many it ran itself."""

    id: int
    fold_job: int
    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    error: str | None
    seconds: float | None
    epochs: int | None


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One line of `duchenne results`: `dataclasses.asdict` gives the contract's shape, with `method` and `inner`."""

    trial: int | None
    phase: Phase
    fold: int
    seed: int
    epoch: int
    attempt: int
    metrics: dict[str, float | None]
    method: str
    inner: int | None


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Seconds and dollars reserved before they are spent. `spent` is all None until the lease is settled."""

    id: int
    sweep: str
    holder: str
    kind: str
    resource: dict[str, Any]
    reserved: Amounts
    spent: Amounts
    opened_at: datetime
    expires_at: datetime
    settled_at: datetime | None
    wasted: bool

    @property
    def overshoot(self) -> Amounts:
        """What was spent above the reservation, unit by unit; None while open or where nothing is counted."""

        def above(spent: float | None, reserved: float | None) -> float | None:
            return None if spent is None else max(0.0, spent - (reserved or 0.0))

        return Amounts(
            usd=above(self.spent.usd, self.reserved.usd),
            gpu_seconds=above(self.spent.gpu_seconds, self.reserved.gpu_seconds),
            wall_seconds=above(self.spent.wall_seconds, self.reserved.wall_seconds),
        )


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the ledger did not grant a lease. All figures are in `unit`: usd, gpu_seconds or wall_seconds.

    `kept` is what was held back for later; `team` names the team whose month is used up, None for the sweep's budget.
    """

    sweep: str
    unit: str
    limit: float
    spent: float
    reserved: float
    asked: float | None
    kept: float = 0.0
    team: str | None = None

    @property
    def reason(self) -> str:
        """One line: the rule, the values, the next step."""
        if self.team is not None:
            return (
                f"spent + reserved + asked <= limit must hold for team {self.team} this month, but it has "
                f"{self.spent:g} + {self.reserved:g} + {self.asked or 0:g} > {self.limit:g} {self.unit}; "
                "raise teams.yaml and resume, or wait for the next month"
            )
        if self.asked is None:
            return (
                f"a lease of {self.sweep} must state its worst case in every limited unit, but {self.unit} is unknown "
                f"(limit {self.limit:g}); give the resource a price, or remove this limit from the budget"
            )
        if self.kept:
            return (
                f"spent + reserved + asked + held back for the evaluation <= limit must hold, but {self.sweep} has "
                f"{self.spent:g} + {self.reserved:g} + {self.asked:g} + {self.kept:g} > {self.limit:g} {self.unit}; "
                "raise the budget for more trials"
            )
        return (
            f"spent + reserved + asked <= limit must hold, but {self.sweep} has {self.spent:g} + {self.reserved:g} + "
            f"{self.asked:g} > {self.limit:g} {self.unit}; raise the budget and resume, or let open leases settle"
        )


@dataclass(frozen=True, kw_only=True)
class PredictionFile:
    """One Arrow file of test-fold predictions: `path` relative to the home, SHA-256 `digest` in hex."""

    fold: int
    seed: int
    path: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class NewEntry:
    """An entry for a board: one method of one sweep, evaluated on the sealed test folds."""

    board: str
    team: str
    sweep: str
    method: str
    label: str
    config: Mapping[str, Any]
    verified: str
    metrics: Mapping[str, Any]
    per_fold: Any
    predictions: tuple[PredictionFile, ...]
    dataset_digest: str
    folds_digest: str
    cost_usd: float | None = None
    gpu_hours: float | None = None
    trials: int | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A recorded entry. `id` is `SWEEP.METHOD`."""

    id: str
    board: str
    team: str
    sweep: str
    method: str
    label: str
    config: dict[str, Any]
    verified: str
    metrics: dict[str, Any]
    per_fold: Any
    predictions: tuple[PredictionFile, ...]
    dataset_digest: str
    folds_digest: str
    cost_usd: float | None
    gpu_hours: float | None
    trials: int | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of the audit: who did what, when. `team` is that of a line about no sweep; a sweep's is its sweep's."""

    id: int
    at: datetime
    sweep: str | None
    actor: str
    what: str
    detail: dict[str, Any]
    team: str | None = None
