"""Numbers that papers have published: reference rows beside our own, never among them."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, model_validator

from duchenne_jobs.config import Config

Percent = Annotated[float, Field(ge=0.0, le=100.0)]


class PublishedRow(Config):
    """One line of a published table, in percent.

    Attributes:
        method: as the table names it.
        entry: method of our entry that reproduces it; by default `method` as a slug.
        value: the table's mean over tasks.
        spread: what it prints after the plus-minus sign, None where it prints nothing.
        tasks: the columns before the mean.
        identity: runs that found the identity order (table 2.1).
        note: what a reader must know before comparing.
    """

    method: str
    entry: str | None = None
    value: Percent
    spread: Percent | None = None
    tasks: tuple[Percent, ...] = ()
    identity: int | None = None
    note: str | None = None

    @property
    def key(self) -> str:
        """Method of our entry that stands beside this row."""
        return self.entry or re.sub(r"[^a-z0-9]+", "-", self.method.lower()).strip("-")


class PublishedTable(Config):
    """A published table, or the part of it that is about one dataset.

    Attributes:
        table: its number in the thesis, or `since`.
        metric: `accuracy` or `f1`, the mean over tasks (of F1: also over folds).
        columns: names of the tasks behind `PublishedRow.tasks`.
        runs: runs behind each number, where the table says so.
    """

    table: str
    source: str
    dataset: str
    metric: Literal["accuracy", "f1"]
    columns: tuple[str, ...] = ()
    runs: int | None = None
    rows: tuple[PublishedRow, ...]

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        for row in self.rows:
            if row.tasks and len(row.tasks) != len(self.columns):
                raise ValueError(f"{self.source}: {row.method} must have {len(self.columns)} tasks, got {row.tasks}")
        return self


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Every table of `published.yaml`, in its order."""
    text = files("duchenne.boards").joinpath("published.yaml").read_text(encoding="utf-8")
    return tuple(PublishedTable.model_validate(table) for table in yaml.safe_load(text)["tables"])
