"""`builtin://` datasets: small ones that need no raw files, ingested once under the home folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.yeast import YEAST_LABELS, YEAST_ROWS

if TYPE_CHECKING:
    from duchenne_jobs.data.synth.options import SynthOptions

Value: TypeAlias = int | float | str


@dataclass(frozen=True)
class _Whole:
    default: int
    lowest: int
    highest: int

    def read(self, name: str, text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) < 20
        if not digits or not self.lowest <= int(text) <= self.highest:
            raise DatasetError(
                f"{self.lowest} <= {name} <= {self.highest} must hold, but got {text!r}; write a whole number"
            )
        return int(text)


@dataclass(frozen=True)
class _Share:
    default: float
    highest: float

    def read(self, name: str, text: str) -> float:
        plain = text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 20
        if not plain or not float(text) <= self.highest:
            raise DatasetError(f"0 <= {name} <= {self.highest:g} must hold, but got {text!r}; write it as 0.1")
        return float(text)


@dataclass(frozen=True)
class _Choice:
    default: str
    values: tuple[str, ...]

    def read(self, name: str, text: str) -> str:
        if text not in self.values:
            raise DatasetError(f"{name} must be {' or '.join(self.values)}, but got {text!r}; choose one of them")
        return text


@dataclass(frozen=True)
class _Order:
    """Digits of a permutation of 0..T-1, first step first; empty where it is not given."""

    default: str = ""

    def read(self, name: str, text: str) -> str:
        if sorted(text) != [str(digit) for digit in range(len(text))] or not text:
            raise DatasetError(f"{name} must be the digits of an order, each once, but got {text!r}; write it as 0213")
        return text


_SEED = _Whole(0, 0, 2**63 - 1)
_LIKES = {"disfa": 27, "bp4d": 41}  # subjects
_OPTIONS: dict[str, dict[str, _Whole | _Share | _Choice | _Order]] = {
    "yeast": {},
    "toy": {
        "count": _Whole(1000, 1, 10**6),
        "tasks": _Whole(5, 1, 24),
        "seed": _SEED,
        "sigma1": _Order(),  # of the split toy: the best order where x2 >= 0
        "sigma2": _Order(),  # and below
    },
    "faces": {
        "like": _Choice("disfa", tuple(_LIKES)),
        "subjects": _Whole(0, 1, max(_LIKES.values())),  # by default all that `like` has
        "frames": _Whole(100, 1, 10**5),
        "seed": _SEED,
        "size": _Whole(96, 32, 512),
        "noise": _Share(0.0, 0.5),
    },
}


def parse_builtin(uri: str | Path) -> tuple[str, dict[str, Value]] | None:
    """Name and options of `builtin://NAME?option=value`, defaults filled in; None for any other URI.

    Raises:
        DatasetError: an unknown name or option, or a value that is none of its kind or outside its range.
    """
    text = str(uri)
    if not text.startswith("builtin://"):
        return None
    parts = urlsplit(text)
    name = parts.netloc
    if name not in _OPTIONS or parts.path.strip("/"):
        raise DatasetError(f"{text}: no such builtin dataset; choose one of {', '.join(sorted(_OPTIONS))}")
    kinds = _OPTIONS[name]
    options: dict[str, Value] = {key: kind.default for key, kind in kinds.items()}
    given: set[str] = set()
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in kinds or key in given:
            known = ", ".join(kinds) or "none"
            problem = "comes twice" if key in given else "is unknown"
            raise DatasetError(f"{text}: option {key!r} {problem}; {name} has the options: {known}")
        given.add(key)
        try:
            options[key] = kinds[key].read(key, value)
        except DatasetError as error:
            raise DatasetError(f"{text}: {error}") from None
    if name == "toy":
        options = {key: value for key, value in options.items() if value != ""}
        for key in ("sigma1", "sigma2"):
            order = str(options.get(key, ""))
            if order and len(order) != options["tasks"]:
                raise DatasetError(
                    f"{text}: {key} must order the {options['tasks']} tasks, but got {order!r}; name each once"
                )
    if name == "faces":
        there = _LIKES[str(options["like"])]
        if int(options["subjects"]) > there:
            raise DatasetError(
                f"{text}: 1 <= subjects <= {there} must hold for faces like {options['like']}, "
                f"but got {options['subjects']}; lower subjects"
            )
        options["subjects"] = options["subjects"] or there
    return name, options


def builtin_subject_count(uri: str | Path) -> int | None:
    """Subjects of a builtin dataset, without making it; None for any other URI.

    Every row of toy and yeast is its own subject.
    """
    parsed = parse_builtin(uri)
    if parsed is None:
        return None
    name, options = parsed
    return YEAST_ROWS if name == "yeast" else int(options["subjects" if name == "faces" else "count"])


def builtin_subjects(uri: str | Path) -> tuple[str, ...] | None:
    """Names of the people in a builtin dataset, without making it; None for any other URI, and where there are none."""
    parsed = parse_builtin(uri)
    if parsed is None or parsed[0] != "faces":
        return None
    from duchenne_jobs.data.synth.anatomy import subject_names

    options = _face_options(parsed[1])
    return subject_names(options.like)[: options.subject_count]


def builtin_tasks(uri: str | Path) -> tuple[str, ...] | None:
    """Task names of a builtin dataset, without making it; None for any other URI."""
    parsed = parse_builtin(uri)
    if parsed is None:
        return None
    name, options = parsed
    if name == "toy":
        return tuple(f"task{index}" for index in range(1, int(options["tasks"]) + 1))
    if name == "faces":
        from duchenne_jobs.data.synth.units import TASKS

        return tuple(f"AU{number}" for number in TASKS[_face_options(options).like])
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

    written = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in options.items()}
    folder = "-".join([name, *(f"{key}{value}" for key, value in written.items())])
    target = Path(home).expanduser().absolute() / "datasets" / folder
    if (target / MANIFEST_NAME).exists():
        return open_dataset(target).uri
    if name == "faces":
        from duchenne_jobs.data.synth.crops import write_crops

        write_crops(_face_options(options), target)
        return open_dataset(target).uri
    arguments: dict[str, Any] = dict(options)
    return ingest(name, None, target, **arguments).uri


def _face_options(options: dict[str, Value]) -> SynthOptions:
    from duchenne_jobs.data.synth.options import SynthOptions

    arguments: dict[str, Any] = dict(options)
    return SynthOptions(**arguments)
