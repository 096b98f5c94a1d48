"""One line of the doctor's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "missing"]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: what was looked at.
        state: `ok`; `warn`: works without, or can't be seen from here; `missing`: is needed, and is not there.
        seen: what there is, one line.
        next: what mends it; empty where nothing needs to be.
    """

    name: str
    state: State
    seen: str
    next: str = ""

    @property
    def line(self) -> str:
        """For a person."""
        return f"{self.state:<8}{self.name}: {self.seen}" + (f"; {self.next}" if self.next else "")


def first_line(error: BaseException) -> str:
    """An error in one line, cut where it would be a page."""
    return " ".join(str(error).split())[:300] or type(error).__name__
