"""Boards and what stands on them, as they are written: part of `RecordStore`.

A standing is on one board: its team's own, or the public one of that name where the team published it. Whoever changes
standings locks the team's board first and the public one after it, so that nobody waits in a ring.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from duchenne.records import clean
from duchenne.records.board_models import BoardRow, ExternalRow, ResamplesRow, StandingRow, TruthRow
from duchenne.records.board_rows import Board, External, NewStanding, Standing, Truth, team_board
from duchenne.records.database import Database
from duchenne.records.models import EntryRow
from duchenne.records.standing_pages import to_board, to_standing, to_truth
from duchenne.records.teams import add_team, team_event

Ranks = Mapping[str, tuple[int, int]]
"""Entry -> the lowest and the highest rank that it may hold."""


@dataclass(frozen=True)
class RankedEntry:
    """What the ranks of an entry follow from: F1, whether it has an interval, and F1 on each resample."""

    entry: str
    f1: float
    has_interval: bool
    resamples: bytes


class StandingRecords:
    """Part of `RecordStore`: what the server puts on the boards."""

    database: Database

    def put_standing(self, new: NewStanding) -> Standing:
        """Put an entry on its board, or give one that stands there its new status and numbers."""
        with self.database.write() as session:
            return place_standing(self.database, session, new)

    def ensure_public_board(self, name: str) -> None:
        """A public board, if only for its reference rows."""
        with self.database.write() as session:
            _board(self.database, session, name, None)

    def publish_board(self, team: str, name: str, *, public: bool, actor: str) -> Board:
        """Put all of a team's entries of that board on the public one, or take them back; see `move_board`."""
        with self.database.write() as session:
            return move_board(self.database, session, team, name, public=public, actor=actor)

    def unplaced_entries(self, limit: int = 100) -> list[str]:
        """Recorded entries of sweeps that stand on no board yet, the oldest first."""
        statement = (
            select(EntryRow.id)
            .outerjoin(StandingRow, StandingRow.entry == EntryRow.id)
            .where(StandingRow.entry.is_(None))
            .order_by(EntryRow.created_at, EntryRow.id)
            .limit(limit)
        )
        with self.database.read() as session:
            return list(session.scalars(statement))

    def unranked_boards(self) -> list[str]:
        """Boards that changed since their ranks were computed."""
        statement = select(BoardRow.id).where(BoardRow.ranked_version < BoardRow.version).order_by(BoardRow.id)
        with self.database.read() as session:
            return list(session.scalars(statement))

    def ranking_input(self, board: str, best: int) -> tuple[int, dict[str, list[RankedEntry]]]:
        """(version, cohort -> its `best` verified entries, the highest F1 first)."""
        with self.database.read() as session:
            version = session.scalar(select(BoardRow.version).where(BoardRow.id == board)) or 0
            verified = (StandingRow.board == board, StandingRow.status == "verified", StandingRow.cohort.is_not(None))
            found: dict[str, list[RankedEntry]] = {}
            for cohort in session.scalars(select(StandingRow.cohort).where(*verified).distinct()):
                rows = session.execute(
                    select(StandingRow.entry, StandingRow.f1_mean, StandingRow.ci_low, ResamplesRow.f1)
                    .join(ResamplesRow, ResamplesRow.entry == StandingRow.entry)
                    .where(*verified, StandingRow.cohort == cohort, StandingRow.f1_mean.is_not(None))
                    .order_by(StandingRow.f1_mean.desc(), StandingRow.entry)
                    .limit(best)
                )
                found[str(cohort)] = [
                    RankedEntry(entry, f1, low is not None, samples)
                    for entry, f1, low, samples in rows
                    if f1 is not None
                ]
            return version, found

    def save_ranks(self, board: str, version: int, ranks: Ranks) -> bool:
        """Record the ranks computed for that version; False where the board has moved on, and nothing was written."""
        with self.database.write() as session:
            row = session.get(BoardRow, board, with_for_update=True)
            if row is None or row.version != version:
                return False
            ranked = and_(StandingRow.board == board, StandingRow.rank_low.is_not(None))
            held = {
                entry: (low, high)
                for entry, low, high in session.execute(
                    select(StandingRow.entry, StandingRow.rank_low, StandingRow.rank_high).where(ranked)
                )
            }
            changed: list[dict[str, Any]] = [
                {"entry": entry, "rank_low": low, "rank_high": high}
                for entry, (low, high) in ((name, ranks.get(name, (None, None))) for name in {*held, *ranks})
                if held.get(entry) != (low, high)
            ]
            if changed:
                session.execute(update(StandingRow), changed)
            row.ranked_version = version
            return True

    def note_withdrawn(self, datasets: Collection[str], note: str) -> list[Truth]:
        """Say so beside the standings of withdrawn datasets, and drop their labels: the files to delete."""
        if not datasets:
            return []
        of_them = select(EntryRow.id).where(EntryRow.dataset_digest.in_(datasets))
        uploaded = select(ExternalRow.entry).where(ExternalRow.dataset_digest.in_(datasets))
        stands = or_(StandingRow.entry.in_(of_them), StandingRow.entry.in_(uploaded))
        with self.database.write() as session:
            session.execute(update(StandingRow).where(stands, StandingRow.reason.is_(None)).values(reason=note))
            gone = select(TruthRow).where(TruthRow.dataset_digest.in_(datasets))
            truths = [to_truth(row) for row in session.scalars(gone)]
            session.execute(delete(TruthRow).where(TruthRow.dataset_digest.in_(datasets)))
            return truths

    def save_truth(self, truth: Truth) -> Truth:
        """Record the labels and folds of a dataset, once; what is on record, which may be another's."""
        with self.database.write() as session:
            values = {**asdict(truth), "created_at": self.database.now(session)}
            self.database.insert_once(session, TruthRow, values)
            return to_truth(session.get_one(TruthRow, (truth.dataset_digest, truth.folds_digest)))


