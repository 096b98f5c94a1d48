"""Every error of a document at once: what is broken is set aside, and all that is left is still checked."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from duchenne.spec.errors import Fault, Path
from duchenne.spec.messages import broken_rules
from duchenne.spec.rules import check
from duchenne.spec.sweep import Sweep

_MAX_ROUNDS = 8

# Stand in for required fields that are missing or broken, so that the rest can still be checked.
_STAND_INS: dict[str, Any] = {
    "apiVersion": "duchenne/v1",
    "kind": "Sweep",
    "metadata": {"name": "unnamed"},
    "data": {"uri": "unknown"},
    "budget": {"wall_seconds": 1.0},
}


def validated(data: dict[str, Any], broken: tuple[Path, ...] = ()) -> tuple[Sweep | None, list[Fault]]:
    """The sweep, or the faults of all its sections and of the rules across those that are sound.

    `broken` are places whose value the reader could not read. A section's own rule shows only once its fields are
    sound, so broken fields are taken out and the rest is validated again. A later fault around a place that was taken
    out does not count, since a default stands there.
    """
    faults: list[Fault] = []
    rest = data
    for _ in range(_MAX_ROUNDS):
        try:
            draft = Sweep.model_validate_json(json.dumps(rest), strict=True, context={"draft": True})
        except ValidationError as error:
            new = broken_rules(error, Sweep, rest)
            faults += [fault for fault in new if not any(path[: len(fault.path)] == fault.path for path in broken)]
            broken = (*broken, *(fault.path for fault in new))
            rest = _without(rest, [fault.path for fault in new])
            continue
        faults += check(draft, broken)
        return (None if faults or broken else draft), faults
    return None, faults


def _without(data: dict[str, Any], broken: list[Path]) -> dict[str, Any]:
    """A copy of the data without the broken places, with stand-ins where a required field is missing."""
    rest: dict[str, Any] = json.loads(json.dumps(data))
    for path in broken:
        _take_out(rest, path)
    for key, stand_in in _STAND_INS.items():
        if key not in rest:
            rest[key] = stand_in
        elif isinstance(rest[key], dict) and key in ("metadata", "data"):
            rest[key] = stand_in | rest[key]
    return rest


def _take_out(rest: dict[str, Any], path: Path) -> None:
    """Takes out the innermost mapping entry at or around a place.

    A list goes as a whole, since a shorter one would mean something else; so does a section that lacks a field, unless
    a stand-in fills it.
    """
    entries: list[tuple[dict[str, Any], str]] = []
    value: Any = rest
    for part in path:
        if isinstance(value, dict) and part in value:
            entries.append((value, str(part)))
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        elif len(path) == 2 and path[0] in ("metadata", "data"):
            return
        else:
            break
    if entries:
        parent, key = entries[-1]
        parent.pop(key, None)
