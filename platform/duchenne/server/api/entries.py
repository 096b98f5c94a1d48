"""One entry: what it reached, what it is made of, and how it compares."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from duchenne.boards import CountsError
from duchenne.records import PredictionFile, RecordsConflictError, RecordStore
from duchenne.records.board_rows import Standing
from duchenne.server import queries
from duchenne.server.access import Configured, Store, Who, require_writer
from duchenne.server.api.shapes import EntryLine
from duchenne.server.comparing import Comparison, compare, report
from duchenne.server.problems import Problem
from duchenne.server.registration import rank_changed, register_entry

router = APIRouter(tags=["entries"])


class EntryOut(BaseModel):
    """An entry with what stands behind it; see `docs/evaluation.md` for the metrics."""

    line: EntryLine
    config: dict[str, Any]
    metrics: dict[str, Any]
    per_fold: Any
    predictions: list[PredictionFile]
    dataset_digest: str
    folds_digest: str
    code_revision: str | None
    image: str | None
    dataset_uri: str | None
    description: str | None
    created_at: datetime


@router.get("/entries/{entry}")
def show_entry(entry: str, who: Who, store: Store) -> EntryOut:
    """One entry with its configuration, metrics, folds and lineage."""
    found = queries.entry(store, who, entry)
    return EntryOut(
        line=EntryLine.of(found.standing),
        config=dict(found.config),
        metrics=dict(found.metrics),
        per_fold=found.per_fold,
        predictions=list(found.predictions),
        dataset_digest=found.dataset_digest,
        folds_digest=found.folds_digest,
        code_revision=found.code_revision,
        image=found.image,
        dataset_uri=found.dataset_uri,
        description=found.description,
        created_at=found.standing.created_at,
    )


@router.get("/entries/{entry}/report")
def show_report(entry: str, who: Who, store: Store, settings: Configured) -> dict[str, Any]:
    """Every metric of every AU with its interval, as a mean of folds and pooled over them."""
    found: dict[str, Any] = _from_files(lambda: report(store, who, settings.home, entry))
    return found


@router.get("/entries/{entry}/compare/{other}")
def compare_entries(entry: str, other: str, who: Who, store: Store, settings: Configured) -> Comparison:
    """F1 of the first minus that of the second, paired by subject, and what differs in their configurations."""
    found: Comparison = _from_files(lambda: compare(store, who, settings.home, entry, other))
    return found


@router.post("/entries/{entry}/verification")
def verify_again(request: Request, entry: str, who: Who, store: Store, settings: Configured) -> EntryLine:
    """Judge a sweep's entry again, now that what was missing is there. Asked again, the answer is the same."""
    standing = _own(store, who, entry)
    if standing.kind != "sweep":
        raise RecordsConflictError(
            f"only a sweep's entry is judged again, but {entry} is external: it was judged when it came; leave it"
        )
    register_entry(store, settings, entry)
    rank_changed(store, settings)
    store.record_event("entry judged again", sweep=standing.sweep, actor=who.name, detail={"entry": entry})
    return EntryLine.of(store.standing(who.sight, entry))


def _own(store: RecordStore, who: Who, entry: str) -> Standing:
    standing = store.standing(who.sight, entry)
    require_writer(who, standing.team)
    return standing


def _from_files(read: Any) -> Any:
    try:
        return read()
    except FileNotFoundError as error:
        raise Problem(
            409, "an entry's predictions must be at hand, but a file is not; upload it, then ask again"
        ) from error
    except CountsError as error:
        raise Problem(409, f"an entry's predictions must be as recorded, but {error}") from error
