"""Where each action unit (AU) shows on a face, by landmarks (Tallec 2023, table 3.2).

Here rather than beside the priors that use it, because `duchenne validate` reads it without torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_AU = re.compile(r"AU0*([1-9]\d{0,3})")


@dataclass(frozen=True)
class Centres:
    """Two points of the 49-point scheme, moved down by `down` times the distance of the inner eye corners."""

    points: tuple[int, int]
    down: float = 0.0


_LIP_CORNERS = Centres((31, 37))
_BELOW_LIP = Centres((39, 41), 1 / 2)
_LIP_CENTRES = Centres((34, 40))

AU_CENTRES: Final[dict[int, Centres]] = {
    1: Centres((4, 5), -1 / 2),
    2: Centres((1, 8), -1 / 3),
    4: Centres((2, 7), 1 / 3),
    6: Centres((24, 29), 1.0),
    7: Centres((21, 26)),
    9: Centres((15, 17), -1 / 2),
    10: Centres((43, 45)),
    12: _LIP_CORNERS,
    14: _LIP_CORNERS,
    15: _LIP_CORNERS,
    17: _BELOW_LIP,
    23: _LIP_CENTRES,
    24: _LIP_CENTRES,
    25: _LIP_CENTRES,
    26: _BELOW_LIP,
}
"""AU number -> its centres of interest."""

_FIRST_WITH: Final = {centres: f"AU{number}" for number, centres in reversed(AU_CENTRES.items())}

MULTI_PRIORS: Final = tuple(dict.fromkeys(_FIRST_WITH[centres] for centres in AU_CENTRES.values()))
"""The ten different priors of table 3.2, each named by the first AU that has it (Tallec 2023, 3.5.1 and 3.5.2)."""


def without_centres(tasks: Sequence[str]) -> tuple[str, ...]:
    """Those tasks for which table 3.2 lists no centres."""
    return tuple(task for task in tasks if _number(task) not in AU_CENTRES)


def centres_of(tasks: Sequence[str]) -> tuple[Centres, ...]:
    """The centres of each task, named `AU1` or `AU01`.

    Raises:
        ValueError: a task that is no AU, or one without centres, by name.
    """
    missing = without_centres(tasks)
    if missing:
        listed = ", ".join(f"AU{number}" for number in AU_CENTRES)
        raise ValueError(
            f"a task must be an AU with centres of interest ({listed}), but got {', '.join(missing)}; "
            "take the mono-prior, or leave the task out"
        )
    return tuple(AU_CENTRES[_number(task)] for task in tasks)


def prior_of(task: str) -> str:
    """The one of `MULTI_PRIORS` that an AU's name stands for: `AU14` -> `AU12`.

    Raises:
        ValueError: no AU, or one without centres.
    """
    (centres,) = centres_of([task])
    return _FIRST_WITH[centres]


def _number(task: str) -> int:
    """1 of `AU1`; 0, which is no AU, where a name is none."""
    match = _AU.fullmatch(task)
    return int(match[1]) if match else 0
