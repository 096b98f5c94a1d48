"""External entries: predictions of a model that no sweep here trained, put on the board beside those that one did."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from duchenne.boards.columns import fold_row
from duchenne.records import PredictionFile, RecordsConflictError, RecordStore
from duchenne.records.board_rows import Board, External, NewStanding, Truth, team_board
from duchenne.records.standings import place_standing
from duchenne.records.teams import team_event
from duchenne.server import queries
from duchenne.server.access import Configured, Store, Viewer, Who, require_writer
from duchenne.server.api.shapes import Amount, Count, EntryLine, Line, Method, Shape
from duchenne.server.external import ARROW_TYPES, CSV_TYPES, UploadRefused, read_upload
from duchenne.server.frames import Frames
from duchenne.server.once import Key, do_once, request_digest, response_of
from duchenne.server.problems import Problem
from duchenne.server.registration import rank_changed
from duchenne.server.settings import Settings
from duchenne.server.spooling import Spooled, spooled
from duchenne.server.truths import NoTruth, read_truth
from duchenne.server.verification import judge_predictions
from duchenne.spec.sections import Slug
from duchenne_jobs.evaluation import Predictions, write_predictions

router = APIRouter(tags=["entries"])
_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One row a frame of the test folds: subject, sequence, frame and a column for each AU.",
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}} for media in sorted(CSV_TYPES | ARROW_TYPES)
        },
    }
}


class UploadIn(Shape):
    """Whose entry an upload is, and what the board says of it."""

    team: Annotated[Slug, Field(description="The team whose entry it is: one of yours.")]
    method: Annotated[Method, Field(description="What the board calls the method.")]
    label: Line | None = Field(None, description="The line that people read; the method without it.")
    description: Annotated[str, Field(max_length=2000)] = ""
    trials: Count | None = Field(None, description="Configurations that were tried before this one.")
    cost_usd: Amount | None = None
    gpu_hours: Amount | None = None


@router.post("/boards/{board}/entries", status_code=201, response_model=EntryLine, openapi_extra=_SCHEMA)
async def upload_entry(
    request: Request,
    board: str,
    what: Annotated[UploadIn, Query()],
    who: Who,
    store: Store,
    settings: Configured,
    key: Key = None,
) -> Response:
    """Put predictions of a model that was trained elsewhere on a board; the server computes every number from them.

    The board needs a verified entry of a sweep: its dataset's labels are what the predictions are compared with. On a
    public board it stands only if the team has published its own board of that name.
    """
    target = await run_in_threadpool(_target, store, who, what.team, board)
    async with spooled(request, settings.home) as body:
        return await run_in_threadpool(_register, request, store, settings, who, target, what, body, key)


def _target(store: RecordStore, who: Viewer, team: str, board: str) -> tuple[Board, Truth]:
    """The board and its labels, before anything of the body is read."""
    require_writer(who, team)
    found = queries.board(store, who, board)
    own = team_board(team, found.name)
    if found.team is not None and found.id != own:
        raise Problem(404, f"an entry of team {team} stands on {own}, or on a public board, but not there; correct it")
    if found.team is None and not store.is_published(team, found.name):
        raise RecordsConflictError(
            f"an entry stands on a public board once its team has published its own, but {own} is not published; "
            "publish it, or upload to it"
        )
    truths = store.truths_of_board(found.id)
    if not truths:
        raise RecordsConflictError(
            f"predictions are compared with the labels behind a verified entry of a sweep, but {board} has none yet; "
            "run a sweep on that board first"
        )
    return found, truths[0]


def _register(
    request: Request,
    store: RecordStore,
    settings: Settings,
    who: Viewer,
    target: tuple[Board, Truth],
    what: UploadIn,
    body: Spooled,
    key: str | None,
) -> Response:
    digest = request_digest(request, f"{body.media} {body.digest}")
    if key is not None and (earlier := store.earlier_answer(who.name, key, digest)) is not None:
        return response_of(earlier)
    board, kept = target
    try:
        frames = read_truth(settings.home, kept)
        predictions = read_upload(body.path, body.media, frames)
    except UploadRefused as error:
        raise Problem(422, str(error)) from error
    except NoTruth as error:
        raise RecordsConflictError(str(error)) from error
    entry = f"external-{secrets.token_hex(4)}.{what.method}"
    folder = Path("uploads") / entry
    try:
        files = _written(settings.home, folder, predictions)
        answer = do_once(
            store, who, key, digest, _effect(store, who, board, kept, frames, what, body, entry, files, predictions)
        )
    except BaseException:
        shutil.rmtree(settings.home / folder, ignore_errors=True)
        raise
    if "idempotency-replayed" in answer.headers:
        shutil.rmtree(settings.home / folder, ignore_errors=True)
    rank_changed(store, settings)
    return answer


def _written(home: Path, folder: Path, predictions: dict[tuple[int, int], Predictions]) -> tuple[PredictionFile, ...]:
    files = []
    for (fold, seed), rows in sorted(predictions.items()):
        path = folder / f"fold{fold}-seed{seed}.arrow"
        files.append(
            PredictionFile(fold=fold, seed=seed, path=str(path), digest=write_predictions(home / path, rows, {}))
        )
    return tuple(files)


def _effect(
    store: RecordStore,
    who: Viewer,
    board: Board,
    kept: Truth,
    frames: Frames,
    what: UploadIn,
    body: Spooled,
    entry: str,
    files: tuple[PredictionFile, ...],
    predictions: dict[tuple[int, int], Predictions],
) -> Callable[[Session], tuple[int, EntryLine]]:
    """Judge now, outside of the transaction; what is returned only writes."""
    verdict = judge_predictions(
        predictions,
        recorded={},
        thresholds={},
        truth=lambda: frames,
        stream=f"{kept.dataset_digest}|{kept.folds_digest}",
        trials=what.trials,
    )
    standing = NewStanding(
        entry=entry,
        board_name=board.name,
        team=what.team,
        sweep=None,
        method=what.method,
        label=what.label or what.method,
        kind="external",
        status=verdict.status,
        reason=verdict.reason,
        numbers=verdict.numbers,
        cost_usd=what.cost_usd,
        gpu_hours=what.gpu_hours,
        trials=what.trials,
        resamples=verdict.resamples,
    )
    external = External(
        entry=entry,
        description=what.description,
        upload_digest=body.digest,
        uploaded_by=who.name,
        dataset_digest=kept.dataset_digest,
        folds_digest=kept.folds_digest,
        metrics=verdict.metrics,
        per_fold=[
            fold_row(fold, seed, -1, rows, None) | {"trial": None} for (fold, seed), rows in sorted(predictions.items())
        ],
        predictions=files,
    )

    def effect(session: Session) -> tuple[int, EntryLine]:
        placed = place_standing(store.database, session, standing, external)
        detail = {"entry": entry, "board": placed.board, "digest": body.digest, "bytes": body.size}
        session.add(team_event(store.database.now(session), what.team, who.name, "entry uploaded", detail))
        return 201, EntryLine.of(placed)

    return effect
