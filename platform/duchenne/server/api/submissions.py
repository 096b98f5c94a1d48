"""Sweeps that run elsewhere, and what they send: themselves, their results, their predictions, their entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from duchenne.boards.columns import fold_row
from duchenne.records import (
    Amounts,
    Entry,
    FoldJobKey,
    NewEntry,
    NewSweep,
    PredictionFile,
    RecordsConflictError,
    RecordStore,
    Sweep,
)
from duchenne.records.board_models import StandingRow
from duchenne.records.entries import insert_entry
from duchenne.records.jobs import file_predictions, file_results
from duchenne.records.models import EventRow
from duchenne.records.standing_pages import to_standing
from duchenne.records.standings import place_standing
from duchenne.records.sweeps import ask_to_resume, ask_to_stop, insert_sweep, require_undriven
from duchenne.server import queries
from duchenne.server.access import Configured, Store, Viewer, Who, require_writer
from duchenne.server.api.shapes import EntryIn, EntryLine, Method, ResultIn, ResultsIn, SweepIn, Written
from duchenne.server.api.sweeps import ResumeAsked, SweepOut
from duchenne.server.once import Key, do_once, request_digest
from duchenne.server.problems import Problem
from duchenne.server.received import keep_predictions, restore_predictions
from duchenne.server.registration import judge_entry, rank_changed, standing_of
from duchenne.server.settings import Settings
from duchenne.server.spooling import Spooled, spooled
from duchenne.spec import Sweep as SweepSpec
from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.evaluation import read_predictions

router = APIRouter(tags=["submissions"])
Fold = Annotated[int, PathParameter(ge=0, le=1000)]
Seed = Annotated[int, PathParameter(ge=0, lt=2**32)]
_ARROW = "application/vnd.apache.arrow.file"
_PREDICTIONS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The prediction file of one test fold and seed, as `docs/evaluation.md` describes it.",
        "content": {_ARROW: {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/sweeps", status_code=201, response_model=SweepOut)
def register_sweep(request: Request, body: SweepIn, who: Who, store: Store, key: Key = None) -> Response:
    """Record a sweep that runs where these records are not. Needs the role submitter in its team."""
    require_writer(who, body.team)
    new = _new_sweep(body)

    def effect(session: Session) -> tuple[int, SweepOut]:
        sweep = insert_sweep(store.database, session, new)
        session.add(_event(store, session, sweep.id, who, "sweep registered", {"spec": new.spec_digest}))
        return 201, SweepOut.of(sweep)

    return do_once(store, who, key, request_digest(request, body), effect)


@router.post("/sweeps/{sweep}/results", status_code=201, response_model=Written)
def send_results(request: Request, sweep: str, body: ResultsIn, who: Who, store: Store, key: Key = None) -> Response:
    """File results of a sweep that runs elsewhere, each once, however often they are sent."""
    found = _own(store, who, sweep)
    rows = [(_key(found.id, item), item.epoch, item.attempt, item.metrics) for item in body.results]

    def effect(session: Session) -> tuple[int, Written]:
        require_undriven(store.database, session, found.id)
        written = file_results(store.database, session, rows)
        session.add(_event(store, session, found.id, who, "results filed", {"received": len(rows), "new": written}))
        return 201, Written(received=len(rows), written=written)

    return do_once(store, who, key, request_digest(request, body), effect)


@router.put(
    "/sweeps/{sweep}/predictions/{method}/{fold}/{seed}", response_model=PredictionFile, openapi_extra=_PREDICTIONS
)
async def send_predictions(
    request: Request,
    sweep: str,
    method: Annotated[Method, PathParameter()],
    fold: Fold,
    seed: Seed,
    who: Who,
    store: Store,
    settings: Configured,
    trial: Annotated[
        int | None, Query(ge=0, lt=2**31, description="The trial that was selected; none of a comparator.")
    ] = None,
) -> PredictionFile:
    """Keep the test-fold predictions of a sweep. Sent again, nothing changes; others for the same fold are refused."""
    found = await run_in_threadpool(_own, store, who, sweep)
    async with spooled(request, settings.home) as body:
        key = FoldJobKey(
            sweep=found.id, trial=trial, phase="evaluation", method=method, fold=fold, inner=None, seed=seed
        )
        return await run_in_threadpool(_keep, store, settings, who, key, body)


@router.post("/sweeps/{sweep}/entries", status_code=201, response_model=EntryLine)
def register_entry(
    request: Request, sweep: str, body: EntryIn, who: Who, store: Store, settings: Configured, key: Key = None
) -> Response:
    """Make an entry of the predictions that were sent; its numbers come from them, and from nothing else."""
    found = _own(store, who, sweep)
    new = _new_entry(store, settings.home, found, body)
    draft = Entry(
        **{**vars(new), "config": dict(new.config), "metrics": dict(new.metrics)},
        id=f"{found.id}.{body.method}",
        created_at=found.created_at,
    )
    verdict = judge_entry(store, settings, draft)

    def effect(session: Session) -> tuple[int, EntryLine]:
        require_undriven(store.database, session, found.id)
        metrics = verdict.metrics or new.metrics
        entry = insert_entry(
            store.database, session, NewEntry(**(vars(new) | {"verified": verdict.status, "metrics": metrics}))
        )
        known = session.get(StandingRow, entry.id)
        if known is not None:
            return 201, EntryLine.of(to_standing(known))  # sent again: it stands as it was judged
        placed = place_standing(store.database, session, standing_of(entry, verdict))
        detail = {"entry": entry.id, "status": verdict.status}
        session.add(_event(store, session, found.id, who, "entry registered", detail))
        return 201, EntryLine.of(placed)

    answer = do_once(store, who, key, request_digest(request, body), effect)
    rank_changed(store, settings)
    return answer


@router.post("/sweeps/{sweep}/stop", status_code=202, response_model=SweepOut)
def stop(request: Request, sweep: str, who: Who, store: Store, key: Key = None) -> Response:
    """Ask a sweep to stop: its driver ends at the next lease, and what is done stays. Needs the role submitter."""
    return _asked(request, store, who, sweep, key, ask_to_stop)


@router.post("/sweeps/{sweep}/resume", status_code=202, response_model=ResumeAsked)
def resume(request: Request, sweep: str, who: Who, store: Store, key: Key = None) -> Response:
    """Put on record that a sweep shall go on. Nothing starts by that, on whatever cluster it ran: this server starts no
    driver, and `next` says which command does. Needs submitter.
    """
    return _asked(request, store, who, sweep, key, ask_to_resume, ResumeAsked)


def _asked(
    request: Request,
    store: RecordStore,
    who: Viewer,
    sweep: str,
    key: str | None,
    ask: Callable[..., Sweep],
    answer: type[SweepOut] = SweepOut,
) -> Response:
    found = _own(store, who, sweep)
    return do_once(
        store,
        who,
        key,
        request_digest(request, None),
        lambda session: (202, answer.of(ask(store.database, session, found.id, who.name))),
    )


def _own(store: RecordStore, who: Viewer, sweep: str) -> Sweep:
    """The sweep, if the viewer may write for its team; 401 before 404, so that nobody learns which there are."""
    if who.how == "anonymous":
        require_writer(who, "")
    found = queries.sweep(store, who, sweep)
    require_writer(who, found.team)
    return found


def _new_sweep(body: SweepIn) -> NewSweep:
    try:
        spec = SweepSpec.model_validate(body.spec)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Problem(422, f"spec: {where}: {first['msg']}; see docs/spec.md, and correct it") from error
    if spec.metadata.team != body.team:
        raise Problem(422, f"the team must be the spec's, {spec.metadata.team}, but got {body.team}; send one of them")
    plain = spec.model_dump(mode="json")
    return NewSweep(
        name=spec.metadata.name,
        team=body.team,
        board=spec.board,
        spec=plain,
        spec_text=body.spec_text,
        spec_digest=canonical_digest(plain),
        dataset_uri=spec.data.uri,
        dataset_digest=body.dataset_digest,
        folds_digest=body.folds_digest,
        code_revision=body.code_revision,
        image=body.image,
        budget=_budget(spec),
    )


def _budget(spec: SweepSpec) -> Amounts:
    hours = spec.budget.gpu_hours
    seconds = None if hours is None else hours * 3600
    return Amounts(usd=spec.budget.usd, gpu_seconds=seconds, wall_seconds=spec.budget.wall_seconds)


def _key(sweep: str, item: ResultIn) -> FoldJobKey:
    return FoldJobKey(
        sweep=sweep,
        trial=item.trial,
        phase=item.phase,
        method=item.method,
        fold=item.fold,
        inner=item.inner,
        seed=item.seed,
    )


def _keep(store: RecordStore, settings: Settings, who: Viewer, key: FoldJobKey, body: Spooled) -> PredictionFile:
    """Write the predictions as this server does, and record them; a lost file of an entry comes back as it was."""
    detail = {"method": key.method, "fold": key.fold, "seed": key.seed, "digest": body.digest}
    lost = restore_predictions(store, settings.home, key, body)
    if lost is not None:
        store.record_event("predictions restored", sweep=key.sweep, actor=who.name, detail=detail)
        return lost
    file = keep_predictions(settings.home, key, body)
    with store.database.write() as session:
        require_undriven(store.database, session, key.sweep)
        job = file_predictions(store.database, session, key, file.path, file.digest)
        session.add(_event(store, session, key.sweep, who, "predictions sent", detail))
    return PredictionFile(fold=key.fold, seed=key.seed, path=str(job.predictions), digest=str(job.predictions_digest))


def _new_entry(store: RecordStore, home: Path, sweep: Sweep, body: EntryIn) -> NewEntry:
    jobs = [job for job in store.fold_jobs(sweep.id, phase="evaluation") if job.key.method == body.method]
    sent = [job for job in jobs if job.predictions and job.predictions_digest]
    if not sent or sweep.dataset_digest is None or sweep.folds_digest is None:
        raise RecordsConflictError(
            f"an entry needs the predictions of its test folds, but none of {body.method} is here; send them first"
        )
    files = tuple(
        PredictionFile(
            fold=job.key.fold, seed=job.key.seed, path=str(job.predictions), digest=str(job.predictions_digest)
        )
        for job in sent
    )
    per_fold = []
    for job, file in zip(sent, files, strict=True):
        try:
            rows = read_predictions(home / file.path)
        except (FileNotFoundError, ValueError) as error:
            raise RecordsConflictError(
                f"the predictions of fold {file.fold}, seed {file.seed} must be at hand, but they are not; send them"
            ) from error
        per_fold.append(fold_row(file.fold, file.seed, -1, rows, None) | {"trial": job.key.trial})
    return NewEntry(
        board=sweep.board,
        team=sweep.team,
        sweep=sweep.id,
        method=body.method,
        label=body.label,
        config=body.config,
        verified="unverified",
        metrics=body.metrics,
        per_fold=per_fold,
        predictions=files,
        dataset_digest=sweep.dataset_digest,
        folds_digest=sweep.folds_digest,
        cost_usd=body.cost_usd,
        gpu_hours=body.gpu_hours,
        trials=body.trials,
    )


def _event(
    store: RecordStore, session: Session, sweep: str, who: Viewer, what: str, detail: dict[str, Any]
) -> EventRow:
    return EventRow(at=store.database.now(session), sweep=sweep, actor=who.name, what=what, detail=detail)
