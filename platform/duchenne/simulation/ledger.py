"""A ledger in memory that decides as the one in the database does, without a transaction a lease."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from duchenne.records import Amounts, Lease, NotFoundError, RecordsConflictError, RecordsError, Refusal
from duchenne.records.limits import UNITS, known, refusal_of, to_amounts, to_floats, to_integers, to_utc

Integers = dict[str, int | None]
_NOTHING = Amounts()


def _unknown() -> Integers:
    return dict.fromkeys(UNITS)


@dataclass(slots=True)
class _Held:
    """A lease, open until `settled_at`. Amounts are in the ledger's whole numbers."""

    id: int
    sweep: str
    holder: str
    kind: str
    resource: dict[str, Any]
    reserved: Integers
    opened_at: datetime
    expires_at: datetime
    spent: Integers = field(default_factory=_unknown)
    settled_at: datetime | None = None
    wasted: bool = False
    presumed: bool = False

    def copy(self) -> Lease:
        return Lease(
            id=self.id,
            sweep=self.sweep,
            holder=self.holder,
            kind=self.kind,
            resource=self.resource,
            reserved=to_amounts(self.reserved),
            spent=_NOTHING if self.settled_at is None else to_amounts(self.spent),
            opened_at=self.opened_at,
            expires_at=self.expires_at,
            settled_at=self.settled_at,
            wasted=self.wasted,
        )


@dataclass
class Account:
    """What the ledger keeps of one sweep: its limits and its sums; None where no lease counts the unit."""

    sweep: str
    team: str
    budget: Amounts
    reserved: Integers = field(default_factory=_unknown)
    spent: Integers = field(default_factory=_unknown)
    wasted: Integers = field(default_factory=_unknown)
    leases: list[_Held] = field(default_factory=list)
    bounds: Integers = field(init=False)

    def __post_init__(self) -> None:
        self.bounds = to_integers(self.budget, math.floor, "limit")


