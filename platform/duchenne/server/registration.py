"""Puts recorded entries on their boards: judged once, ranked when a board changed, by a thread beside the requests."""

from __future__ import annotations

import logging
import threading

from duchenne.boards.board import WITHDRAWN_NOTE
from duchenne.records import Entry, RecordsError, RecordStore
from duchenne.records.board_rows import NewStanding, Standing
from duchenne.server.abandoned import Abandoned
from duchenne.server.ranking import rank_board
from duchenne.server.settings import Settings
from duchenne.server.truths import truth_of
from duchenne.server.verification import Verdict, judge, rejected, unverified

LOGGER = logging.getLogger("duchenne.server")
_RANKING_TRIES = 5


def register_entry(store: RecordStore, settings: Settings, entry: str) -> Standing:
    """Judge a recorded entry of a sweep and put it on its board; again, where something was missing before."""
    record = store.get_entry(entry)
    return store.put_standing(standing_of(record, judge_entry(store, settings, record)))


def judge_entry(store: RecordStore, settings: Settings, record: Entry) -> Verdict:
    """What the files of an entry say about it."""
    if record.verified == "rejected":
        return rejected("rejected when it was recorded")
    sweep = store.get_sweep(record.sweep)
    if (record.dataset_digest, record.folds_digest) != (sweep.dataset_digest, sweep.folds_digest):
        return rejected("an entry must be evaluated on its sweep's data and folds, but records others")
    return judge(
        record.predictions,
        settings.home,
        recorded=record.metrics,
        per_fold=record.per_fold,
        truth=lambda: truth_of(store, settings.home, sweep, settings.datasets),
        stream=f"{record.dataset_digest}|{record.folds_digest}",
        trials=record.trials,
    )


def standing_of(record: Entry, verdict: Verdict) -> NewStanding:
    """The line of a sweep's entry."""
    return NewStanding(
        entry=record.id,
        board_name=record.board,
        team=record.team,
        sweep=record.sweep,
        method=record.method,
        label=record.label,
        kind="sweep",
        status=verdict.status,
        reason=verdict.reason,
        numbers=verdict.numbers,
        cost_usd=record.cost_usd,
        gpu_hours=record.gpu_hours,
        trials=record.trials,
        resamples=verdict.resamples,
        created_at=record.created_at,
    )


def register_pending(store: RecordStore, settings: Settings) -> int:
    """Register every recorded entry that stands nowhere yet, and rank what changed; how many entries there were."""
    count = 0
    while pending := store.unplaced_entries():
        for entry in pending:
            try:
                register_entry(store, settings, entry)
            except RecordsError:
                raise
            except Exception:
                LOGGER.exception("entry %s can't be judged", entry)
                record = store.get_entry(entry)
                fault = unverified("the server failed on it; its log says why", record.metrics)
                store.put_standing(standing_of(record, fault))
            count += 1
    for truth in store.note_withdrawn(store.withdrawn_datasets(), WITHDRAWN_NOTE):
        # It names every subject, and one of them has asked to be forgotten.
        (settings.home / truth.path).unlink(missing_ok=True)
    rank_changed(store, settings)
    return count


def rank_changed(store: RecordStore, settings: Settings) -> None:
    """Rank the boards that changed since they were ranked; one that keeps changing is left to the next call."""
    for board in store.unranked_boards():
        for _ in range(_RANKING_TRIES):
            if rank_board(store, board, settings.ranked):
                break


class Registrar:
    """A thread that registers what sweeps have recorded, and ends those that lost their driver: every `poll_seconds`,
    and at once when it is woken.
    """

    def __init__(self, store: RecordStore, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._abandoned = Abandoned(store)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._store.forget_old_keys()
                self._abandoned.look()
                register_pending(self._store, self._settings)
            except RecordsError as error:
                LOGGER.warning("what was recorded is taken up later: %s", error)
            except Exception:
                LOGGER.exception("what was recorded can't be taken up")
            self._wake.wait(self._settings.poll_seconds)
