"""Whatever is reserved, renewed, settled and lost, in whatever order: the limit holds, and the sums are right."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from duchenne.records import Amounts, Lease, NewSweep, RecordsConflictError, Refusal, open_store

cents = st.integers(0, 60)


def usd(amount: int) -> Amounts:
    return Amounts(usd=amount / 100, gpu_seconds=float(amount))


class LedgerMachine(RuleBasedStateMachine):
    """A model in whole cents beside the ledger; one lease may overshoot now and then."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.store = open_store(self.folder / "records.sqlite", clock=lambda: self.time)
        self.open: dict[int, tuple[int, datetime]] = {}
        self.presumed: dict[int, int] = {}  # leases that ran out, and nobody has said what was spent
        self.spent = self.wasted = self.overshoot = 0

    @initialize(limit=st.integers(1, 200))
    def start(self, limit: int) -> None:
        self.limit = limit
        self.sweep = self.store.create_sweep(
            NewSweep(
                name="s",
                team="t",
                board="b",
                spec={},
                spec_text="",
                spec_digest="",
                dataset_uri="",
                budget=usd(limit),
            )
        ).id

    @property
    def reserved(self) -> int:
        return sum(amount for amount, _ in self.open.values())

    @rule(target=leases, asked=cents, ttl=st.integers(1, 50))
    def reserve(self, asked: int, ttl: int) -> object:
        answer = self.store.ledger.reserve(self.sweep, usd(asked), ttl=ttl, holder="w", kind="fold_job")
        fits = self.spent + self.reserved + asked <= self.limit
        assert isinstance(answer, Lease) == fits
        if isinstance(answer, Refusal):
            return multiple()
        self.open[answer.id] = (asked, self.time + timedelta(seconds=ttl))
        return answer.id

    @rule(lease=leases, extra=cents, ttl=st.integers(1, 50))
    def renew(self, lease: int, extra: int, ttl: int) -> None:
        alive = lease in self.open and self.open[lease][1] > self.time
        try:
            answer = self.store.ledger.renew(lease, usd(extra), ttl=ttl)
        except RecordsConflictError:
            assert not alive
            return
        assert alive
        assert (answer is None) == (self.spent + self.reserved + extra <= self.limit)
        if answer is None:
            amount, expires = self.open[lease]
            self.open[lease] = (amount + extra, max(expires, self.time + timedelta(seconds=ttl)))

    @rule(lease=leases, part=st.floats(0, 1), excess=st.sampled_from([0, 0, 0, 7]), wasted=st.booleans())
    def settle(self, lease: int, part: float, excess: int, wasted: bool) -> None:
        """In time, late, or once more: the first report counts, and takes the place of what was presumed."""
        held, presumed = self.open.pop(lease, None), self.presumed.pop(lease, None)
        amount = held[0] if held else presumed or 0
        observed = int(amount * part) if not excess else amount + excess
        self.store.ledger.settle(lease, usd(observed), wasted=wasted)
        if held is None and presumed is None:
            return
        self.spent += observed - (presumed or 0)
        self.wasted += (observed if wasted else 0) - (presumed or 0)
        self.overshoot += excess

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.time += timedelta(seconds=seconds)

    @rule()
    def expire(self) -> None:
        due = {lease for lease, (_, expires) in self.open.items() if expires <= self.time}
        assert {lease.id for lease in self.store.ledger.expire()} == due
        for lease in due:
            amount, _ = self.open.pop(lease)
            self.spent += amount
            self.wasted += amount
            self.presumed[lease] = amount

    @invariant()
    def totals_are_the_sums_over_leases(self) -> None:
        if not hasattr(self, "sweep") or not (leases := self.store.ledger.leases(self.sweep)):
            return
        totals, month = self.store.ledger.totals(self.sweep), self.store.ledger.month("t", self.time)
        settled = [lease for lease in leases if lease.settled_at is not None]
        for unit in ("usd", "gpu_seconds"):
            sums = {
                "spent": sum(getattr(lease.spent, unit) for lease in settled),
                "reserved": sum(getattr(lease.reserved, unit) for lease in leases if lease.settled_at is None),
                "wasted": sum(getattr(lease.spent, unit) for lease in settled if lease.wasted),
            }
            assert {side: getattr(totals[side], unit) for side in sums} == pytest.approx(sums)
            for side in ("spent", "reserved"):
                assert (getattr(month[side], unit) or 0) == pytest.approx(sums[side])

    @invariant()
    def nothing_beyond_the_limit(self) -> None:
        if not hasattr(self, "sweep"):
            return
        totals = self.store.ledger.totals(self.sweep)
        if not self.store.ledger.leases(self.sweep):
            assert totals["spent"] == Amounts()
            return
        cents_of = {name: round((amounts.usd or 0) * 100) for name, amounts in totals.items()}
        assert cents_of["spent"] + cents_of["reserved"] <= self.limit + self.overshoot
        assert (cents_of["spent"], cents_of["reserved"]) == (self.spent, self.reserved)
        assert cents_of["wasted"] == self.wasted
        assert totals["spent"].gpu_seconds == self.spent

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
