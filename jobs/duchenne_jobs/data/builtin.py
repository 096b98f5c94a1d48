"""`builtin://` datasets: small ones that need no raw files, ingested once under the home folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.yeast import YEAST_LABELS, YEAST_ROWS

_DEFAULTS: dict[str, dict[str, int]] = {"yeast": {}, "toy": {"count": 1000, "tasks": 5, "seed": 0}}
_LOWEST = {"count": 1, "tasks": 1, "seed": 0}
_HIGHEST = {"count": 10**6, "tasks": 24, "seed": 2**63 - 1}


def parse_builtin(uri: str | Path) -> tuple[str, dict[str, int]] | None:
    """Name and options of `builtin://NAME?option=value`, defaults filled in; None for any other URI.

    Raises:
        DatasetError: an unknown name or option, or a value that is no whole number in its range.
    """
    text = str(uri)
    if not text.startswith("builtin://"):
        return None
    parts = urlsplit(text)
    name = parts.netloc
    if name not in _DEFAULTS or parts.path.strip("/"):
        raise DatasetError(f"{text}: no such builtin dataset; choose one of {', '.join(sorted(_DEFAULTS))}")
    options = dict(_DEFAULTS[name])
    given: set[str] = set()
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in options or key in given:
            known = ", ".join(options) or "none"
            problem = "comes twice" if key in given else "is unknown"
            raise DatasetError(f"{text}: option {key!r} {problem}; {name} has the options: {known}")
        given.add(key)
        digits = value.isascii() and value.isdigit() and len(value) < 20
        if not digits or not _LOWEST[key] <= int(value) <= _HIGHEST[key]:
            raise DatasetError(
                f"{text}: {_LOWEST[key]} <= {key} <= {_HIGHEST[key]} must hold, but got {value!r}; write a whole number"
            )
        options[key] = int(value)
    return name, options


def builtin_subject_count(uri: str | Path) -> int | None:
    """Subjects of a builtin dataset, without making it; None for any other URI. Every row is its own subject."""
    parsed = parse_builtin(uri)
    if parsed is None:
        return None
    name, options = parsed
    return options["count"] if name == "toy" else YEAST_ROWS


def builtin_tasks(uri: str | Path) -> tuple[str, ...] | None:
    """Task names of a builtin dataset, without making it; None for any other URI."""
    parsed = parse_builtin(uri)
    if parsed is None:
        return None
    name, options = parsed
    if name == "toy":
        return tuple(f"task{index}" for index in range(1, options["tasks"] + 1))
    return tuple(f"Class{index}" for index in range(1, YEAST_LABELS + 1))


def materialise(uri: str | Path, home: Path) -> str:
    """Make a builtin dataset once, as `home/datasets/NAME-OPTIONS`, and return its path; other URIs come back as given.

    Safe when several processes do it at once: each writes a sibling folder, and one of them gets its name.

    Raises:
        DatasetError: an unknown builtin, or a failure to write or open it.
    """
    parsed = parse_builtin(uri)
    if parsed is None:
        return str(uri)
    name, options = parsed
    from duchenne_jobs.data.dataset import open_dataset
    from duchenne_jobs.data.ingesters import ingest
    from duchenne_jobs.data.manifest import MANIFEST_NAME

    folder = "-".join([name, *(f"{key}{value}" for key, value in options.items())])
    target = Path(home).expanduser().absolute() / "datasets" / folder
    if (target / MANIFEST_NAME).exists():
        return open_dataset(target).uri
    arguments: dict[str, Any] = dict(options)
    return ingest(name, None, target, **arguments).uri
