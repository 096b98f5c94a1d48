"""The search leaves what the evaluation needs: the queue and its leases with real records, without Ray."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.plan.holdback import EvaluationNeed
from duchenne.pool.filing import Denial, Filing
from duchenne.pool.messages import PoolOptions, Segment
from duchenne.pool.queue import JobQueue
from duchenne.records import Amounts, NewSweep, RecordStore, open_store
from duchenne.records.costs import costs_of
from duchenne_jobs.config import RunConfig, TrainingConfig
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey, SegmentResult

EPOCHS = 4
USD_A_SECOND = 0.001
NEED = EvaluationNeed(jobs=2, epochs=EPOCHS, comparators=(), growth=1.0, workers=2)
OPTIONS = PoolOptions(workers=2, cpus=1.0, gpus=0.0, usd_per_second=USD_A_SECOND, need=NEED)


class Seconds:
    """The clock of jobs, moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with open_store(tmp_path / "records.sqlite") as opened:
        yield opened


def new_sweep(store: RecordStore, budget: Amounts) -> str:
    new = NewSweep(name="s", team="t", board="b", spec={}, spec_text="", spec_digest="", dataset_uri="", budget=budget)
    return store.create_sweep(new).id


def job(trial: int | None = 0, phase: Any = "search", fold: int = 0, seed: int = 0, method: str = "monet") -> FoldJob:
    key = JobKey(trial, phase, method, fold, 0 if phase == "search" else None, seed)
    config = RunConfig(training=TrainingConfig(epochs=EPOCHS))
    return FoldJob(key, config, "nowhere", "sha256:0", FoldsRequest(2, 2, 0), "", EPOCHS)


def filing(store: RecordStore, sweep: str, clock: Seconds, options: PoolOptions = OPTIONS) -> Filing:
    return Filing(sweep, store, ".", options, clock)


def leased(answer: int | Denial) -> int:
    assert isinstance(answer, int), answer
    return answer


def train(files: Filing, clock: Seconds, which: FoldJob, seconds: float) -> Denial | None:
    """Run a job to its end at `seconds` an epoch; the denial that stopped it, if one did."""
    files.recorded([which], which.epochs)
    ticket = files.reserve("w", which.key)
    if isinstance(ticket, Denial):
        return ticket
    files.begin(which.key, "w")
    began, denial = clock.now, None
    for epoch in range(1, which.epochs + 1):
        left = seconds
        while left > 0 and denial is None:  # the worker's thread renews each half quantum
            clock.now += min(left, 5.0)
            left -= 5.0
            denial = files.extend(ticket) if left > 0 else None
        if denial is not None:
            break
        files.result(which.key, epoch, {})
        denial = files.extend(ticket) if epoch < which.epochs else None
    files.settle(ticket, which.key, clock.now - began, wasted=False)
    if denial is None:
        files.succeed(which.key, SegmentResult(which.epochs, {}))
    else:
        files.end_attempt(which.key, "interrupted", None)
    return denial


def test_renewals_reserve_what_is_ahead_and_not_a_quantum_an_epoch(store: RecordStore) -> None:
    sweep, clock = new_sweep(store, Amounts(usd=10.0)), Seconds()
    files = filing(store, sweep, clock)
    files.recorded([job()], EPOCHS)
    ticket = leased(files.reserve("w", job().key))
    files.begin(job().key, "w")
    for _ in range(100):
        clock.now += 0.5
        assert files.extend(ticket) is None
        reserved = store.ledger.totals(sweep)["reserved"].usd
        assert reserved is not None
        assert clock.now + 14.0 <= reserved / USD_A_SECOND <= clock.now + 15.0 + 1e-9


def test_until_epochs_have_run_the_search_may_hold_half(store: RecordStore) -> None:
    sweep, clock = new_sweep(store, Amounts(usd=0.040)), Seconds()
    files = filing(store, sweep, clock)
    files.recorded([job(), job(fold=1)], EPOCHS)
    leased(files.reserve("w0", job().key))  # 0.015 of the 0.020 that the search may take
    denial = files.reserve("w1", job(fold=1).key)
    assert isinstance(denial, Denial)
    assert denial.passing, "it waits for the first to settle"
    leased(files.reserve("w1", job(phase="evaluation").key))


