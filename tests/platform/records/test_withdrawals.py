"""Withdrawn datasets: what used them is marked, once, and names nobody."""

from __future__ import annotations

from collections.abc import Callable

from duchenne.records import RecordStore, Sweep
from duchenne.records.withdrawals import WITHDRAWN


def test_the_dataset_and_every_sweep_that_used_it_are_marked(
    store: RecordStore, make_sweep: Callable[..., Sweep]
) -> None:
    first, other, second = (make_sweep(name=name) for name in ("first", "other", "second"))
    for sweep, digest in ((first, "old"), (other, "kept"), (second, "old")):
        store.bind_data(sweep.id, dataset_digest=digest, folds_digest="folds")
    assert store.withdrawn_datasets() == frozenset()
    found = store.withdraw_dataset("old", replaced_by="new", actor="ann")
    assert [sweep.id for sweep in found] == [first.id, second.id]
    assert store.withdrawn_datasets() == {"old"}
    lines = [event for event in store.events() if event.what == WITHDRAWN]
    assert [event.sweep for event in lines] == [None, first.id, second.id]
    assert all(event.detail == {"dataset_digest": "old", "replaced_by": "new"} for event in lines)
    assert {event.actor for event in lines} == {"ann"}
    assert WITHDRAWN not in [event.what for event in store.events(other.id)]


def test_once_is_enough_and_latecomers_are_marked_too(store: RecordStore, make_sweep: Callable[..., Sweep]) -> None:
    first = make_sweep(name="first")
    store.bind_data(first.id, dataset_digest="old", folds_digest="folds")
    store.withdraw_dataset("old", replaced_by="new", actor="ann")
    before = store.events()
    store.withdraw_dataset("old", replaced_by="new", actor="ann")
    assert store.events() == before
    late = make_sweep(name="late")
    store.bind_data(late.id, dataset_digest="old", folds_digest="folds")
    assert [sweep.id for sweep in store.withdraw_dataset("old", replaced_by="new", actor="bob")] == [first.id, late.id]
    assert [event.sweep for event in store.events()[len(before) :] if event.what == WITHDRAWN] == [late.id]


def test_a_dataset_that_nobody_used(store: RecordStore) -> None:
    assert store.withdraw_dataset("unused", replaced_by="new", actor="ann") == []
    assert store.withdrawn_datasets() == {"unused"}
