"""`ingest`: run an ingester, write its rows, put the dataset in place complete."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from duchenne_jobs.data.cache import default_cache_folder
from duchenne_jobs.data.dataset import Dataset, Progress, open_dataset
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.ingesters.options import FaceOptions
from duchenne_jobs.data.ingesters.registry import INGESTERS
from duchenne_jobs.data.ingesters.source import Executor, Ingester, Source, Workshop
from duchenne_jobs.data.ingesters.workers import default_workers
from duchenne_jobs.data.manifest import MANIFEST_NAME
from duchenne_jobs.data.staging import kept_folder, staging_folder
from duchenne_jobs.data.storage import Location, locate
from duchenne_jobs.data.writer import DatasetWriter


@dataclass(frozen=True)
class _Run:
    raw: Source
    location: Location
    workers: int
    executor: Executor
    progress: Progress | None


def ingest(
    name: str,
    source: str | Path | None,
    destination: str | Path,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    executor: Executor = "processes",
    licence: str | None = None,
    consent: str | None = None,
    note: Callable[[str], None] | None = None,
    **options: Any,
) -> Dataset:
    """Write the dataset `name` from `source` to `destination`, and open it.

    The same dataset already there is left alone and opened. A local destination appears in one rename, complete.

    Args:
        name: a key of `INGESTERS`.
        source: the raw folder or file; None where the source is installed (yeast) or drawn (toy).
        destination: local path, `file://` or `s3://bucket/prefix`.
        progress: called with (rows made, rows in all).
        workers: how many sequences are cut at once; default: one a CPU. The digest does not depend on it. More than one
            starts processes: a script of your own then needs `if __name__ == "__main__":`.
        executor: `processes` of this machine, or tasks of `ray` (`RAY_ADDRESS`, or started here).
        licence, consent: what the manifest says instead of the ingester's own words.
        note: called with one line for each thing that the user should know and the rows don't show.
        options: of the ingester: `count`, `tasks`, `seed` of toy; `FaceOptions` and more of sets of people.

    Raises:
        DatasetError: unknown name or option, missing or malformed source, a different dataset or foreign files at the
            destination, or a full disk. No dataset is there then; sequences of people that were finished are kept
            beside the destination for the next run.
    """
    if name not in INGESTERS:
        raise DatasetError(f"no ingester is called {name!r}; choose one of {', '.join(sorted(INGESTERS))}")
    if workers is not None and workers < 1:
        raise DatasetError(f"workers >= 1 must hold, but got {workers}; 1 cuts one sequence at a time")
    location = locate(destination)
    raw = _with_terms(_call(name, source, options), licence, consent)
    if note is not None:
        for line in raw.notes:
            note(line)
    run = _Run(raw, location, workers or default_workers(), executor, progress)
    names = location.names()
    if MANIFEST_NAME in names:
        return _compare_with_present(run)
    if not location.local:
        _write(run, location.uri)
        return open_dataset(location.uri)
    if names:
        raise DatasetError(
            f"{location.uri} must not exist or be empty, but holds {names[0]!r} and no {MANIFEST_NAME}; "
            "choose another destination, or remove it first"
        )
    target = Path(location.root)
    with ExitStack() as stack:
        with location.explained("write", ""):
            sibling = stack.enter_context(staging_folder(target.parent, f".{target.name}.partial-"))
        _write(run, sibling / target.name)
        if not _move_into_place(sibling / target.name, location):
            return _compare_with_present(replace(run, progress=None))
    return open_dataset(location.uri)


def ingester_options(name: str) -> tuple[str, ...]:
    """Names of the options that an ingester takes."""
    return tuple(_known_options(INGESTERS[name]))


def _known_options(make: Ingester) -> list[str]:
    names: list[str] = []
    for parameter in list(inspect.signature(make).parameters)[1:]:
        names += [field.name for field in fields(FaceOptions)] if parameter == "faces" else [parameter]
    return names


def _call(name: str, source: str | Path | None, options: dict[str, Any]) -> Source:
    make = INGESTERS[name]
    known = _known_options(make)
    for option in options:
        if option not in known:
            raise DatasetError(f"{name} has no option {option!r}; it has: {', '.join(known) or 'none'}")
    if "faces" not in inspect.signature(make).parameters:
        return make(source, **options)
    shared = {field.name for field in fields(FaceOptions)}
    faces = FaceOptions(**{key: value for key, value in options.items() if key in shared})
    return make(source, faces, **{key: value for key, value in options.items() if key not in shared})


def _with_terms(raw: Source, licence: str | None, consent: str | None) -> Source:
    given = {key: value for key, value in (("licence", licence), ("consent", consent)) if value is not None}
    return replace(raw, description=raw.description.model_copy(update=given)) if given else raw


def _move_into_place(partial: Path, location: Location) -> bool:
    """Rename a complete dataset to its destination; False if another process was first."""
    target = Path(location.root)
    with location.explained("write", ""):
        try:
            partial.rename(target)  # over nothing or an empty folder
        except OSError:
            if (target / MANIFEST_NAME).exists():
                return False
            raise
    return True


def _write(run: _Run, destination: str | Path, *, keep: bool = True) -> str:
    """Write every row; return the digest."""
    with _workshop(run) as workshop:
        with DatasetWriter(destination, run.raw.description, keep=keep) as writer:
            for table in run.raw.tables(workshop):
                writer.write(table)
        if writer.manifest is None:
            raise DatasetError(f"no manifest was written to {destination}")
        return writer.manifest.digest


@contextmanager
def _workshop(run: _Run) -> Iterator[Workshop]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if run.progress is not None:
            run.progress(done, run.raw.row_count)

    folder = parts_folder(run.location)
    with ExitStack() as stack:
        if run.raw.resumable:
            with run.location.explained("write", ""):
                stack.enter_context(kept_folder(folder))
        yield Workshop(folder, run.workers, run.executor, advance)


def parts_folder(location: Location) -> Path:
    """Where finished sequences wait: beside a local destination, in the cache for a bucket."""
    if location.local:
        target = Path(location.root)
        return target.parent / f".{target.name}.sequences"
    return default_cache_folder() / "ingest" / hashlib.sha256(location.uri.encode()).hexdigest()[:16]


def _compare_with_present(run: _Run) -> Dataset:
    present = open_dataset(run.location.uri)
    digest = _write(run, run.location.uri, keep=False)
    if digest != present.digest:
        raise DatasetError(
            f"{run.location.uri} already holds another dataset, {present.manifest.name} with digest {present.digest}, "
            f"while this one has {digest}; choose another destination, or remove that one first"
        )
    return present
