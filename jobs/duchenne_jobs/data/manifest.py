"""`manifest.json`: what a dataset says about itself. It is written last, so a folder without one is half-written.

P landmark points, T tasks, F features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.errors import DatasetError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
SHARD_SUFFIX = ".arrow"
# Every column a shard may have, in stored order. `subject` and `labels` are always there; the others where the source
# has them.
COLUMNS = ("subject", "sequence", "frame", "image", "landmarks", "parsing", "labels", "intensities", "features")
REQUIRED_COLUMNS = ("subject", "labels")
# Fields that a manifest leaves out when they say nothing: datasets that were written before there were such keep their
# digest.
_OPTIONAL: dict[str, Any] = {"crop": None, "partitions": None, "events": []}

Name = Annotated[str, Field(min_length=1, max_length=256)]
Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LandmarkScheme(_Frozen):
    """How the points of `landmarks` are numbered, for instance `ibug-68` with 68 points."""

    name: Name
    points: Annotated[int, Field(ge=1, le=10_000, description="P: points a face; the column holds 2P values.")]


class Crop(_Frozen):
    """How the faces of a dataset were cut out, so that another picture can be cut out alike."""

    size: Annotated[int, Field(ge=1, description="S: side of the crop in pixels.")]
    enlarge: Annotated[float, Field(gt=0, description="Side of the crop over the side of the face, brows to chin.")]
    aligned_by: Annotated[Name, Field(description="`landmarks`, a detector, or `source`: aligned by its owners.")]
    parsed_by: Name | None = Field(None, description="A parsing model, or `source`: its own maps; None: no parsing.")


class Partitions(_Frozen):
    """The names by which a dataset's own partition goes in the column `sequence`."""

    train: Name
    validation: Name | None = None
    test: Name


class Event(_Frozen):
    """Something that happened to a dataset after it was made. It names no subject: that would undo a removal."""

    what: Literal["forgot a subject"]
    at: Annotated[str, Field(description="UTC, ISO 8601.")]
    rows: Annotated[int, Field(ge=1, description="Rows that went.")]
    previous_digest: Sha256


class Description(_Frozen):
    """What a writer must know about a dataset before its first row."""

    name: Name
    tasks: Annotated[tuple[Name, ...], Field(min_length=1, description="Names of the T columns of `labels`.")]
    columns: Annotated[tuple[str, ...], Field(description="Columns of every shard, in stored order.")]
    feature_names: tuple[Name, ...] | None = Field(None, description="Names of the F columns of `features`.")
    parsing_classes: tuple[Name, ...] | None = Field(None, description="Class names of `parsing`: id i is entry i.")
    landmark_scheme: LandmarkScheme | None = Field(None, description="Numbering of `landmarks`.")
    crop: Crop | None = Field(None, description="How the images were cut out of their frames; None: they were not.")
    partitions: Partitions | None = Field(
        None,
        description="How the owners split the rows: each row's `sequence` is one of these names. None: they didn't.",
    )
    events: tuple[Event, ...] = Field((), description="What happened to the dataset since, in order.")
    licence: str = Field(description="Under which terms the rows may be used.")
    consent: str = Field(description="What the recorded people agreed to, or that no people are recorded.")

    @field_validator("tasks", "feature_names", "parsing_classes")
    @classmethod
    def _no_name_twice(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        seen: set[str] = set()
        for name in names or ():
            if name in seen:
                raise ValueError(f"names must be unique, but {name!r} comes twice")
            seen.add(name)
        return names

    @model_validator(mode="after")
    def _columns_are_described(self) -> Self:
        expected = tuple(column for column in COLUMNS if column in self.columns)
        if self.columns != expected or not set(REQUIRED_COLUMNS) <= set(self.columns):
            raise ValueError(
                f"columns must be some of {', '.join(COLUMNS)} in that order, with {' and '.join(REQUIRED_COLUMNS)}, "
                f"but got {', '.join(self.columns)}"
            )
        describes = {
            "features": self.feature_names,
            "parsing": self.parsing_classes,
            "landmarks": self.landmark_scheme,
        }
        for column, description in describes.items():
            if (column in self.columns) != bool(description):
                raise ValueError(f"column {column!r} and its description in the manifest must come together")
        if self.partitions is not None and "sequence" not in self.columns:
            raise ValueError("partitions are named in the column 'sequence', but there is none")
        return self


class Shard(_Frozen):
    """One Arrow IPC file of a dataset."""

    path: Annotated[str, Field(description="Relative to the dataset, with forward slashes.")]
    rows: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Sha256
    subjects: Annotated[tuple[Name, ...], Field(min_length=1, description="Sorted subjects of its rows.")]

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        inside = bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts
        if not inside or "\\" in path or ":" in path or "\0" in path or not path.endswith(SHARD_SUFFIX):
            raise ValueError(f"a shard's path must stay inside the dataset and end in {SHARD_SUFFIX}, but got {path!r}")
        return path


class Manifest(Description):
    """The whole manifest. `digest` covers every other field, and through the shards' checksums every byte of data."""

    schema_version: int
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    subject_count: Annotated[int, Field(ge=1)]
    row_count: Annotated[int, Field(ge=1)]
    digest: Sha256

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        rows = sum(shard.rows for shard in self.shards)
        subjects = len({subject for shard in self.shards for subject in shard.subjects})
        if (rows, subjects) != (self.row_count, self.subject_count):
            raise ValueError(
                f"the shards hold {rows} rows of {subjects} subjects, but the manifest says {self.row_count} rows of "
                f"{self.subject_count} subjects"
            )
        paths = [shard.path for shard in self.shards]
        if len(set(paths)) != len(paths):
            raise ValueError("a shard is listed twice")
        expected = canonical_digest(_stored(self.model_dump(mode="json", exclude={"digest"})))
        if self.digest != expected:
            raise ValueError(f"its digest is {self.digest}, but its contents give {expected}")
        return self

    def to_json(self) -> str:
        """The text of `manifest.json`: a function of the contents alone."""
        return json.dumps(_stored(self.model_dump(mode="json")), indent=1, ensure_ascii=False) + "\n"


def complete_manifest(description: Description, shards: Sequence[Shard]) -> Manifest:
    """Add the shards, the counts and the digest to a description (of which a manifest is one)."""
    fields = _stored(description.model_dump(mode="json", include=set(Description.model_fields)))
    fields["schema_version"] = SCHEMA_VERSION
    fields["shards"] = [shard.model_dump(mode="json") for shard in shards]
    fields["subject_count"] = len({subject for shard in shards for subject in shard.subjects})
    fields["row_count"] = sum(shard.rows for shard in shards)
    return Manifest(**fields, digest=canonical_digest(fields))


def _stored(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in _OPTIONAL or value != _OPTIONAL[name]}


def parse_manifest(data: bytes, place: str) -> Manifest:
    """Read a manifest's bytes; `place` is what error messages call it.

    Raises:
        DatasetError: not JSON, an unknown schema version, or any rule of `Manifest` broken.
    """
    try:
        fields = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{place} is not JSON ({error}); ingest the dataset again") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise DatasetError(
            f"{place} has schema version {version!r}, but this program reads version {SCHEMA_VERSION}; "
            "use the program that wrote it, or ingest the dataset again"
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise DatasetError(
            f"{place}: {field + ': ' if field else ''}{reason}; restore it from a copy, or ingest the dataset again"
        ) from error
