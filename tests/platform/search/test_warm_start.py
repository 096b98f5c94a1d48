"""A warm start takes the trials of earlier sweeps that say something about this one, and refuses others by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duchenne.records import NewSweep, NotFoundError, RecordStore, open_home
from duchenne.search.proposals import build_proposer
from duchenne.search.samplers import OptunaProposer
from duchenne.search.warm_start import WarmStartRefused, warm_start
from duchenne.spec import Sweep

RATE = {"loguniform": [1e-4, 1e-2]}
DIGEST = "sha256:data"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_home(tmp_path) as opened:
        yield opened


def sweep_of(warm: list[str], rate: Any = RATE, **sections: Any) -> Sweep:
    search = {"space": {"training.learning_rate": rate}, "algorithm": "tpe", "trials": 4, "warm_start": warm}
    return Sweep.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": "s", "board": "faces"},
            "data": {"uri": "builtin://yeast"},
            "budget": {"wall_seconds": 60},
            "search": search | sections.pop("search", {}),
            **sections,
        }
    )


def ran(store: RecordStore, sweep: Sweep, digest: str = DIGEST) -> str:
    """A sweep on record: two whole trials, one that was stopped and one that failed."""
    record = store.create_sweep(
        NewSweep(
            name="s",
            team="t",
            board=sweep.board,
            spec=sweep.model_dump(mode="json"),
            spec_text="",
            spec_digest="sha256:0",
            dataset_uri="builtin://yeast",
            dataset_digest=digest,
        )
    )
    for number, (rate, value, state) in enumerate(
        ((1e-3, 0.4, "succeeded"), (5e-2, 0.5, "succeeded"), (2e-3, 0.9, "stopped"), (3e-3, None, "failed"))
    ):
        store.record_trial(record.id, number, {"training.learning_rate": rate})
        store.set_trial_state(record.id, number, state, value=value)  # type: ignore[arg-type]
    return record.id


def test_whole_trials_within_the_space_are_used_and_counted(store: RecordStore) -> None:
    earlier = ran(store, sweep_of([]))
    found = warm_start(store, sweep_of([earlier]), DIGEST)
    assert [(trial.values, trial.score) for trial in found.known] == [({"training.learning_rate": 1e-3}, 0.4)]
    assert found.detail == {"used": 1, "outside_the_space": 1, "sweeps": [earlier]}
    wider = sweep_of([earlier], rate={"loguniform": [1e-4, 1e-1]})
    assert len(warm_start(store, wider, DIGEST).known) == 2


def test_the_sampler_begins_with_them(store: RecordStore) -> None:
    sweep = sweep_of([ran(store, sweep_of([]))])
    proposer = build_proposer(sweep, known=0, warm=warm_start(store, sweep, DIGEST))
    assert isinstance(proposer, OptunaProposer)
    assert [trial.value for trial in proposer._search._ot_study.trials] == [0.4]


def test_a_loss_is_turned_so_that_more_is_better(store: RecordStore) -> None:
    losses = {"search": {"metric": "log_loss"}}
    earlier = ran(store, sweep_of([], **losses))
    assert [trial.score for trial in warm_start(store, sweep_of([earlier], **losses), DIGEST).known] == [-0.4]


def test_board_takes_those_that_fit_and_leaves_the_others_and_itself(store: RecordStore) -> None:
    fits = ran(store, sweep_of([]))
    ran(store, sweep_of([]), digest="sha256:other")
    ran(store, sweep_of([], training={"batch_size": 8}))
    own = ran(store, sweep_of([]))
    found = warm_start(store, sweep_of(["board", fits]), DIGEST, own)
    assert found.detail["sweeps"] == [fits]
    assert len(found.known) == 1


@pytest.mark.parametrize(
    ("earlier", "digest", "why"),
    [
        (sweep_of([]), "sha256:other", "must be of the same data"),
        (sweep_of([], search={"metric": "accuracy"}), DIGEST, "must compare by f1_macro, but does by accuracy"),
        (
            sweep_of([], search={"space": {"training.decay": {"uniform": [0.5, 1]}}}),
            DIGEST,
            r"must vary the same fields, but differs in training\.decay, training\.learning_rate",
        ),
        (sweep_of([], training={"batch_size": 8}), DIGEST, r"must fix the same values, but differs in training\.batch"),
    ],
    ids=["data", "metric", "space", "base"],
)
def test_a_named_sweep_that_does_not_fit_is_refused(store: RecordStore, earlier: Sweep, digest: str, why: str) -> None:
    name = ran(store, earlier, digest)
    with pytest.raises(WarmStartRefused, match=rf"^search\.warm_start: {name} {why}.*; leave {name} out$"):
        warm_start(store, sweep_of([name]), DIGEST)


def test_a_sweep_that_is_not_there_is_refused(store: RecordStore) -> None:
    with pytest.raises(NotFoundError):
        warm_start(store, sweep_of(["nobody-0000"]), DIGEST)
