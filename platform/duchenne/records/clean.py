"""Values on their way into the database: JSON that stays valid, text that every database takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

TEXT_LIMIT = 20_000
"""Characters kept of an error: its end, where a traceback says what happened, and its first line."""


def finite(value: Any) -> Any:
    """The value with NaN and infinities as None and numpy scalars as Python numbers, all the way down."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    return value


def to_json(value: Any) -> str:
    """Serialiser of every JSON column.

    Raises:
        TypeError: the value holds something that JSON has no word for.
    """
    return json.dumps(finite(value), allow_nan=False, ensure_ascii=True)


def number(value: float | None) -> float | None:
    """A float for a numeric column: None where it is unknown, NaN or infinite."""
    return None if value is None or not math.isfinite(value) else float(value)


def text(value: str | None) -> str | None:
    """Text for a column: no NUL (PostgreSQL refuses it), no lone surrogate, bounded in length."""
    if value is None:
        return None
    value = value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    if len(value) <= TEXT_LIMIT:
        return value
    first = value.split("\n", 1)[0][:1000]
    return f"{first}\n[...]\n{value[-(TEXT_LIMIT - 1010) :]}"
