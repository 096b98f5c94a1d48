"""Running totals of leases, of each sweep and of each of its months, kept in the transaction that changes a lease.

The leases are what is true, and the totals equal their sums at every commit (a test holds them together): nobody adds
up the leases of a sweep to learn whether one more has room. Every change is made under the sweep's lock
(`lock_sweep`), so that none is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from duchenne.records.limits import UNITS, plus
from duchenne.records.models import AccountMonthRow, AccountRow, SweepRow

Integers = dict[str, int | None]


def account(session: Session, sweep: str) -> dict[str, Integers]:
    """{"spent", "reserved", "wasted"} of a sweep; None where no lease counts the unit."""
    return sums_of(session.get(AccountRow, sweep))


def sums_of(row: AccountRow | None) -> dict[str, Integers]:
    """See `account`."""
    return {
        side: {unit: getattr(row, f"{side}_{suffix}", None) for unit, (suffix, _) in UNITS.items()}
        for side in ("spent", "reserved", "wasted")
    }


def open_lease(session: Session, sweep: str, reserved: Integers) -> None:
    """One more lease is open, and holds `reserved`."""
    row = _account(session, sweep)
    row.open_leases += 1
    _add(row, "reserved", reserved)


def extend_lease(session: Session, sweep: str, extra: Integers) -> None:
    """An open lease holds so much more."""
    _add(_account(session, sweep), "reserved", extra)


def close_lease(session: Session, sweep: str, reserved: Integers) -> None:
    """A lease that held `reserved` is open no more; what it spent comes by `add_spent`."""
    row = _account(session, sweep)
    row.open_leases -= 1
    _add(row, "reserved", negative(reserved))


def add_spent(session: Session, sweep: str, moment: datetime, spent: Integers, wasted: bool) -> None:
    """So much more is spent, in the month of `moment`."""
    row = _account(session, sweep)
    _add(row, "spent", spent)
    if wasted:
        _add(row, "wasted", spent)
    _add(_month(session, sweep, moment), "spent", spent)


def month_sums(session: Session, moment: datetime, team: str | None = None) -> dict[str, dict[str, Integers]]:
    """Team -> {"spent", "reserved"} in the calendar month (UTC) of `moment`; teams of which nothing counts are missing.

    What was settled in a later month counts too: the clock was set back since.
    """
    sides: dict[str, tuple[Any, ColumnElement[bool]]] = {
        "spent": (AccountMonthRow, AccountMonthRow.month >= month_of(moment)),
        "reserved": (AccountRow, AccountRow.open_leases > 0),
    }
    sums: dict[str, dict[str, Integers]] = {}
    for side, (table, counts) in sides.items():
        columns = [func.sum(getattr(table, f"{side}_{suffix}")) for suffix, _ in UNITS.values()]
        asked = select(SweepRow.team, *columns).join(table, table.sweep == SweepRow.id).where(counts)
        if team is not None:
            asked = asked.where(SweepRow.team == team)
        for owner, *values in session.execute(asked.group_by(SweepRow.team)):
            known = {unit: None if value is None else int(value) for unit, value in zip(UNITS, values, strict=True)}
            sums.setdefault(owner, {each: dict.fromkeys(UNITS) for each in sides})[side] = known
    return sums


def spent_nano_usd() -> ColumnElement[int | None]:
    """What the sweep of an `AccountRow` spent. NULL where no lease had a price: it spent an unknown sum."""
    account = AccountRow
    return case((account.reserved_nano_usd.is_not(None), func.coalesce(account.spent_nano_usd, 0)))


def month_of(moment: datetime) -> str:
    """The key of a calendar month; `moment` is in UTC."""
    return f"{moment:%Y-%m}"


def _account(session: Session, sweep: str) -> AccountRow:
    row = session.get(AccountRow, sweep)
    if row is None:
        row = AccountRow(sweep=sweep, open_leases=0)
        session.add(row)
        session.flush()
    return row


def _month(session: Session, sweep: str, moment: datetime) -> AccountMonthRow:
    key = (sweep, month_of(moment))
    row = session.get(AccountMonthRow, key)
    if row is None:
        row = AccountMonthRow(sweep=sweep, month=key[1])
        session.add(row)
        session.flush()
    return row


def negative(amounts: Integers) -> Integers:
    """What takes `amounts` away when it is added."""
    return {unit: None if amount is None else -amount for unit, amount in amounts.items()}


def _add(row: Any, side: str, amounts: Mapping[str, int | None]) -> None:
    for unit, (suffix, _) in UNITS.items():
        if amounts[unit] is not None:
            setattr(row, f"{side}_{suffix}", plus(getattr(row, f"{side}_{suffix}"), amounts[unit]))
