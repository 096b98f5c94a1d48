"""Where a page of a list ends, as an opaque word: the sort value and the id of its last row."""

from __future__ import annotations

import base64
import binascii
import json
import math
from datetime import datetime
from typing import Any

from duchenne.records.errors import RecordsError

MAX_ROWS = 200
"""Rows that one page may hold."""


class CursorError(RecordsError):
    """A cursor that no page of this list gave."""


def encode(order: str, value: Any, key: Any) -> str:
    """The cursor after the row with that sort value and id, in that order."""
    plain = value.isoformat() if isinstance(value, datetime) else value
    text = json.dumps([order, plain, key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode(cursor: str, order: str, value_type: type, key_type: type = str) -> tuple[Any, Any]:
    """(sort value or None, id) of the last row seen.

    Raises:
        CursorError: it is damaged, or belongs to a list in another order.
    """
    wrong = CursorError(
        f"a cursor must be the `next` of a page in the same order ({order}), but got {cursor[:40]!r}; "
        "start again without it"
    )
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        made, value, key = found
        if made != order or type(key) is not key_type or (isinstance(key, int) and abs(key) >= 2**63):
            raise wrong
        if value is not None and value_type is datetime:
            value = datetime.fromisoformat(value)
            if value.tzinfo is None:
                raise wrong
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise wrong from error
    if value is None:
        return None, key
    if value_type is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value), key
    if type(value) is not value_type or (isinstance(key, str) and "\x00" in key + str(value)):
        raise wrong
    return value, key


def bounded(limit: int) -> int:
    """The rows of a page, held to 1..`MAX_ROWS`."""
    return max(1, min(MAX_ROWS, limit))
