"""Published or own fold protocols: who is in which part, read from YAML or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duchenne_jobs.data.errors import FoldError
from duchenne_jobs.data.folds import FoldPlan, check_parts

if TYPE_CHECKING:
    from duchenne_jobs.data.balance import SubjectLabels

_MAX_BYTES = 4 * 2**20
_KEYS = {"tasks", "parts"}


@dataclass(frozen=True)
class Protocol:
    """A named partition of subjects; fold k tests on part k. `tasks` are the ones the field evaluates, where known."""

    name: str
    parts: tuple[tuple[str, ...], ...]
    tasks: tuple[str, ...] | None = None

    @property
    def subject_count(self) -> int:
        return sum(len(part) for part in self.parts)

    def plan(self, subjects: Iterable[str], seed: int = 0, labels: SubjectLabels | None = None) -> FoldPlan:
        """Folds of a dataset's subjects after this protocol; `seed` is for the inner folds, `labels` balance them.

        Both sides must name the same subjects. A subject of the protocol that the dataset lacks would make the folds
        easier or harder than the published ones; one that no part lists would silently never be tested.

        Raises:
            FoldError: names the first subject (in sorted order) that one side lacks.
        """
        present = set(subjects)
        listed = {subject for part in self.parts for subject in part}
        for subject in sorted(listed - present):
            raise FoldError(
                f"protocol {self.name}: subject {subject!r} is not in the dataset ({len(listed - present)} of "
                f"{len(listed)} are missing); ingest the missing subjects, or write a protocol file without them"
            )
        for subject in sorted(present - listed):
            raise FoldError(
                f"protocol {self.name}: the dataset's subject {subject!r} is in no part ({len(present - listed)} such "
                "subjects); add it to a part of a protocol file of your own, or leave it out of the dataset"
            )
        return FoldPlan(parts=self.parts, seed=seed, labels=labels)


def packaged_protocols() -> tuple[str, ...]:
    """Names of the protocols that come with the package."""
    return tuple(_packaged())


def load_protocol(name_or_path: str | Path) -> Protocol:
    """A packaged protocol (`bp4d`, `disfa`) by name, or one of your own from a YAML or JSON file.

    The file holds `parts`: a list of lists of subjects, and may hold `tasks`: a list of names.

    Raises:
        FoldError: no such name or file, a malformed file, or a subject in two parts.
    """
    text = str(name_or_path)
    packaged = _packaged()
    if text in packaged:
        return _protocol(text, packaged[text], f"protocol {text}")
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise FoldError(
            f"no protocol {text!r}: it is none of {', '.join(packaged)}, and there is no file {path}; "
            "name one of these, or write a file with `parts`"
        )
    return _protocol(path.stem, _read(path), str(path))


def _packaged() -> dict[str, Any]:
    import yaml

    text = (files("duchenne_jobs.data") / "protocols" / "folds.yaml").read_text(encoding="utf-8")
    protocols: dict[str, Any] = yaml.safe_load(text)
    return protocols


def _read(path: Path) -> Any:
    import yaml

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FoldError(f"{path} must be at most {_MAX_BYTES} bytes, but has {path.stat().st_size}")
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise FoldError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        raise FoldError(f"{path} is no YAML or JSON in UTF-8: {' '.join(str(error).split())}") from error


def _protocol(name: str, content: Any, place: str) -> Protocol:
    if not isinstance(content, Mapping) or "parts" not in content or not set(content) <= _KEYS:
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise FoldError(f"{place} must hold `parts` (a list of lists of subjects), perhaps `tasks`, but holds: {found}")
    parts = content["parts"]
    if not isinstance(parts, list) or not all(isinstance(part, list) for part in parts):
        raise FoldError(f"{place}: `parts` must be a list of lists of subjects")
    names = {"parts": [name for part in parts for name in part], "tasks": content.get("tasks") or []}
    for key, values in names.items():
        for value in values:
            if not isinstance(value, str) or not value:
                raise FoldError(f"{place}: every name in `{key}` must be a text, but got {value!r}; put it in quotes")
    check_parts(parts, place)
    tasks = content.get("tasks")
    return Protocol(name, tuple(tuple(part) for part in parts), tuple(tasks) if tasks else None)
