"""The tables. A change here needs a migration beside it: a test compares the two.

Money and seconds of leases are integers (nano-dollars, milliseconds), so that sums are exact on every database and a
limit can't be crossed by rounding. Everything else is what `duchenne.records.rows` says.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NO_TRIAL = -1
NO_INNER = -1
"""Stored for "none", since NULLs are never equal in a unique key."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in, aware UTC datetimes out. SQLite stores them without a zone, always as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a recorded time must know its zone, but got {value.isoformat()}; use datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        str: Text(),
        dict[str, Any]: JSON(),
        list[dict[str, Any]]: JSON(),
    }


class SweepRow(Base):
    __tablename__ = "sweep"
    __table_args__ = (Index(None, "board"), Index(None, "created_at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    team: Mapped[str]
    board: Mapped[str]
    state: Mapped[str]
    spec: Mapped[dict[str, Any]]
    spec_text: Mapped[str]
    spec_digest: Mapped[str]
    dataset_uri: Mapped[str]
    dataset_digest: Mapped[str | None]
    folds_digest: Mapped[str | None]
    code_revision: Mapped[str | None]
    image: Mapped[str | None]
    budget_usd: Mapped[float | None]
    budget_gpu_seconds: Mapped[float | None]
    budget_wall_seconds: Mapped[float | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    error: Mapped[str | None]
    stop_requested: Mapped[bool]
    lock_token: Mapped[str | None]
    lock_holder: Mapped[str | None]
    lock_since: Mapped[datetime | None]
    lock_expires_at: Mapped[datetime | None]


class TrialRow(Base):
    __tablename__ = "trial"

    sweep: Mapped[str] = mapped_column(ForeignKey("sweep.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    config: Mapped[dict[str, Any]]
    state: Mapped[str]
    value: Mapped[float | None]
    rung: Mapped[int]
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class FoldJobRow(Base):
    __tablename__ = "fold_job"
    __table_args__ = (
        UniqueConstraint("sweep", "trial", "phase", "method", "fold", "inner", "seed", name="uq_fold_job_key"),
        Index(None, "sweep", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sweep: Mapped[str] = mapped_column(ForeignKey("sweep.id"))
    trial: Mapped[int]
    phase: Mapped[str]
    method: Mapped[str]
    fold: Mapped[int]
    inner: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str]
    attempts: Mapped[int]
    error: Mapped[str | None]
    predictions: Mapped[str | None]
    predictions_digest: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class AttemptRow(Base):
    __tablename__ = "attempt"
    __table_args__ = (UniqueConstraint("fold_job", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    fold_job: Mapped[int] = mapped_column(ForeignKey("fold_job.id"))
    number: Mapped[int]
    worker: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[str | None]
    seconds: Mapped[float | None]
    epochs: Mapped[int | None]


class ResultRecord(Base):
    __tablename__ = "result"

    fold_job: Mapped[int] = mapped_column(ForeignKey("fold_job.id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class LeaseRow(Base):
    __tablename__ = "lease"
    __table_args__ = (Index(None, "sweep", "settled_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sweep: Mapped[str] = mapped_column(ForeignKey("sweep.id"))
    holder: Mapped[str]
    kind: Mapped[str]
    resource: Mapped[dict[str, Any]]
    reserved_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    reserved_gpu_ms: Mapped[int | None] = mapped_column(BigInteger)
    reserved_wall_ms: Mapped[int | None] = mapped_column(BigInteger)
    spent_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    spent_gpu_ms: Mapped[int | None] = mapped_column(BigInteger)
    spent_wall_ms: Mapped[int | None] = mapped_column(BigInteger)
    opened_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    wasted: Mapped[bool]
    # Settled because it ran out: its holder has not said what it spent.
    presumed: Mapped[bool] = mapped_column(server_default=false())


class AccountRow(Base):
    """Sums over the leases of a sweep, in their units; NULL where none of them counts the unit."""

    __tablename__ = "account"

    sweep: Mapped[str] = mapped_column(ForeignKey("sweep.id"), primary_key=True)
    open_leases: Mapped[int]
    reserved_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    reserved_gpu_ms: Mapped[int | None] = mapped_column(BigInteger)
    reserved_wall_ms: Mapped[int | None] = mapped_column(BigInteger)
    spent_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    spent_gpu_ms: Mapped[int | None] = mapped_column(BigInteger)
    spent_wall_ms: Mapped[int | None] = mapped_column(BigInteger)
    wasted_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    wasted_gpu_ms: Mapped[int | None] = mapped_column(BigInteger)
    wasted_wall_ms: Mapped[int | None] = mapped_column(BigInteger)


class AccountMonthRow(Base):
    """What the leases of a sweep spent that were settled in a calendar month (UTC), such as "2026-11"."""

    __tablename__ = "account_month"

    sweep: Mapped[str] = mapped_column(ForeignKey("sweep.id"), primary_key=True)
    month: Mapped[str] = mapped_column(primary_key=True)
    spent_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    spent_gpu_ms: Mapped[int | None] = mapped_column(BigInteger)
    spent_wall_ms: Mapped[int | None] = mapped_column(BigInteger)


class EntryRow(Base):
    __tablename__ = "entry"
    __table_args__ = (UniqueConstraint("sweep", "method"), Index(None, "board"))

    id: Mapped[str] = mapped_column(primary_key=True)
    board: Mapped[str]
    team: Mapped[str]
    sweep: Mapped[str] = mapped_column(ForeignKey("sweep.id"))
    method: Mapped[str]
    label: Mapped[str]
    config: Mapped[dict[str, Any]]
    verified: Mapped[str]
    metrics: Mapped[dict[str, Any]]
    per_fold: Mapped[Any] = mapped_column(JSON)
    predictions: Mapped[list[dict[str, Any]]]
    dataset_digest: Mapped[str]
    folds_digest: Mapped[str]
    cost_usd: Mapped[float | None]
    gpu_hours: Mapped[float | None]
    trials: Mapped[int | None]
    created_at: Mapped[datetime]


class EventRow(Base):
    __tablename__ = "event"
    __table_args__ = (Index(None, "sweep", "at"), Index(None, "team", "id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    sweep: Mapped[str | None] = mapped_column(ForeignKey("sweep.id"))
    actor: Mapped[str]
    what: Mapped[str]
    detail: Mapped[dict[str, Any]]
    team: Mapped[str | None]
