"""What the driver, the search and the pool of a running sweep ask of its records, whatever keeps them.

`RecordStore` keeps them in a database; `duchenne.simulation` in memory, on a virtual clock. Both decide alike: one
contract suite plays the same calls on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from duchenne.records.rows import (
    Amounts,
    Attempt,
    Event,
    FoldJob,
    FoldJobKey,
    JobState,
    Lease,
    Lock,
    Outcome,
    Phase,
    Refusal,
    ResultRow,
    Sweep,
    SweepState,
    Trial,
    TrialState,
)


class LedgerPort(Protocol):
    """Leases; see `duchenne.records.leases.Ledger`."""

    def reserve(
        self,
        sweep: str,
        amounts: Amounts,
        *,
        limits: Amounts | None = None,
        ttl: float,
        holder: str,
        kind: str,
        resource: Mapping[str, Any] | None = None,
        keep: Amounts | None = None,
        team: Amounts | None = None,
        now: datetime | None = None,
    ) -> Lease | Refusal:
        """Reserve the worst case of what comes next, for `ttl` seconds."""
        ...

    def renew(
        self,
        lease: int,
        extra: Amounts,
        *,
        limits: Amounts | None = None,
        ttl: float,
        keep: Amounts | None = None,
        team: Amounts | None = None,
        now: datetime | None = None,
    ) -> Refusal | None:
        """Reserve `extra` on top. A refusal leaves the lease as it is."""
        ...

    def settle(self, lease: int, observed: Amounts, *, wasted: bool = False, now: datetime | None = None) -> Lease:
        """Close a lease on what was observed."""
        ...

    def expire(self, *, sweep: str | None = None, now: datetime | None = None) -> list[Lease]:
        """Settle leases that ran out, at their full reservation."""
        ...

    def totals(self, sweep: str) -> dict[str, Amounts]:
        """{"budget", "spent", "reserved", "wasted"}."""
        ...

    def month(self, team: str, now: datetime | None = None) -> dict[str, Amounts]:
        """What a team's sweeps have `spent` and `reserved` in the calendar month."""
        ...

    def leases(self, sweep: str, *, open_only: bool = False) -> list[Lease]:
        """Leases in the order in which they were opened."""
        ...


class RunRecords(Protocol):
    """The records of sweeps that run; see `duchenne.records.RecordStore`."""

    @property
    def ledger(self) -> LedgerPort:
        """The leases."""
        ...

    def get_sweep(self, sweep: str) -> Sweep:
        """One sweep."""
        ...

    def set_sweep_state(self, sweep: str, state: SweepState, *, token: str | None, error: str | None = None) -> Sweep:
        """Move a sweep on."""
        ...

    def stop_requested(self, sweep: str) -> bool:
        """Whether somebody asked it to end."""
        ...

    def renew_lock(self, lock: Lock, ttl_seconds: float = 60.0) -> Lock:
        """Hold on to a sweep."""
        ...

    def record_trial(
        self,
        sweep: str,
        number: int,
        config: Mapping[str, Any],
        *,
        state: TrialState = "queued",
        token: str | None = None,
    ) -> Trial:
        """Record a trial with its values."""
        ...

    def set_trial_state(
        self,
        sweep: str,
        number: int,
        state: TrialState,
        *,
        value: float | None = None,
        rung: int | None = None,
        error: str | None = None,
        token: str | None = None,
    ) -> Trial:
        """Move a trial on."""
        ...

    def trials(self, sweep: str) -> list[Trial]:
        """The trials, by number."""
        ...

    def ensure_fold_jobs(self, keys: Iterable[FoldJobKey], *, token: str | None = None) -> list[FoldJob]:
        """The fold jobs of these keys, queued now if they were not recorded yet."""
        ...

    def fold_jobs(
        self, sweep: str, *, trial: int | None = None, phase: Phase | None = None, state: JobState | None = None
    ) -> list[FoldJob]:
        """Fold jobs in the order in which they were recorded."""
        ...

    def start_attempt(self, key: FoldJobKey, worker: str) -> Attempt:
        """Begin a run of a queued fold job."""
        ...

    def finish_attempt(
        self,
        attempt: int,
        outcome: Outcome,
        *,
        seconds: float | None = None,
        epochs: int | None = None,
        error: str | None = None,
        predictions: str | None = None,
        predictions_digest: str | None = None,
        retry_limit: int = 3,
    ) -> FoldJob:
        """End an attempt, and move its job on."""
        ...

    def stop_fold_jobs(self, sweep: str, trial: int, *, token: str | None = None) -> int:
        """Finish a trial's queued fold jobs as stopped."""
        ...

    def requeue_unfinished(self, sweep: str, *, token: str | None, retry_limit: int = 3) -> list[FoldJob]:
        """What a new driver does first."""
        ...

    def record_result(self, key: FoldJobKey, epoch: int, attempt: int, metrics: Mapping[str, float | None]) -> bool:
        """File an epoch, once; whether this call did."""
        ...

    def results(self, sweep: str, *, phase: Phase | None = None) -> list[ResultRow]:
        """Every recorded epoch."""
        ...

    def metrics_at(self, key: FoldJobKey, epoch: int) -> dict[str, float | None] | None:
        """The metrics of one epoch; None where it is not recorded."""
        ...

    def last_epoch(self, key: FoldJobKey) -> int | None:
        """The last epoch recorded of a fold job; None before the first."""
        ...

    def record_event(
        self, what: str, *, sweep: str | None = None, actor: str, detail: Mapping[str, Any] | None = None
    ) -> Event:
        """Add a line to the audit."""
        ...

    def events(self, sweep: str | None = None, after: int = 0, limit: int | None = None) -> list[Event]:
        """The audit in order."""
        ...