def test_the_search_ends_where_the_evaluation_begins_to_lack(store: RecordStore) -> None:
    sweep, clock = new_sweep(store, Amounts(usd=0.200)), Seconds()
    files = filing(store, sweep, clock)
    trials = 0
    while (denial := train(files, clock, job(trial=trials), 2.0)) is None:
        trials += 1
    assert not denial.final
    assert "held back for the evaluation" in denial.reason
    assert trials >= 8  # 8 s a trial; two evaluations of 8 s are held at 1.25 times that, and a lease of 15 s
    for fold in range(2):
        assert train(files, clock, job(phase="evaluation", fold=fold), 2.0) is None
    spent = store.ledger.totals(sweep)["spent"].usd
    assert spent is not None
    assert spent <= 0.200


def test_an_evaluation_that_can_never_be_paid_ends_the_sweep(store: RecordStore) -> None:
    sweep, clock = new_sweep(store, Amounts(usd=0.100)), Seconds()
    denial = train(filing(store, sweep, clock), clock, job(), 10.0)  # two evaluations: 80 of 70 s
    assert isinstance(denial, Denial)
    assert denial.final


def test_comparators_leave_what_the_own_evaluation_needs(store: RecordStore) -> None:
    sweep, clock = new_sweep(store, Amounts(usd=0.150)), Seconds()
    files = filing(store, sweep, clock)
    assert train(files, clock, job(), 2.0) is None
    own = [job(phase="evaluation", fold=fold) for fold in range(2)]
    files.recorded(own, EPOCHS)
    denials = [train(files, clock, job(None, "evaluation", seed=seed, method="vmnc"), 4.0) for seed in range(10)]
    refused = next(denial for denial in denials if denial is not None)
    assert not refused.final
    assert [train(files, clock, which, 2.0) for which in own] == [None, None]


