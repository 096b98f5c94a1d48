"""What has room below a limit, in whole numbers: the arithmetic of every ledger, whatever keeps its leases."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from duchenne.records.errors import RecordsError
from duchenne.records.rows import Amounts, Refusal

# Unit of the API -> (column's suffix, integers a unit). Integers make sums exact, and the same on every database.
UNITS: dict[str, tuple[str, int]] = {
    "usd": ("nano_usd", 1_000_000_000),
    "gpu_seconds": ("gpu_ms", 1_000),
    "wall_seconds": ("wall_ms", 1_000),
}


def refusal_of(
    sweep: str,
    bounds: dict[str, int | None],
    spent: dict[str, int | None],
    reserved: dict[str, int | None],
    asked: dict[str, int | None],
    kept: Mapping[str, int | None] | None = None,
    team: str | None = None,
) -> Refusal | None:
    """The first unit that `asked` would take over its bound; None where all have room."""
    for unit, (_, scale) in UNITS.items():
        bound = bounds[unit]
        if bound is None:
            continue
        wanted, held = asked[unit], (kept or {}).get(unit) or 0
        if wanted is None or (spent[unit] or 0) + (reserved[unit] or 0) + wanted + held > bound:
            return Refusal(
                sweep=sweep,
                unit=unit,
                limit=bound / scale,
                spent=(spent[unit] or 0) / scale,
                reserved=(reserved[unit] or 0) / scale,
                asked=None if wanted is None else wanted / scale,
                kept=held / scale,
                team=team,
            )
    return None


def plus(held: int | None, more: int | None) -> int | None:
    return held if more is None else (held or 0) + more


def to_integers(amounts: Amounts, rounding: Any, what: str) -> dict[str, int | None]:
    """Integers of each unit: what is asked or spent rounds up, limits round down, so that rounding never overruns."""
    values: dict[str, int | None] = {}
    for unit, (_, scale) in UNITS.items():
        value: float | None = getattr(amounts, unit)
        if not value:  # most leases count one unit or two
            values[unit] = None if value is None else 0
            continue
        if not 0 <= value * scale < 2**62:
            raise RecordsError(f"an {what} must be a number >= 0, but {unit} is {value}; correct it")
        # The first rounding takes off what binary fractions add: 0.1 USD is 100,000,000 nano-dollars, not one more.
        values[unit] = int(rounding(round(value * scale, 3)))
    return values


def to_floats(values: Mapping[str, int | None]) -> dict[str, float | None]:
    return {unit: None if values[unit] is None else (values[unit] or 0) / scale for unit, (_, scale) in UNITS.items()}


def to_amounts(values: Mapping[str, int | None]) -> Amounts:
    return Amounts(**to_floats(values))


def known(sums: Mapping[str, Mapping[str, int | None]]) -> dict[str, Amounts]:
    """Sums by side (spent, reserved, ...) as amounts: what another side counts is 0, not unknown."""
    counted = [unit for unit in UNITS if any(side[unit] is not None for side in sums.values())]
    return {
        name: to_amounts({unit: side[unit] or 0 if unit in counted else None for unit in UNITS})
        for name, side in sums.items()
    }


def to_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
