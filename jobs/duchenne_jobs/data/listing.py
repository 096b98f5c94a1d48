"""Which datasets lie under a folder or prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.manifest import MANIFEST_NAME, Manifest, parse_manifest
from duchenne_jobs.data.storage import Location, locate

MAX_DEPTH = 4  # folders below the named one


@dataclass(frozen=True)
class Listed:
    """A dataset in a list. What can't be read has an `error` and no figures."""

    uri: str
    name: str | None
    rows: int | None
    subjects: int | None
    tasks: int | None
    bytes: int | None
    digest: str | None
    licence: str | None
    error: str | None


def find_datasets(uri: str | Path, max_depth: int = MAX_DEPTH) -> list[Listed]:
    """Every dataset at or under `uri`, in the order of their paths; only manifests are read.

    Raises:
        DatasetError: the place can't be listed.
    """
    return [_listed(place) for place in _walk(locate(uri), max_depth)]


def _walk(place: Location, depth: int) -> Iterator[Location]:
    with place.explained("list", ""):
        try:
            entries = place.filesystem.ls(place.root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
    names = {str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]: entry["type"] for entry in entries}
    if names.get(MANIFEST_NAME) == "file":
        yield place
        return
    for name, kind in sorted(names.items()):
        # Hidden folders hold what is half done, never a dataset.
        if kind == "directory" and depth > 0 and not name.startswith("."):
            yield from _walk(locate(place.shown(name)), depth - 1)


def _listed(place: Location) -> Listed:
    try:
        data = place.read(MANIFEST_NAME)
        if data is None:
            raise DatasetError(f"{place.shown(MANIFEST_NAME)} went away while it was read")
        manifest = parse_manifest(data, place.shown(MANIFEST_NAME))
    except DatasetError as error:
        return Listed(place.uri, None, None, None, None, None, None, None, str(error))
    return _figures(place.uri, manifest)


def _figures(uri: str, manifest: Manifest) -> Listed:
    return Listed(
        uri=uri,
        name=manifest.name,
        rows=manifest.row_count,
        subjects=manifest.subject_count,
        tasks=len(manifest.tasks),
        bytes=sum(shard.bytes for shard in manifest.shards),
        digest=manifest.digest,
        licence=manifest.licence,
        error=None,
    )