@given(data=st.data(), usd=st.floats(0.03, 0.5), workers=st.integers(1, 3), seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_no_mix_of_jobs_spends_more_than_the_budget(
    data: st.DataObject, usd: float, workers: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every job stops within the margin of a refusal; durations, renewals and ends come in any order."""
    clock, chance = Seconds(), random.Random(seed)
    quantum = data.draw(st.sampled_from([0.0, 1.0, 60.0]))
    options = replace(OPTIONS, workers=workers, billing_quantum_seconds=quantum, need=replace(NEED, workers=workers))
    with open_store(tmp_path_factory.mktemp("pool") / "records.sqlite") as store:
        sweep = new_sweep(store, Amounts(usd=usd))
        files = filing(store, sweep, clock, options)
        held: dict[int, tuple[FoldJob, float]] = {}
        for step in range(25):
            clock.now += chance.uniform(0.0, 3.0)
            for ticket, (which, since) in list(held.items()):
                if files.extend(ticket) is not None or chance.random() < 0.1:
                    clock.now += chance.uniform(0.0, 9.0 / workers)  # a step and saving, within the margin
                    files.settle(ticket, which.key, clock.now - since, wasted=chance.random() < 0.2)
                    files.end_attempt(which.key, "interrupted", None)
                    del held[ticket]
                elif chance.random() < 0.3:
                    files.result(which.key, step + 1, {})
            if len(held) < workers:
                which = job(trial=step, phase=chance.choice(["search", "evaluation"]))
                files.recorded([which], EPOCHS)
                ticket = files.reserve("w", which.key)
                if isinstance(ticket, int):
                    files.begin(which.key, "w")
                    held[ticket] = (which, clock.now)
        for ticket, (which, since) in held.items():
            files.settle(ticket, which.key, clock.now - since, wasted=False)
        spent = store.ledger.totals(sweep)["spent"].usd or 0.0
        assert spent <= usd + 1e-9
        assert [event for event in store.events(sweep) if event.what == "lease overshot"] == []


def play(store: RecordStore, sweep: str, scenario: Callable[[JobQueue], Awaitable[None]], options: PoolOptions) -> None:
    async def run() -> None:
        await asyncio.wait_for(scenario(JobQueue(sweep, store.address, str(store.home), options, None)), timeout=20)

    asyncio.run(run())


async def finish(queue: JobQueue, worker: str = "w0") -> Segment:
    segment = await queue.lease(worker)
    assert isinstance(segment, Segment)
    for epoch in range(1, EPOCHS + 1):
        assert await queue.report(segment.lease, epoch, {"f1_macro": 0.5})
    await queue.finished(segment.lease, SegmentResult(EPOCHS, {"f1_macro": 0.5}))
    return segment


def test_a_search_that_is_over_leaves_the_queue_to_the_evaluation(store: RecordStore) -> None:
    # After a trial in no time one lease is held for the evaluation: 0.015 USD, and as much asked for the search.
    sweep = new_sweep(store, Amounts(usd=0.035))

    async def scenario(queue: JobQueue) -> None:
        first = asyncio.ensure_future(queue.run_segments([job()], EPOCHS))
        await finish(queue)
        assert (await first)[0].state == "done"
        spender = store.ledger.reserve(sweep, Amounts(usd=0.010), ttl=60, holder="n", kind="node")
        assert spender
        second = asyncio.ensure_future(queue.run_segments([job(trial=1)], EPOCHS))
        assert await queue.lease("w0") is None
        assert (await second)[0].state == "exhausted"
        snapshot = await queue.snapshot()
        assert snapshot.ending is None
        assert snapshot.search_ended
        assert "held back for the evaluation" in (snapshot.search_over or "")
        evaluation = asyncio.ensure_future(queue.run_jobs([job(phase="evaluation")]))
        await finish(queue)
        assert (await evaluation)[0].state == "done"

    play(store, sweep, scenario, OPTIONS)


def test_a_job_that_lacks_money_held_by_others_goes_back_to_the_queue(store: RecordStore) -> None:
    sweep = new_sweep(store, Amounts(usd=0.40))
    quick = replace(OPTIONS, usd_per_second=1.0, quantum_seconds=0.1, grace_seconds=0.05)

    async def scenario(queue: JobQueue) -> None:
        asked = asyncio.ensure_future(queue.run_jobs([job(phase="evaluation", fold=fold) for fold in range(2)]))
        one, two = await queue.lease("w0"), await queue.lease("w1")  # 0.15 USD each
        assert isinstance(one, Segment)
        assert isinstance(two, Segment)
        await asyncio.sleep(0.12)
        answers = [await queue.renew(one.lease), await queue.renew(two.lease)]  # 0.12 more each, of 0.10 that are left
        assert False in answers
        loser = (one, two)[answers.index(False)]
        await queue.stopped(loser.lease)
        snapshot = await queue.snapshot()
        assert snapshot.ending is None
        assert snapshot.waiting == 1
        await queue.end("stopped", "the test is over")
        asked.cancel()

    play(store, sweep, scenario, quick)
    assert "interrupted" in {attempt.outcome for attempt in store.attempts(sweep)}


def test_leases_say_what_they_were_for(store: RecordStore) -> None:
    sweep, clock = new_sweep(store, Amounts(usd=10.0)), Seconds()
    files = filing(store, sweep, clock)
    for number in range(2):
        store.record_trial(sweep, number, {"n": number}, state="running")
        train(files, clock, job(trial=number), 1.0 + number)
    store.set_trial_state(sweep, 1, "stopped", value=0.1)
    train(files, clock, job(None, "evaluation", method="vmnc", fold=1), 3.0)
    lost = leased(files.reserve("w", job(trial=0, fold=1).key))
    clock.now += 2.0
    files.settle(lost, job(trial=0, fold=1).key, 2.0, wasted=True)
    costs = costs_of(store, sweep)
    assert [(part.trial, part.name, round(part.amounts.usd or 0, 6)) for part in costs.trials] == [
        (0, "monet", 0.006),
        (1, "monet", 0.008),
        (None, "vmnc", 0.012),
    ]
    assert {part.name: round(part.amounts.usd or 0, 6) for part in costs.phases} == {
        "search": 0.014,
        "evaluation": 0.012,
    }
    assert [(part.fold, round(part.amounts.usd or 0, 6)) for part in costs.folds] == [(0, 0.012), (1, 0.014)]
    assert costs.retries.usd == pytest.approx(0.002)
    assert costs.early_stopped.usd == pytest.approx(0.008)
    assert costs.idle == Amounts()
    assert costs.left.usd == pytest.approx(10.0 - 0.026)
    document = costs.as_json()
    assert list(document) == ["left", "per_phase", "per_trial", "per_fold", "wasted_by"]


def test_a_denial_for_want_of_time_says_what_is_kept_for_the_evaluation(store: RecordStore) -> None:
    queue = JobQueue(new_sweep(store, Amounts(wall_seconds=100.0)), store, ".", OPTIONS, 100.0, Seconds())
    denial = queue._out_of_time(job().key, 60.0)
    assert denial is not None
    assert denial.reason.endswith("of the 100 s left, 50 s are kept for the evaluation")
    last = queue._out_of_time(job(phase="evaluation").key, 101.0)
    assert last is not None
    assert last.reason.endswith("no time is left for another lease")
