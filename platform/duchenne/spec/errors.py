"""What a refused sweep file says: one line a problem, with file, line, field, rule, value and next action."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where a value sits in the document: mapping keys and 0-based list positions, outermost first."""

SHOWN_CHARACTERS = 80
_CREDENTIALS = re.compile(r"://[^/@\s]+@")
WHOLE_DOCUMENT = "(document)"
WHOLE_FILE = "(file)"


@dataclass(frozen=True)
class Fault:
    """A broken rule at a place of the document, before the place has a line number.

    `value` is what was seen, as text; None where there is nothing to show (a missing field).
    """

    path: Path
    rule: str
    value: str | None
    hint: str

    @property
    def text(self) -> str:
        """`rule broken, got value, what to do`: the part of the line after the field."""
        seen = "" if self.value is None else f", got {one_line(self.value)}"
        return f"{one_line(self.rule, limit=400)}{seen}, {one_line(self.hint, limit=400)}"

    @property
    def located(self) -> str:
        """`path.to.field: rule broken, got value, what to do`."""
        return f"{dotted(self.path)}: {self.text}"


@dataclass(frozen=True)
class Problem:
    """One error of a sweep file. `line` is 1-based; `field` is dotted (`search.space.model.orders.count.choice[1]`)."""

    line: int
    field: str
    rule: str
    value: str | None
    hint: str

    @property
    def text(self) -> str:
        """`field: rule broken, got value, what to do`."""
        return f"{self.field}: {Fault((), self.rule, self.value, self.hint).text}"


class SpecError(ValueError):
    """A sweep file is refused. `problems` holds every error, by line; `str(error)` is one line a problem."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
        super().__init__("\n".join(f"{source}:{problem.line}: {problem.text}" for problem in self.problems))

    def __reduce__(self) -> tuple[type[SpecError], tuple[str, tuple[Problem, ...]]]:
        return SpecError, (self.source, self.problems)


def dotted(path: Path) -> str:
    """The path as people write it: `search.space.model.hidden_size.choice[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{one_line(part)}" if text else one_line(part)
    return text or WHOLE_DOCUMENT


def one_line(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Text fit for one line of a terminal: shortened, escaped if it holds control characters, without credentials."""
    text = _CREDENTIALS.sub("://***@", text)
    if len(text) > limit:
        text = f"{text[: limit - 3]}..."
    return text if text.isprintable() else ascii(text)[1:-1]
