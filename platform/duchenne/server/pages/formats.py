"""How numbers, times and settings are written on the pages. What is unknown is a dash, never 0."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

UNKNOWN = "–"  # noqa: RUF001 - the dash that a reader of a table expects


def percent(share: float | None) -> str:
    """A share in percent, as the field prints F1: 0.6612 is `66.1`."""
    return UNKNOWN if share is None else f"{100 * share:.1f}"


def percents(low: float | None, high: float | None) -> str:
    """The two bounds of an interval, in percent."""
    return UNKNOWN if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def number(value: float | None) -> str:
    """Any number, to four significant digits."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def score(value: float | None) -> str:
    """A metric of a trial, with as many decimals in every row."""
    return UNKNOWN if value is None else f"{value:.4f}"


def usd(amount: float | None) -> str:
    """Dollars: cents, and more digits where cents would show nothing."""
    if amount is None:
        return UNKNOWN
    if 0 < abs(amount) < 0.095:
        return f"${amount:.2g}"
    return f"${amount:,.0f}" if abs(amount) >= 10_000 else f"${amount:,.2f}"


def hours(value: float | None) -> str:
    """Hours, such as GPU-hours."""
    return UNKNOWN if value is None else (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}")


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: `3 h 12 min`."""
    if seconds is None:
        return UNKNOWN
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def day(moment: datetime | None) -> str:
    """The day, in UTC."""
    return UNKNOWN if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d}"


def minute(moment: datetime | None) -> str:
    """The minute, in UTC."""
    return UNKNOWN if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ranks(low: int | None, high: int | None) -> str:
    """The ranks that an entry may hold: `1` or `1 to 3`, with a dash as in a table."""
    if low is None or high is None:
        return UNKNOWN
    return str(low) if low == high else f"{low}–{high}"  # noqa: RUF001


def setting(value: Any) -> str:
    """A value of a configuration, as its file would say it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        rest = [f"{name} {setting(item)}" for name, item in value.items() if name != "name"]
        return " ".join([value["name"], *rest])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def brief(value: Any) -> str:
    """A value of a configuration in a table: three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else setting(value)[:40]


def signed(share: float | None) -> str:
    """A difference of shares in points of percent, with its sign."""
    return UNKNOWN if share is None else f"{100 * share:+.1f}"


def detail(values: dict[str, Any]) -> str:
    """The detail of an audit line, in one line."""
    return ", ".join(f"{name}: {setting(value)}" for name, value in values.items())


FILTERS = {
    function.__name__: function
    for function in (
        percent,
        percents,
        number,
        score,
        usd,
        hours,
        duration,
        day,
        minute,
        ranks,
        setting,
        brief,
        signed,
        detail,
    )
}
