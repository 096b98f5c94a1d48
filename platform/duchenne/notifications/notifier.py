"""Tells webhooks beside the sweep: a thread for each, so that neither a sweep nor another webhook waits for one."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from duchenne.notifications.delivery import DeliveryError, Parcel, Patience, deliver
from duchenne.notifications.messages import Happening, body_of
from duchenne.notifications.webhooks import Webhook, load_webhooks
from duchenne.records import Entry, RecordsError, RecordStore
from duchenne.records.gauges import NOTIFICATION_FAILED
from duchenne.records.rows import SweepState
from duchenne.spec.notify import EVENT_NAMES, EventName

if TYPE_CHECKING:
    from duchenne.records import Sweep as SweepRecord
    from duchenne.spec import Sweep

LOGGER = logging.getLogger("duchenne.notifications")
PATIENCE: Final = Patience()
MAX_WAITING: Final = 100
"""Messages that a webhook may have before it; more are dropped, and told."""
NEW_BEST: Final = "new best on board"
ACTOR: Final = "notifier"


@dataclass
class _Failure:
    webhook: str
    event: str
    delivery: str
    reason: str


class _Postman:
    """Carries the messages of one webhook, one after the other, in a thread that ends with the process."""

    def __init__(self, name: str, webhook: Webhook, patience: Patience, failures: queue.SimpleQueue[_Failure]) -> None:
        self.name = name
        self._webhook = webhook
        self._patience = patience
        self._failures = failures
        self._bag: queue.Queue[Parcel | None] = queue.Queue(MAX_WAITING)
        self._open: dict[str, Parcel] = {}  # neither delivered nor told as failed; whoever takes one out, settles it
        self._thread = threading.Thread(target=self._carry, name=f"webhook-{name}", daemon=True)
        self._begun = False

    def take(self, happening: Happening) -> None:
        """Put a message into the bag; one that is full drops it."""
        if not self._begun:
            self._thread.start()
            self._begun = True
        delivery = secrets.token_hex(16)
        parcel = Parcel(happening.event, delivery, body_of(happening, delivery, self._webhook.format))
        self._open[delivery] = parcel
        try:
            self._bag.put_nowait(parcel)
        except queue.Full:
            self._fail(parcel, f"{MAX_WAITING} messages wait before it")

    def finish(self, seconds: float) -> None:
        """Wait until the bag is empty, but no longer; what is left is told as failed."""
        if not self._begun:
            return
        with suppress(queue.Full):  # then the thread is not done in time either
            self._bag.put_nowait(None)
        self._thread.join(seconds)
        for parcel in list(self._open.values()):
            self._fail(parcel, "the sweep's process ended before it was delivered")

    def _carry(self) -> None:
        while (parcel := self._bag.get()) is not None:
            try:
                deliver(self._webhook, parcel, self._patience)
                self._open.pop(parcel.delivery, None)
            except DeliveryError as error:
                self._fail(parcel, str(error))
            except Exception as error:  # a fault of ours must not end the thread, nor be silent
                self._fail(parcel, type(error).__name__)

    def _fail(self, parcel: Parcel, reason: str) -> None:
        if self._open.pop(parcel.delivery, None) is None:
            return
        LOGGER.warning("webhook %s at %s: %s", self.name, self._webhook.host, reason)
        self._failures.put(_Failure(self.name, parcel.event, parcel.delivery, reason))


class Notifier:
    """The webhooks of one sweep.

    `tell` returns at once. `close` waits for what is still on its way, at most the deadline, and writes what was not
    delivered into the records. Neither raises, whatever a webhook does.

    Args:
        webhooks: by name, each with the events that it hears of.
        patience: of each message.
    """

    def __init__(
        self,
        store: RecordStore,
        webhooks: Mapping[str, tuple[Webhook, Sequence[EventName]]],
        patience: Patience = PATIENCE,
    ) -> None:
        self._store = store
        self._patience = patience
        self._failures: queue.SimpleQueue[_Failure] = queue.SimpleQueue()
        self._postmen = {
            name: (_Postman(name, webhook, patience, self._failures), frozenset(events))
            for name, (webhook, events) in webhooks.items()
        }

    @classmethod
    def of(cls, sweep: Sweep, store: RecordStore) -> Notifier:
        """That of a sweep's `notify` section; without one it tells nobody.

        Raises:
            WebhookError, duchenne.spec.SpecError: a webhook is not there or not fit.
        """
        webhooks = load_webhooks(item.webhook for item in sweep.notify)
        return cls(store, {item.webhook: (webhooks[item.webhook], item.events) for item in sweep.notify})

    def tell(
        self,
        event: EventName,
        record: SweepRecord,
        *,
        reason: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Send a message to every webhook that hears of such an event, with what was spent so far."""
        hearing = [postman for postman, events in self._postmen.values() if event in events]
        if not hearing:
            return
        try:
            spent = self._store.ledger.totals(record.id)["spent"].usd
        except RecordsError:
            spent = None  # whoever hears of a failure hears of it without the sum
        happening = Happening(
            event=event,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            sweep=record.id,
            name=record.name,
            team=record.team,
            board=record.board,
            reason=reason,
            detail={**(detail or {}), "spent_usd": spent},
        )
        for postman in hearing:
            postman.take(happening)

    def tell_end(self, state: SweepState, record: SweepRecord, reason: str | None) -> None:
        """Send how the sweep ended."""
        if state in EVENT_NAMES:
            self.tell(cast(EventName, state), record, reason=reason)

    def close(self, sweep: str) -> None:
        """Wait for what is on its way, and put what was not delivered on record."""
        end = time.monotonic() + self._patience.deadline
        for postman, _ in self._postmen.values():
            try:
                postman.finish(max(0.0, end - time.monotonic()))
            except KeyboardInterrupt:  # who is tired of waiting must not change how the sweep ended
                end = time.monotonic()
                postman.finish(0.0)
        while not self._failures.empty():
            failure = self._failures.get_nowait()
            try:
                self._store.record_event(NOTIFICATION_FAILED, sweep=sweep, actor=ACTOR, detail=vars(failure))
            except RecordsError as error:
                LOGGER.warning("webhook %s: not delivered, and not on record: %s", failure.webhook, error)


