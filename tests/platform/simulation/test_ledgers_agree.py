"""The ledger in memory and the one in a database answer the same calls alike, decision by decision."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from duchenne.records import Amounts, NewSweep, RecordsError, open_store
from duchenne.records.port import LedgerPort
from duchenne.simulation.records import MemoryRecords

TEAMS = ("faces", "voices")
amounts = st.builds(
    Amounts,
    usd=st.none() | st.floats(0, 0.5),
    gpu_seconds=st.none() | st.floats(0, 40),
    wall_seconds=st.sampled_from([0.0, 0.0, 7.5]),
)
limits = st.builds(Amounts, usd=st.none() | st.floats(0, 3), gpu_seconds=st.none() | st.floats(0, 100))


class TwoLedgers(RuleBasedStateMachine):
    """Every call goes to both; leases are told apart by the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.time = datetime(2026, 1, 30, 23, 0, tzinfo=UTC)
        self.database = open_store(self.folder / "records.sqlite", clock=lambda: self.time)
        self.memory = MemoryRecords(lambda: self.time)
        self.sweeps: list[str] = []
        self.leases: list[tuple[int, int]] = []  # (in the database, in memory)

    @initialize(budgets=st.lists(limits, min_size=2, max_size=3))
    def start(self, budgets: list[Amounts]) -> None:
        for number, budget in enumerate(budgets):
            new = NewSweep(
                name="s",
                team=TEAMS[number % 2],
                board="b",
                spec={},
                spec_text="",
                spec_digest="",
                dataset_uri="",
                budget=budget,
            )
            self.sweeps.append(self.database.create_sweep(new, f"sweep-{number}").id)
            self.memory.create_sweep(new, f"sweep-{number}")

    def both(self, call: Callable[[LedgerPort, int], Any]) -> tuple[Any, Any]:
        """The answers of both, which must be alike; `call` is given a ledger and its place in a pair of ids."""
        answers: list[Any] = []
        for place, ledger in enumerate((self.database.ledger, self.memory.ledger)):
            try:
                answers.append(call(ledger, place))
            except RecordsError as error:
                answers.append(error)
        assert type(answers[0]) is type(answers[1])
        assert told(answers[0]) == told(answers[1])
        return answers[0], answers[1]

    @rule(
        sweep=st.integers(0, 2),
        asked=amounts,
        ttl=st.integers(1, 60),
        keep=st.none() | limits,
        team=st.none() | limits,
        given=st.none() | limits,
    )
    def reserve(
        self, sweep: int, asked: Amounts, ttl: int, keep: Amounts | None, team: Amounts | None, given: Amounts | None
    ) -> None:
        name = self.sweeps[sweep % len(self.sweeps)]
        one, other = self.both(
            lambda ledger, _: ledger.reserve(
                name, asked, limits=given, ttl=ttl, holder="w", kind="fold_job", keep=keep, team=team
            )
        )
        if hasattr(one, "holder"):
            self.leases.append((one.id, other.id))

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 99), extra=amounts, ttl=st.integers(1, 60), keep=st.none() | limits)
    def renew(self, which: int, extra: Amounts, ttl: int, keep: Amounts | None) -> None:
        lease = self.leases[which % len(self.leases)]
        self.both(lambda ledger, place: ledger.renew(lease[place], extra, ttl=ttl, keep=keep))

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 99), observed=amounts, wasted=st.booleans())
    def settle(self, which: int, observed: Amounts, wasted: bool) -> None:
        lease = self.leases[which % len(self.leases)]
        self.both(lambda ledger, place: ledger.settle(lease[place], observed, wasted=wasted))

    @rule(sweep=st.none() | st.integers(0, 2))
    def expire(self, sweep: int | None) -> None:
        name = None if sweep is None else self.sweeps[sweep % len(self.sweeps)]
        self.both(lambda ledger, _: ledger.expire(sweep=name))

    @rule(seconds=st.integers(-5, 2000))
    def wait(self, seconds: int) -> None:
        """Clocks may be set back a little, and a month may end."""
        self.time += timedelta(seconds=seconds)

    @invariant()
    def sums_agree(self) -> None:
        for name in self.sweeps:
            self.both(lambda ledger, _, name=name: ledger.totals(name))
            self.both(lambda ledger, _, name=name: ledger.leases(name, open_only=True))
        for team in TEAMS:
            spent = [ledger.month(team) for ledger in (self.database.ledger, self.memory.ledger)]
            # A month without a lease is unknown to the database, and 0 in memory: both refuse nothing for it.
            assert [zeros(side) for side in spent[0].values()] == [zeros(side) for side in spent[1].values()]

    def teardown(self) -> None:
        if self.sweeps:
            audits = [
                [(event.what, event.sweep, without_ids(event.detail)) for event in store.events()]
                for store in (self.database, self.memory)
            ]
            assert audits[0] == audits[1]
        self.database.close()
        shutil.rmtree(self.folder)


def told(answer: Any) -> Any:
    """What an answer says, without the ids that each store gives by itself."""
    if isinstance(answer, list):
        return [told(each) for each in answer]
    if isinstance(answer, RecordsError):
        return str(answer).replace("lease", "")[:40]
    if isinstance(answer, dict):
        return {name: told(each) for name, each in answer.items()}
    return None if answer is None else without_ids(asdict(answer))


def without_ids(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ("id", "lease")}


def zeros(sums: Amounts) -> tuple[float, ...]:
    return (sums.usd or 0.0, sums.gpu_seconds or 0.0, sums.wall_seconds or 0.0)


TestLedgersAgree = TwoLedgers.TestCase
TestLedgersAgree.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)
