"""The notifier beside real records and real HTTP: nothing waits, nothing is lost in silence, nothing raises."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from duchenne.driver.drive import _conclude
from duchenne.notifications import Notifier, Webhook, announce_best
from duchenne.notifications.delivery import Patience
from duchenne.notifications.notifier import NEW_BEST
from duchenne.records import (
    Amounts,
    Entry,
    LockLostError,
    NewEntry,
    NewSweep,
    PredictionFile,
    RecordStore,
    Sweep,
    holder_name,
    open_home,
)
from duchenne.records.gauges import NOTIFICATION_FAILED
from duchenne.spec.notify import EVENT_NAMES

QUICK = Patience(deadline=1.0, attempt=0.4, first_wait=0.01, longest_wait=0.05)
SECRET = "a-secret-of-32-characters-or-more"  # noqa: S105


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


def new_sweep(store: RecordStore, name: str = "faces") -> Sweep:
    return store.create_sweep(
        NewSweep(
            name=name,
            team="vision",
            board="disfa",
            spec={},
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="nowhere",
            budget=Amounts(),
        )
    )


def notifier(store: RecordStore, url: str, events: Any = EVENT_NAMES, patience: Patience = QUICK) -> Notifier:
    webhook = Webhook.model_validate({"url": url, "secret": SECRET})
    return Notifier(store, {"ops": (webhook, events)}, patience)


def failures(store: RecordStore, sweep: str) -> list[dict[str, Any]]:
    return [event.detail for event in store.events(sweep) if event.what == NOTIFICATION_FAILED]


def told(receiver: Any) -> list[str]:
    return [json.loads(got.body)["event"] for got in receiver.received]


def test_each_webhook_hears_of_its_events_and_of_the_money(store: RecordStore, receiver: Any, stranger: Any) -> None:
    sweep = new_sweep(store)
    lease = store.ledger.reserve(sweep.id, Amounts(usd=3.0), ttl=60, holder="h", kind="fold_job")
    store.ledger.settle(lease.id, Amounts(usd=2.5))  # type: ignore[union-attr]
    hooks = {
        "ops": (Webhook.model_validate({"url": receiver.url}), EVENT_NAMES),
        "pager": (Webhook.model_validate({"url": stranger.url, "format": "slack"}), ("exhausted",)),
    }
    both = Notifier(store, hooks, QUICK)
    both.tell("new_best", sweep, detail={"f1_mean": 0.5})
    both.tell_end("exhausted", sweep, "budget: usd")
    both.close(sweep.id)
    assert told(receiver) == ["new_best", "exhausted"]
    document = json.loads(receiver.received[1].body)
    assert (document["reason"], document["detail"]) == ("budget: usd", {"spent_usd": 2.5})
    (text,) = [json.loads(got.body)["text"] for got in stranger.received]
    assert text == f"{sweep.id} (team vision) has used up its budget, 2.50 USD\nbudget: usd"
    assert failures(store, sweep.id) == []


def test_telling_returns_at_once_and_a_hanging_webhook_delays_no_other(
    store: RecordStore, receiver: Any, stranger: Any
) -> None:
    sweep = new_sweep(store)
    receiver.script = ["hang"] * 100
    hooks = {
        name: (Webhook.model_validate({"url": url}), EVENT_NAMES)
        for name, url in (("dead", receiver.url), ("alive", stranger.url))
    }
    both = Notifier(store, hooks, QUICK)
    began = time.monotonic()
    both.tell_end("failed", sweep, None)
    assert time.monotonic() - began < QUICK.deadline / 2
    both.close(sweep.id)
    assert time.monotonic() - began < 3 * QUICK.deadline
    assert told(stranger) == ["failed"]
    (failure,) = failures(store, sweep.id)
    assert (failure["webhook"], failure["event"]) == ("dead", "failed")


@pytest.mark.parametrize("trouble", [500, 404, "cut", "hang", "redirect http://elsewhere.invalid/x"])
def test_what_is_not_delivered_is_on_record_once_without_the_secret(
    store: RecordStore, receiver: Any, trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sweep = new_sweep(store)
    receiver.script = [trouble] * 1000
    one = notifier(store, receiver.url)
    one.tell_end("failed", sweep, "x")
    one.close(sweep.id)
    (failure,) = failures(store, sweep.id)
    assert set(failure) == {"webhook", "event", "delivery", "reason"}
    everything = json.dumps([event.detail for event in store.events()]) + caplog.text
    assert "s3cret" not in everything
    assert SECRET not in everything
    assert "webhook ops at 127.0.0.1:" in caplog.text


def test_a_flood_is_bounded_and_told(store: RecordStore, receiver: Any) -> None:
    sweep = new_sweep(store)
    receiver.script = ["hang"]
    one = notifier(store, receiver.url, patience=Patience(0.5, 0.4, 0.01, 0.05))
    for _ in range(150):
        one.tell("failed", sweep)
    one.close(sweep.id)
    assert len(receiver.received) + len(failures(store, sweep.id)) >= 150


def test_records_that_are_gone_and_ctrl_c_raise_nothing(
    store: RecordStore, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = new_sweep(store)
    receiver.script = ["hang"] * 10
    one = notifier(store, receiver.url, patience=Patience(20, 10, 0.01, 0.05))
    real = one._postmen["ops"][0]._thread.join
    pressed = iter([KeyboardInterrupt])

    def join(seconds: float | None = None) -> None:
        error = next(pressed, None)
        if error is not None:
            raise error
        real(seconds)

    monkeypatch.setattr(one._postmen["ops"][0]._thread, "join", join)
    one.tell_end("succeeded", sweep, None)
    began = time.monotonic()
    one.close("no-such-sweep")  # the event can't be recorded either
    assert time.monotonic() - began < 10


def driven(store: RecordStore) -> tuple[Sweep, Any]:
    sweep = new_sweep(store)
    lock = store.acquire_lock(sweep.id, holder_name(), 60)
    store.set_sweep_state(sweep.id, "running", token=lock.token)
    return sweep, lock


def test_the_end_is_on_record_before_anybody_is_told(store: RecordStore, receiver: Any) -> None:
    sweep, lock = driven(store)
    receiver.script = ["hang"] * 10
    _conclude(store, sweep, "succeeded", None, lock, notifier(store, receiver.url))
    record = store.get_sweep(sweep.id)
    assert (record.state, record.lock_holder) == ("succeeded", None)
    assert len(failures(store, sweep.id)) == 1


def test_a_driver_that_lost_its_lock_tells_nothing(store: RecordStore, receiver: Any) -> None:
    sweep, lock = driven(store)
    with pytest.raises(LockLostError):
        _conclude(store, sweep, "failed", "x", replace(lock, token="other"), notifier(store, receiver.url))  # noqa: S106
    assert receiver.received == []


def entry(store: RecordStore, sweep: Sweep, f1: float | None, method: str = "monet", data: str = "d") -> Entry:
    return store.save_entry(
        NewEntry(
            board="disfa",
            team="vision",
            sweep=sweep.id,
            method=method,
            label=method,
            config={},
            verified="verified",
            metrics={"f1_macro": f1},
            per_fold=[],
            predictions=(PredictionFile(fold=0, seed=0, path="p", digest="x"),),
            dataset_digest=data,
            folds_digest="f",
        )
    )


def announced(store: RecordStore, receiver: Any, sweep: Sweep, *entries: Entry) -> list[dict[str, Any]]:
    before = len(receiver.received)
    one = notifier(store, receiver.url)
    announce_best(store, one, sweep, entries)
    one.close(sweep.id)
    return [json.loads(got.body)["detail"] for got in receiver.received[before:]]


def test_the_best_of_a_board_is_told_once(store: RecordStore, receiver: Any) -> None:
    first, second, third = (new_sweep(store, name) for name in ("first", "second", "third"))
    (detail,) = announced(store, receiver, first, entry(store, first, 0.5), entry(store, first, 0.4, "mrnn"))
    assert (detail["entry"], detail["f1_mean"], detail["before"]) == (f"{first.id}.monet", 0.5, None)
    assert announced(store, receiver, second, entry(store, second, 0.5)) == [], "a tie leads nothing"
    won = entry(store, third, 0.6)
    (detail,) = announced(store, receiver, third, won)
    assert detail["before"] == 0.5
    assert announced(store, receiver, third, won) == [], "resumed"
    assert [event.what for event in store.events(third.id)] == [NEW_BEST]


def test_other_data_and_undefined_numbers_are_not_compared(store: RecordStore, receiver: Any) -> None:
    first, second, third = (new_sweep(store, name) for name in ("first", "second", "third"))
    announced(store, receiver, first, entry(store, first, 0.9, data="other"))
    (detail,) = announced(store, receiver, second, entry(store, second, 0.1))
    assert detail["before"] is None
    assert announced(store, receiver, third, entry(store, third, None)) == []
