"""The tables of the server: who may do what, and the boards as they are shown.

`standing` is what a board page reads: one row an entry, with every number computed once, when it was registered. Each
column that a board is sorted by has an index that ends in the entry, which pages continue from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from duchenne.records.models import Base

SORTED_BY = ("f1_mean", "f1_deflated", "auc", "cost_usd", "gpu_hours", "trials", "created_at")
"""Columns of `standing` by which a board can be sorted."""

FILTERED_BY = ["team", "method", "status", "kind", "cost_usd", "created_at", "on_frontier"]
"""Columns that a board can be filtered by: PostgreSQL finds them in the index, and reads no row that is left out."""


class TeamRow(Base):
    __tablename__ = "team"

    name: Mapped[str] = mapped_column(primary_key=True)
    usd_per_month: Mapped[float | None]
    gpu_hours_per_month: Mapped[float | None]
    created_at: Mapped[datetime]


class MemberRow(Base):
    """`who` is the e-mail address that the identity provider vouches for, in lower case."""

    __tablename__ = "member"
    __table_args__ = (Index(None, "who"),)

    team: Mapped[str] = mapped_column(ForeignKey("team.name"), primary_key=True)
    who: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    created_at: Mapped[datetime]


class TokenRow(Base):
    """`id` finds the row, `secret_hash` (argon2) checks the rest. Without a team, it holds for every team."""

    __tablename__ = "token"
    __table_args__ = (Index(None, "team"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[str]
    name: Mapped[str]
    team: Mapped[str | None] = mapped_column(ForeignKey("team.name"))
    role: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class IdempotencyRow(Base):
    """The answer that a write got, kept so that the same key gets it again."""

    __tablename__ = "idempotency"
    __table_args__ = (Index(None, "created_at"),)

    actor: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[str]
    status: Mapped[int]
    body: Mapped[Any] = mapped_column(JSON)
    created_at: Mapped[datetime]


class BoardRow(Base):
    """A team's board (`TEAM.NAME`), or the public one of that name (`NAME`), on which teams may publish theirs.

    `version` counts changes of its standings, `ranked_version` is the one that the ranks were computed for.
    """

    __tablename__ = "board"
    __table_args__ = (Index(None, "team"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    team: Mapped[str | None]
    published: Mapped[bool]
    version: Mapped[int]
    ranked_version: Mapped[int]
    entries: Mapped[int]
    created_at: Mapped[datetime]


class StandingRow(Base):
    __tablename__ = "standing"
    __table_args__ = (
        *(Index(None, "board", column, "entry", postgresql_include=FILTERED_BY) for column in SORTED_BY),
        Index(None, "board", "team", "f1_mean"),
        Index(None, "board", "method", "f1_mean"),
        Index(None, "board", "on_frontier"),
        Index(None, "team", "board_name"),
        Index(None, "sweep"),
    )

    entry: Mapped[str] = mapped_column(primary_key=True)
    board: Mapped[str] = mapped_column(ForeignKey("board.id"))
    board_name: Mapped[str]
    team: Mapped[str]
    sweep: Mapped[str | None] = mapped_column(ForeignKey("sweep.id"))
    method: Mapped[str]
    label: Mapped[str]
    kind: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str | None]
    cohort: Mapped[str | None]
    f1_mean: Mapped[float | None]
    ci_low: Mapped[float | None]
    ci_high: Mapped[float | None]
    f1_deflated: Mapped[float | None]
    rank_low: Mapped[int | None]
    rank_high: Mapped[int | None]
    auc: Mapped[float | None]
    f1_micro: Mapped[float | None]
    subset_accuracy: Mapped[float | None]
    log_loss: Mapped[float | None]
    accuracy: Mapped[float | None]
    f1_pooled: Mapped[float | None]
    auc_pooled: Mapped[float | None]
    calibration_error: Mapped[float | None]
    f1_inner_threshold: Mapped[float | None]
    f1_oracle: Mapped[float | None]
    cost_usd: Mapped[float | None]
    gpu_hours: Mapped[float | None]
    trials: Mapped[int | None]
    seeds: Mapped[int | None]
    subjects: Mapped[int | None]
    on_frontier: Mapped[bool]
    tasks: Mapped[list[dict[str, Any]]]
    created_at: Mapped[datetime]


class ResamplesRow(Base):
    """F1 of an entry on each bootstrap resample (little-endian float64): what pairs are compared by."""

    __tablename__ = "resamples"

    entry: Mapped[str] = mapped_column(ForeignKey("standing.entry"), primary_key=True)
    f1: Mapped[bytes] = mapped_column(LargeBinary)


class ExternalRow(Base):
    """An entry that came as predictions alone."""

    __tablename__ = "external_entry"

    entry: Mapped[str] = mapped_column(ForeignKey("standing.entry"), primary_key=True)
    description: Mapped[str]
    upload_digest: Mapped[str]
    uploaded_by: Mapped[str]
    dataset_digest: Mapped[str]
    folds_digest: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    per_fold: Mapped[Any] = mapped_column(JSON)
    predictions: Mapped[list[dict[str, Any]]]


class TruthRow(Base):
    """Labels and folds of a dataset's frames, in a file: what predictions are checked against."""

    __tablename__ = "truth"

    dataset_digest: Mapped[str] = mapped_column(primary_key=True)
    folds_digest: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str]
    digest: Mapped[str]
    created_at: Mapped[datetime]
