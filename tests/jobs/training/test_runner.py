"""Segments of fold jobs on a real dataset: stops, resumption, sealed folds, comparators."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duchenne_jobs.data import Dataset, plan_folds
from duchenne_jobs.evaluation import METRICS, read_predictions
from duchenne_jobs.evaluation.predictions import file_digest
from duchenne_jobs.training import (
    FoldJob,
    FoldsRequest,
    JobFailed,
    JobStopped,
    SegmentResult,
    inner_predictions_path,
)
from duchenne_jobs.training.checkpoint import load_checkpoint, previous_of
from duchenne_jobs.training.runner import FoldJobRunner, checkpoint_path
from duchenne_jobs.training.soft_orders import soft_orders_path

MakeJob = Callable[..., FoldJob]
STEPS_PER_EPOCH = 3  # 40 rows of the outer training set, 16 a batch
INNER_STEPS_PER_EPOCH = 2  # 20 rows


def bytes_of(result: SegmentResult) -> bytes:
    assert result.predictions is not None
    return Path(result.predictions).read_bytes()


def soft_orders(job: FoldJob) -> list[dict[str, Any]]:
    return [json.loads(line) for line in soft_orders_path(job).read_text().splitlines()]


def epoch_on_disk(job: FoldJob) -> int:
    state = load_checkpoint(checkpoint_path(job))
    assert state is not None
    return int(state["epoch"])


def test_search_scores_every_epoch_on_the_inner_validation_rows(job: MakeJob, scheduler: Any) -> None:
    context = scheduler()
    result = FoldJobRunner().run(job(), 3, context)
    assert list(context.reports) == [1, 2, 3]
    assert all(set(metrics) == {"train_loss", *METRICS} for metrics in context.reports.values())
    assert result == SegmentResult(3, context.reports[3])
    assert context.ticks == 3 * INNER_STEPS_PER_EPOCH
    assert epoch_on_disk(job()) == 3
    assert not Path(job().folder, "predictions").exists()


def test_the_last_epoch_of_a_search_leaves_its_validation_predictions(
    job: MakeJob, scheduler: Any, toy: Dataset
) -> None:
    subject, context, runner = job(), scheduler(), FoldJobRunner()
    path = inner_predictions_path(Path(subject.folder), subject.key)
    runner.run(subject, 3, context)
    assert not path.exists()
    runner.run(subject, 4, context)
    rows = read_predictions(path)
    inner = plan_folds(toy.subjects, subject.folds).inner_folds(subject.key.fold, subject.folds.inner)
    assert subject.key.inner is not None
    assert set(rows.subjects) == set(inner[subject.key.inner].validation)
    assert rows.metrics() == {name: context.reports[4][name] for name in METRICS}


@pytest.mark.parametrize("name", ["vmnc", "monet"])
def test_segments_of_any_length_give_the_same_numbers(name: str, job: MakeJob, scheduler: Any) -> None:
    whole, warm, cold = scheduler(), scheduler(), scheduler()
    result = FoldJobRunner().run(job(name, folder="whole"), 4, whole)
    runner = FoldJobRunner()
    for until in (1, 3, 4):
        in_parts = runner.run(job(name, folder="warm"), until, warm)
        elsewhere = FoldJobRunner().run(job(name, folder="cold"), until, cold)  # another worker: from the file
    assert whole.reports == warm.reports == cold.reports
    assert result == in_parts == elsewhere


def test_jobs_that_take_turns_on_a_worker_do_not_meet(job: MakeJob, scheduler: Any) -> None:
    runner, contexts = FoldJobRunner(), {seed: scheduler() for seed in (0, 1)}
    for until in (1, 2, 3):
        for seed in (0, 1):
            runner.run(job(folder="turns", seed=seed), until, contexts[seed])
    for seed in (0, 1):
        alone = scheduler()
        FoldJobRunner().run(job(folder=f"alone{seed}", seed=seed), 3, alone)
        assert alone.reports == contexts[seed].reports
    assert contexts[0].reports != contexts[1].reports


@pytest.mark.parametrize("worker", ["same", "other"])
def test_a_stop_in_the_middle_of_an_epoch_loses_that_epoch_alone(worker: str, job: MakeJob, scheduler: Any) -> None:
    """What was saved is the end of the epoch before, not the half of an epoch that the network held."""
    whole = scheduler()
    expected = FoldJobRunner().run(job(phase="evaluation", folder="whole"), 4, whole)
    stopped, resumed = job(phase="evaluation", folder="stopped"), scheduler()
    runner, first, second = FoldJobRunner(), scheduler(stop_at_tick=STEPS_PER_EPOCH + 2), scheduler(stop_at_tick=2)
    with pytest.raises(JobStopped):
        runner.run(stopped, 4, first)
    assert list(first.reports) == [1]
    assert epoch_on_disk(stopped) == 1
    runner.run(stopped, 2, scheduler())  # ends with a warm trainer, which the next stop spoils
    with pytest.raises(JobStopped):
        runner.run(stopped, 4, second)
    assert epoch_on_disk(stopped) == 2
    result = (runner if worker == "same" else FoldJobRunner()).run(stopped, 4, resumed)
    # The epoch that was saved is reported once more; the last one's numbers come with the result.
    assert resumed.reports == {2: whole.reports[2], 3: whole.reports[3]}
    assert result == replace(expected, predictions=result.predictions)
    assert bytes_of(result) == bytes_of(expected)
    assert (
        checkpoint_path(stopped).read_bytes() == checkpoint_path(job(phase="evaluation", folder="whole")).read_bytes()
    )
    assert soft_orders(stopped) == soft_orders(job(phase="evaluation", folder="whole"))


def test_a_stop_before_the_first_step_leaves_nothing(job: MakeJob, scheduler: Any) -> None:
    with pytest.raises(JobStopped):
        FoldJobRunner().run(job(), 4, scheduler(stop_at_tick=1))
    assert not checkpoint_path(job()).exists()


def test_a_stop_at_a_report_keeps_that_epoch(job: MakeJob, scheduler: Any) -> None:
    runner, first, second, whole = FoldJobRunner(), scheduler(stop_at_epoch=2), scheduler(), scheduler()
    with pytest.raises(JobStopped):
        runner.run(job(), 4, first)
    assert epoch_on_disk(job()) == 2
    runner.run(job(), 4, second)
    assert list(second.reports) == [2, 3, 4]
    FoldJobRunner().run(job(folder="whole"), 4, whole)
    assert first.reports | second.reports == whole.reports


def test_an_unforeseen_error_saves_nothing_and_the_job_can_be_tried_again(job: MakeJob, scheduler: Any) -> None:
    class Broken(scheduler):  # type: ignore[misc]
        def tick(self) -> None:
            super().tick()
            if self.ticks == 2:
                raise ConnectionError("the queue is gone")

    runner, whole, again = FoldJobRunner(), scheduler(), scheduler()
    runner.run(job(), 1, scheduler())
    with pytest.raises(ConnectionError):
        runner.run(job(), 4, Broken())
    assert epoch_on_disk(job()) == 1
    runner.run(job(), 4, again)
    FoldJobRunner().run(job(folder="whole"), 4, whole)
    assert again.reports == {epoch: whole.reports[epoch] for epoch in (1, 2, 3, 4)}


def test_an_epoch_saved_but_never_recorded_is_reported_again_and_not_run_again(job: MakeJob, scheduler: Any) -> None:
    done, nothing = scheduler(), scheduler()
    first = FoldJobRunner().run(job(), 2, done)
    again = FoldJobRunner().run(job(), 2, nothing)
    assert nothing.ticks == 0
    assert again.epoch == 2
    assert again.metrics == first.metrics
    assert nothing.reports == {2: first.metrics}


def test_an_epoch_on_record_never_runs_again_after_a_kill_in_mid_segment(job: MakeJob, scheduler: Any) -> None:
    class Killed(scheduler):  # type: ignore[misc]
        def report(self, epoch: int, metrics: dict[str, float]) -> None:
            super().report(epoch, metrics)
            if epoch == 2:
                raise SystemExit  # what comes after is as lost as after SIGKILL: nothing catches it

    killed, resumed, whole = Killed(), scheduler(), scheduler()
    with pytest.raises(SystemExit):
        FoldJobRunner().run(job(), 4, killed)
    FoldJobRunner().run(job(), 4, resumed)
    FoldJobRunner().run(job(folder="whole"), 4, whole)
    assert resumed.ticks == 2 * INNER_STEPS_PER_EPOCH
    assert killed.reports | resumed.reports == whole.reports


def test_evaluation_writes_predictions_once_after_the_last_epoch(job: MakeJob, scheduler: Any, toy: Dataset) -> None:
    subject, context, runner = job(phase="evaluation"), scheduler(), FoldJobRunner()
    early = runner.run(subject, 3, context)
    assert (early.epoch, early.predictions) == (3, None)
    assert not Path(subject.folder, "predictions").exists()
    result = runner.run(subject, 4, context)
    assert result.predictions is not None
    written = read_predictions(Path(result.predictions))
    assert result.predictions_digest == file_digest(Path(result.predictions))
    assert result.metrics == {"train_loss": result.metrics["train_loss"]} | written.metrics()
    test = plan_folds(toy.subjects, subject.folds).folds[0].test
    assert sorted(written.subjects.tolist()) == sorted(test)
    stored = {row["subject"]: row["labels"] for row in toy.rows().to_pylist()}
    assert [stored[name] for name in written.subjects] == written.labels.tolist()
    # Lost before it was recorded, it is written again to the same bytes, without training.
    before = bytes_of(result)
    Path(result.predictions).unlink()
    nothing = scheduler()
    assert bytes_of(FoldJobRunner().run(subject, 4, nothing)) == before
    assert nothing.ticks == 0


def test_evaluation_never_reads_the_test_labels_before_its_end(
    job: MakeJob, scheduler: Any, toy: Dataset, rewritten: Callable[..., Dataset]
) -> None:
    """Two datasets that differ in the labels of the test fold alone give the same epochs and the same network."""
    test = set(plan_folds(toy.subjects, job().folds).folds[0].test)

    def flip(row: dict[str, Any]) -> None:
        if row["subject"] in test:
            row["labels"] = [1 - label for label in row["labels"]]

    other = rewritten("flipped", flip)
    one, two = scheduler(), scheduler()
    honest = FoldJobRunner().run(job(phase="evaluation", folder="one"), 4, one)
    flipped = FoldJobRunner().run(job(phase="evaluation", folder="two", dataset=other), 4, two)
    assert one.reports == two.reports
    assert all(set(metrics) == {"train_loss"} for metrics in one.reports.values())
    checkpoints = [checkpoint_path(job(phase="evaluation", folder=folder)).read_bytes() for folder in ("one", "two")]
    assert checkpoints[0] == checkpoints[1]
    assert honest.metrics["accuracy"] == pytest.approx(1 - flipped.metrics["accuracy"])
    # Nor does the search: its rows are the training subjects'.
    before, after = scheduler(), scheduler()
    FoldJobRunner().run(job(folder="one"), 2, before)
    FoldJobRunner().run(job(folder="two", dataset=other), 2, after)
    assert before.reports == after.reports


def test_soft_orders_of_an_evaluation_are_kept_epoch_by_epoch(job: MakeJob, scheduler: Any) -> None:
    subject, runner = job(phase="evaluation"), FoldJobRunner()
    runner.run(subject, 2, scheduler())
    with pytest.raises(JobStopped):
        runner.run(subject, 4, scheduler(stop_at_epoch=3))
    runner.run(subject, 4, scheduler())
    lines = soft_orders(subject)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        np.testing.assert_allclose(np.sum(line["soft_order"], axis=0), 1.0, atol=1e-5)
    # A line that was cut when its process died gives way.
    longer, path = replace(subject, epochs=5), soft_orders_path(subject)
    path.write_text(path.read_text() + json.dumps(lines[-1] | {"epoch": 5})[:20])
    runner.run(longer, 5, scheduler())
    assert [line["epoch"] for line in soft_orders(subject)] == [1, 2, 3, 4, 5]
    # A run that lost its checkpoint writes them anew, not twice.
    checkpoint_path(subject).unlink()
    previous_of(checkpoint_path(subject)).unlink()
    FoldJobRunner().run(subject, 4, scheduler())
    assert soft_orders(subject) == lines
    runner.run(job(), 2, scheduler())
    assert not soft_orders_path(job()).exists()


def test_a_damaged_checkpoint_costs_time_and_no_result(
    job: MakeJob, scheduler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    whole, again, runner = scheduler(), scheduler(), FoldJobRunner()
    FoldJobRunner().run(job(folder="whole"), 4, whole)
    runner.run(job(), 2, scheduler())
    checkpoint_path(job()).write_bytes(checkpoint_path(job()).read_bytes()[:1000])
    with caplog.at_level(logging.WARNING, logger="duchenne.training"):
        runner.run(job(), 4, again)
    assert "the checkpoint is damaged" in caplog.text
    assert again.reports == whole.reports


def test_a_checkpoint_of_another_network_fails_the_job_by_name(job: MakeJob, scheduler: Any) -> None:
    FoldJobRunner().run(job(), 1, scheduler())
    wider = replace(job(model={"hidden_size": 9}))
    with pytest.raises(JobFailed) as caught:
        FoldJobRunner().run(wider, 2, scheduler())
    message = str(caught.value)
    assert message.startswith(f"{checkpoint_path(wider)}: a checkpoint must fit the network of its job, but got ")
    assert message.endswith("; remove the file to train this job from its first epoch")
    assert "\n" not in message


def spoil(subject: str, value: float) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        if row["subject"] == subject:
            row["features"] = [row["features"][0], value]

    return change


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_training_row_that_is_no_number_fails_the_job_by_name(
    value: float, job: MakeJob, scheduler: Any, toy: Dataset, rewritten: Callable[..., Dataset]
) -> None:
    name = plan_folds(toy.subjects, job().folds).inner_folds(0, 2)[0].train[5]
    subject = job("vmnc", dataset=rewritten("spoilt", spoil(name, value)))
    with pytest.raises(JobFailed, match=rf"^epoch 1: .* not for 1 of the batch's \d+ rows \({name}\); lower"):
        FoldJobRunner().run(subject, 4, scheduler())
    assert not checkpoint_path(subject).exists()


@pytest.mark.parametrize("name", ["vmnc", "monet"])
def test_a_held_out_row_that_is_no_number_fails_the_job_by_name(
    name: str, job: MakeJob, scheduler: Any, toy: Dataset, rewritten: Callable[..., Dataset]
) -> None:
    row = plan_folds(toy.subjects, job().folds).folds[0].test[7]
    subject = job(name, phase="evaluation", dataset=rewritten("spoilt", spoil(row, float("nan"))))
    with pytest.raises(JobFailed, match=rf"^epoch 4: predictions .* not for 1 of 20 held-out rows \({row}\); lower"):
        FoldJobRunner().run(subject, 4, scheduler())
    assert epoch_on_disk(subject) == 3  # the epoch that diverged is not kept


def test_a_diverging_job_names_its_epoch_and_saves_nothing(job: MakeJob, scheduler: Any) -> None:
    subject = job("vmnc", training={"learning_rate": 1e30})
    runner = FoldJobRunner()
    with pytest.raises(JobFailed, match=r"^epoch 1: .* lower training\.learning_rate") as caught:
        runner.run(subject, 4, scheduler())
    assert "\n" not in str(caught.value)
    assert not checkpoint_path(subject).exists()
    runner.run(job("vmnc", folder="next"), 1, scheduler())  # the worker goes on


def test_a_comparator_is_fitted_once_and_written(job: MakeJob, scheduler: Any) -> None:
    subject, context = job("logistic_regression", phase="evaluation"), scheduler()
    result = FoldJobRunner().run(subject, 4, context)
    assert context.ticks == 1
    assert context.reports == {}
    assert result.epoch == subject.epochs
    assert result.predictions is not None
    written = read_predictions(Path(result.predictions))
    assert result.metrics == written.metrics()
    assert len(written.subjects) == 20
    assert bytes_of(FoldJobRunner().run(subject, 4, scheduler())) == bytes_of(result)


def test_a_comparator_that_cannot_be_fitted_says_why(
    job: MakeJob, scheduler: Any, toy: Dataset, rewritten: Callable[..., Dataset]
) -> None:
    def forget(row: dict[str, Any]) -> None:
        row["labels"] = [-1, *row["labels"][1:]]

    subject = job("classifier_chain", phase="evaluation", dataset=rewritten("unknown", forget))
    with pytest.raises(JobFailed, match=r"^a classifier chain needs every training label, but 40 are unknown; leave"):
        FoldJobRunner().run(subject, 4, scheduler())
    name = plan_folds(toy.subjects, job().folds).folds[0].train[2]
    subject = job("logistic_regression", phase="evaluation", dataset=rewritten("spoilt", spoil(name, float("nan"))))
    with pytest.raises(
        JobFailed, match=rf"needs finite features, but 1 training rows have others \({name}\)"
    ) as caught:
        FoldJobRunner().run(subject, 4, scheduler())
    assert "\n" not in str(caught.value)


def test_predictions_name_their_job_and_their_data(job: MakeJob, scheduler: Any) -> None:
    import pyarrow as pa

    subject = job("vmnc", phase="evaluation", training={"epochs": 1})
    result = FoldJobRunner().run(subject, 1, scheduler())
    with pa.memory_map(str(result.predictions)) as source:
        metadata = pa.ipc.open_file(source).schema.metadata
    assert json.loads(metadata[b"job"]) == {
        "trial": 0,
        "phase": "evaluation",
        "method": "vmnc",
        "fold": 0,
        "inner": None,
        "seed": 0,
    }
    assert metadata[b"dataset_digest"].decode() == subject.dataset_digest
    assert type(subject.config).model_validate_json(metadata[b"config"]) == subject.config


def test_the_device_is_the_machines() -> None:
    assert FoldJobRunner().device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_folds_of_the_job_are_those_of_the_request(job: MakeJob, scheduler: Any) -> None:
    moved = replace(job(phase="evaluation", folder="moved", training={"epochs": 1}), folds=FoldsRequest(3, 2, seed=9))
    stayed = job(phase="evaluation", training={"epochs": 1})
    runner = FoldJobRunner()
    one, two = (runner.run(subject, 1, scheduler()) for subject in (moved, stayed))
    assert one.predictions is not None
    assert two.predictions is not None
    held_out = [set(read_predictions(Path(path)).subjects) for path in (one.predictions, two.predictions)]
    assert held_out[0] != held_out[1]