def place_standing(
    database: Database, session: Session, new: NewStanding, external: External | None = None
) -> Standing:
    """See `StandingRecords.put_standing`; within a transaction."""
    own = _board(database, session, new.board_name, new.team)
    board = _board(database, session, new.board_name, None) if own.published else own
    now = database.now(session)
    row = session.get(StandingRow, new.entry)
    fresh = row is None
    if row is None:
        row = StandingRow(entry=new.entry, board=board.id, board_name=new.board_name, team=new.team, sweep=new.sweep)
        row.method, row.label, row.kind = new.method, clean.text(new.label) or "", new.kind
        row.created_at, row.on_frontier = new.created_at or now, False
        board.entries += 1
        session.add(row)
    row.status, row.reason = new.status, clean.text(new.reason)
    row.cost_usd, row.gpu_hours, row.trials = clean.number(new.cost_usd), clean.number(new.gpu_hours), new.trials
    for name, value in asdict(new.numbers).items():
        setattr(row, name, clean.finite(list(value) if name == "tasks" else value))
    board.version += 1
    session.flush()
    if new.resamples is not None:
        session.merge(ResamplesRow(entry=new.entry, f1=new.resamples))
    if external is not None:
        values = asdict(external) | {"predictions": [asdict(file) for file in external.predictions]}
        session.add(ExternalRow(**{name: clean.finite(value) for name, value in values.items()}))
    if fresh:
        _enter_frontier(session, row)
    else:
        renew_frontier(session, row.board)
    session.flush()
    return to_standing(row)


def move_board(database: Database, session: Session, team: str, name: str, *, public: bool, actor: str) -> Board:
    """Publish a team's board or take it back, with all its standings, and a line in the audit."""
    own = _board(database, session, name, team)
    if own.published != public:
        shared = _board(database, session, name, None)
        source, target = (own, shared) if public else (shared, own)
        moving = and_(StandingRow.team == team, StandingRow.board_name == name)
        count = session.scalar(select(func.count()).select_from(StandingRow).where(moving)) or 0
        session.execute(update(StandingRow).where(moving).values(board=target.id, rank_low=None, rank_high=None))
        source.entries, target.entries = source.entries - count, target.entries + count
        source.version, target.version = source.version + 1, target.version + 1
        own.published = public
        for board in (source, target):
            renew_frontier(session, board.id)
        what = "board published" if public else "board taken back"
        session.add(team_event(database.now(session), team, actor, what, {"board": name, "entries": count}))
        session.flush()
    return to_board(own)


def renew_frontier(session: Session, board: str) -> None:
    """Mark anew which entries of a board nobody undercuts."""
    columns = (StandingRow.entry, StandingRow.cost_usd, StandingRow.f1_mean)
    rows = session.execute(
        select(*columns)
        .where(StandingRow.board == board, *_comparable())
        .order_by(StandingRow.cost_usd, StandingRow.f1_mean.desc(), StandingRow.entry)
    )
    on, best = [], float("-inf")
    for entry, _, f1 in rows:
        if f1 is not None and f1 > best:
            best = f1
            on.append(entry)
    session.execute(
        update(StandingRow).where(StandingRow.board == board, StandingRow.on_frontier).values(on_frontier=False)
    )
    if on:
        session.execute(update(StandingRow), [{"entry": entry, "on_frontier": True} for entry in on])
    session.expire_all()


def _enter_frontier(session: Session, row: StandingRow) -> None:
    """One more entry: only the frontier itself has to be looked at, since whoever is undercut is undercut by it."""
    if row.status != "verified" or row.cost_usd is None or row.f1_mean is None:
        return
    held = and_(StandingRow.board == row.board, StandingRow.on_frontier, StandingRow.entry != row.entry)
    undercut = exists().where(held, StandingRow.cost_usd <= row.cost_usd, StandingRow.f1_mean >= row.f1_mean)
    if session.scalar(select(undercut)):
        return
    worse = and_(held, StandingRow.cost_usd >= row.cost_usd, StandingRow.f1_mean <= row.f1_mean)
    session.execute(update(StandingRow).where(worse).values(on_frontier=False))
    row.on_frontier = True


def _comparable() -> tuple[Any, ...]:
    return (StandingRow.status == "verified", StandingRow.cost_usd.is_not(None), StandingRow.f1_mean.is_not(None))


def _board(database: Database, session: Session, name: str, team: str | None) -> BoardRow:
    """The board, made now if it was not, and locked until the commit."""
    board = name if team is None else team_board(team, name)
    if team is not None:
        add_team(database, session, team, "server")
    values = {"id": board, "name": name, "team": team, "created_at": database.now(session)}
    database.insert_once(
        session, BoardRow, values | {"published": False, "version": 1, "ranked_version": 1, "entries": 0}
    )
    return session.get_one(BoardRow, board, with_for_update=True, populate_existing=True)