def announce_best(store: RecordStore, notifier: Notifier, record: SweepRecord, entries: Sequence[Entry]) -> None:
    """Tell of the best of a sweep's new entries where it leads its board, once; the audit keeps it. Never raises.

    Entries are compared by their recorded F1, among those of the same data and folds; the leaderboard says whether the
    lead is more than chance.
    """
    try:
        detail = _lead(store, record, entries)
        if detail is None:
            return
        store.record_event(NEW_BEST, sweep=record.id, actor=ACTOR, detail=detail)
    except RecordsError as error:
        LOGGER.warning("%s: whether it leads board %s is not known: %s", record.id, record.board, error)
        return
    notifier.tell("new_best", record, detail=detail)


def _lead(store: RecordStore, record: SweepRecord, entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The best of `entries` beside the F1 that led before; None where it doesn't lead, or where that was told."""
    scored = [(value, entry) for entry in entries if (value := _f1(entry)) is not None]
    if not scored or any(event.what == NEW_BEST for event in store.events(record.id)):
        return None
    own, best = max(scored, key=lambda pair: pair[0])
    compared = (best.dataset_digest, best.folds_digest)
    others = [
        value
        for entry in store.entries(record.board)
        if entry.sweep != record.id
        and (entry.dataset_digest, entry.folds_digest) == compared
        and entry.verified != "rejected"
        and (value := _f1(entry)) is not None
    ]
    before = max(others, default=None)
    if before is not None and own <= before:
        return None
    return {"entry": best.id, "method": best.method, "label": best.label, "f1_mean": own, "before": before}


def _f1(entry: Entry) -> float | None:
    value = entry.metrics.get("f1_macro")
    return None if value is None else float(value)
