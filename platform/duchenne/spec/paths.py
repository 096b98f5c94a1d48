"""Dotted paths below `model`, `loss` and `training`: which exist, what stands there, how a value is put there."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from duchenne_jobs.config import RunConfig

TargetKind = Literal["section", "whole number", "number", "other"]


@dataclass(frozen=True)
class Target:
    """What a dotted path names: a section of the configuration, or a field of one."""

    path: str
    kind: TargetKind
    section: type[BaseModel]
    """The section itself, or the one that holds the field."""
    description: str


@cache
def targets() -> Mapping[str, Target]:
    """Every path that a search may vary, sections included, in the order of the models."""
    return {target.path: target for target in _below(RunConfig, "")}


def _below(section: type[BaseModel], prefix: str) -> Iterator[Target]:
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        inner = section_class(field.annotation)
        if inner is not None:
            yield Target(path, "section", inner, field.description or "")
            yield from _below(inner, f"{path}.")
        else:
            yield Target(path, _kind(field.annotation), section, field.description or "")


def unwrapped(annotation: object) -> tuple[object, ...]:
    """The alternatives of an annotation, without None, `Annotated` and nested unions."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return unwrapped(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return tuple(inner for part in get_args(annotation) for inner in unwrapped(part))
    return () if annotation is NoneType else (annotation,)


def section_class(annotation: object) -> type[BaseModel] | None:
    """The model class of a field that holds one section, None for any other field."""
    parts = unwrapped(annotation)
    if len(parts) == 1 and isinstance(parts[0], type) and issubclass(parts[0], BaseModel):
        return parts[0]
    return None


def _kind(annotation: object) -> TargetKind:
    parts = set(unwrapped(annotation))
    if parts == {int}:
        return "whole number"
    return "number" if parts in ({float}, {int, float}) else "other"


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that a typo most likely meant."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def nearest_target(path: str) -> str | None:
    """The searchable path that `path` most likely meant; a bare field name finds its full path."""
    known = list(targets())
    ends = [candidate for candidate in known if candidate.endswith(f".{path}")]
    if ends:
        return min(ends, key=len)
    close = nearest(path, known)
    if close is not None:
        return close
    last = nearest(path.rsplit(".", 1)[-1], [candidate.rsplit(".", 1)[-1] for candidate in known])
    return next((candidate for candidate in known if last and candidate.rsplit(".", 1)[-1] == last), None)


def put(tree: dict[str, object], path: str, value: object) -> None:
    """Sets the value at a dotted path of nested dicts, in place. The sections on the way must exist."""
    *sections, last = path.split(".")
    for section in sections:
        inner = tree[section]
        if not isinstance(inner, dict):
            raise TypeError(f"{path}: {section} must be a section, but got {inner!r}; vary the section as a whole")
        tree = inner
    tree[last] = value


def get(tree: Mapping[str, object], path: str) -> object:
    """The value at a dotted path of nested mappings."""
    value: object = tree
    for part in path.split("."):
        if not isinstance(value, Mapping):
            raise TypeError(f"{path}: {part} must lie in a section, but got {value!r}")
        value = value[part]
    return value