class MemoryLedger:
    """See `duchenne.records.leases.Ledger`: same calls, same answers.

    Args:
        clock: the time by which leases run out.
        event: hears what goes into the audit, as (sweep, moment, what, detail).
    """

    def __init__(
        self, clock: Callable[[], datetime], event: Callable[[str, datetime, str, dict[str, Any]], None]
    ) -> None:
        self._clock = clock
        self._event = event
        self._accounts: dict[str, Account] = {}
        self._leases: dict[int, _Held] = {}
        self._due: list[tuple[datetime, int]] = []
        self._numbers = itertools.count(1)
        # (team, year, month) -> what was settled in it.
        self._month_spent: defaultdict[tuple[str, int, int], Integers] = defaultdict(_unknown)
        self._keep: Amounts | None = None
        self._kept: Integers = dict.fromkeys(UNITS)
        self.calls = 0

    def open_account(self, sweep: str, team: str, budget: Amounts) -> None:
        """Begin to count a sweep."""
        self._accounts[sweep] = Account(sweep, team, budget)

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
        self.calls += 1
        asked = to_integers(amounts, math.ceil, "amount")
        if not 0 < ttl < math.inf:
            raise RecordsError(f"a lease must run out, but its ttl is {ttl} seconds; give a positive number")
        account = self._account(sweep)
        moment = to_utc(now) or self._clock()
        refusal = self._refused(account, limits, asked, keep, team, moment)
        if refusal is not None:
            return refusal
        number = next(self._numbers)
        expires = moment + timedelta(seconds=ttl)
        held = _Held(number, sweep, holder, kind, dict(resource or {}), asked, moment, expires)
        self._leases[number] = held
        account.leases.append(held)
        _add(account.reserved, asked)
        heapq.heappush(self._due, (expires, number))
        return held.copy()

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
        """Reserve `extra` on top, and run for `ttl` seconds from now. A refusal leaves the lease as it is."""
        self.calls += 1
        asked = to_integers(extra, math.ceil, "amount")
        held = self._held(lease)
        account = self._accounts[held.sweep]
        moment = to_utc(now) or self._clock()
        if held.settled_at is not None or held.expires_at <= moment:
            ended = "was settled" if held.settled_at is not None else "ran out"
            raise RecordsConflictError(
                f"a lease is renewed before it ends, but lease {lease} of {held.sweep} {ended} at "
                f"{held.settled_at or held.expires_at:%H:%M:%S} UTC; stop spending, settle it, and reserve anew"
            )
        refusal = self._refused(account, limits, asked, keep, team, moment)
        if refusal is not None:
            return refusal
        for unit, amount in asked.items():
            if amount is not None:
                held.reserved[unit] = (held.reserved[unit] or 0) + amount
                account.reserved[unit] = (account.reserved[unit] or 0) + amount
        expires = moment + timedelta(seconds=ttl)
        if expires > held.expires_at:
            # Its place among those that fall due is found again when the old moment comes.
            held.expires_at = expires
        return None

    def settle(self, lease: int, observed: Amounts, *, wasted: bool = False, now: datetime | None = None) -> Lease:
        """Close a lease on what was observed. A unit that nobody observed (None) counts as reserved."""
        self.calls += 1
        seen = to_integers(observed, math.ceil, "observed amount")
        held = self._held(lease)
        moment = to_utc(now) or self._clock()
        spent = {unit: held.reserved[unit] if seen[unit] is None else seen[unit] for unit in UNITS}
        if held.settled_at is not None:
            if spent != held.spent:
                self._event(held.sweep, moment, "lease settled late", _detail(held, spent))
            if held.presumed:
                self._spend(held, held.spent, held.settled_at, held.wasted, -1)
                self._settle(held, spent, held.settled_at, wasted)
            return held.copy()
        if any((spent[unit] or 0) > (held.reserved[unit] or 0) for unit in UNITS):
            self._event(held.sweep, moment, "lease overshot", _detail(held, spent))
        _add(self._accounts[held.sweep].reserved, held.reserved, -1)
        self._settle(held, spent, moment, wasted)
        return held.copy()

    def expire(self, *, sweep: str | None = None, now: datetime | None = None) -> list[Lease]:
        """Settle leases that ran out, at their full reservation and as wasted: their holders vanished."""
        self.calls += 1
        moment = to_utc(now) or self._clock()
        ended: list[_Held] = []
        others: list[tuple[datetime, int]] = []
        while self._due and self._due[0][0] <= moment:
            _, number = heapq.heappop(self._due)
            held = self._leases[number]
            if held.settled_at is not None:
                continue
            if held.expires_at > moment or sweep not in (None, held.sweep):
                others.append((held.expires_at, number))
                continue
            ended.append(held)
        for entry in others:
            heapq.heappush(self._due, entry)
        ended.sort(key=lambda held: (held.sweep, held.id))
        for held in ended:
            _add(self._accounts[held.sweep].reserved, held.reserved, -1)
            self._settle(held, dict(held.reserved), moment, wasted=True, presumed=True)
            self._event(held.sweep, moment, "lease expired", {"lease": held.id, "holder": held.holder})
        return [held.copy() for held in ended]

    def totals(self, sweep: str) -> dict[str, Amounts]:
        """{"budget", "spent", "reserved", "wasted"} of a sweep. A unit that no lease counts is None: unknown, not 0."""
        account = self._account(sweep)
        sums = {"spent": account.spent, "reserved": account.reserved, "wasted": account.wasted}
        return {"budget": account.budget, **known(sums)}

    def month(self, team: str, now: datetime | None = None) -> dict[str, Amounts]:
        """What a team's sweeps have `spent` and `reserved` in the calendar month (UTC) of `now`."""
        moment = to_utc(now) or self._clock()
        return {side: to_amounts(sums) for side, sums in self._month(team, moment).items()}

    def leases(self, sweep: str, *, open_only: bool = False) -> list[Lease]:
        """Leases of a sweep in the order in which they were opened."""
        held = self._account(sweep).leases
        return [lease.copy() for lease in held if not open_only or lease.settled_at is None]

    # Inside -----------------------------------------------------------------------------------------------------------

    def _account(self, sweep: str) -> Account:
        account = self._accounts.get(sweep)
        if account is None:
            raise NotFoundError(f"a sweep must be recorded before anything of it, but there is no {sweep!r}")
        return account

    def _held(self, lease: int) -> _Held:
        held = self._leases.get(lease)
        if held is None:
            raise NotFoundError(f"a lease must be reserved before it changes, but there is none with id {lease}")
        return held

    def _refused(
        self,
        account: Account,
        limits: Amounts | None,
        asked: Integers,
        keep: Amounts | None,
        team: Amounts | None,
        moment: datetime,
    ) -> Refusal | None:
        bounds = account.bounds if limits is None else to_integers(limits, math.floor, "limit")
        if keep is not self._keep:  # callers keep back the same for many leases
            self._keep, self._kept = keep, to_integers(keep or _NOTHING, math.ceil, "share")
        refusal = refusal_of(account.sweep, bounds, account.spent, account.reserved, asked, kept=self._kept)
        if refusal is not None or team is None:
            return refusal
        month = self._month(account.team, moment)
        bounds = to_integers(team, math.floor, "limit")
        return refusal_of(account.sweep, bounds, month["spent"], month["reserved"], asked, team=account.team)

    def _month(self, team: str, moment: datetime) -> dict[str, Integers]:
        # Settled in this month or, where the clock was set back since, in a later one.
        spent = _unknown()
        for (owner, year, number), sums in self._month_spent.items():
            if owner == team and (year, number) >= (moment.year, moment.month):
                _add(spent, sums)
        reserved = _unknown()
        for account in self._accounts.values():
            if account.team == team:
                _add(reserved, account.reserved)
        return {"spent": spent, "reserved": reserved}

    def _settle(self, held: _Held, spent: Integers, moment: datetime, wasted: bool, presumed: bool = False) -> None:
        held.spent, held.settled_at, held.wasted, held.presumed = spent, moment, wasted, presumed
        self._spend(held, spent, moment, wasted)

    def _spend(self, held: _Held, spent: Integers, moment: datetime, wasted: bool, sign: int = 1) -> None:
        account = self._accounts[held.sweep]
        for sums in (account.spent, self._month_spent[account.team, moment.year, moment.month]):
            _add(sums, spent, sign)
        if wasted:
            _add(account.wasted, spent, sign)


def _add(sums: Integers, amounts: Integers, sign: int = 1) -> None:
    for unit, amount in amounts.items():
        if amount is not None:
            sums[unit] = (sums[unit] or 0) + sign * amount


def _detail(held: _Held, spent: Integers) -> dict[str, Any]:
    return {"lease": held.id, "reserved": to_floats(held.reserved), "observed": to_floats(spent)}
