"""Two processes train what one does: the same losses, weights and predictions, whatever is drawn and summed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from duchenne_jobs.training import FoldJob, JobFailed, JobStopped, SegmentResult, zero
from duchenne_jobs.training.checkpoint import load_checkpoint
from duchenne_jobs.training.ranks import RankError, Ranks
from duchenne_jobs.training.runner import FoldJobRunner, checkpoint_path
from duchenne_jobs.training.trainer import Trainer

Job = Callable[..., FoldJob]
PATIENCE = timedelta(seconds=30) if find_spec("deepspeed") is None else timedelta(minutes=5)  # it compiles first
ORDERS = {"count": 6, "active": 3}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vmnc": ("vmnc", {"loss": {"smoothing": {"name": "rhls"}, "task_weights": "inverse_frequency"}}),
    "monet, warm-up, order dropout, clipped": (
        "monet",
        {"model": {"orders": {**ORDERS, "warmup_epochs": 1}}, "training": {"gradient_clip": 0.5}},
    ),
    "monet, dropout of each example": ("monet", {"model": {"orders": {**ORDERS, "dropout_per": "example"}}}),
    "monet, hard selection": ("monet", {"model": {"orders": {**ORDERS, "selection": "hard", "warmup_epochs": 2}}}),
    "monet, evolution": (
        "monet",
        {"model": {"orders": {"count": 4, "evolution": {"every": 1, "first_epoch": 1, "last_epoch": 4, "parents": 2}}}},
    ),
    "xmonet": ("monet", {"model": {"orders": {**ORDERS, "selection": "xmonet", "warmup_epochs": 1}}}),
}


class Context:
    """A scheduler that stops at a tick, and remembers."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.left = stop_at
        self.reports: dict[int, dict[str, float]] = {}

    def tick(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise JobStopped

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        self.reports[epoch] = metrics


def as_rank(rank: int, size: int, meeting: str, action: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=PATIENCE)
    action(Ranks(rank, size, dist.group.WORLD, dist.group.WORLD), *arguments)
    dist.destroy_process_group()


def together(tmp_path: Path, action: Callable[..., Any], *arguments: Any) -> None:
    """Run `action(ranks, *arguments)` on two processes."""
    mp.start_processes(
        as_rank, (2, str(tmp_path / "meeting"), action, arguments), nprocs=2, start_method="fork", join=True
    )


def run_all(ranks: Ranks, jobs: list[FoldJob], found: str, is_warm: bool = True) -> None:
    """Two segments of each job: the second one goes on in the same process's memory, or from the file."""
    runner, reports = FoldJobRunner(ranks), []
    for job in jobs:
        context = Context()
        runner.run(job, 2, context)
        runner = runner if is_warm else FoldJobRunner(ranks)
        result = runner.run(job, job.epochs, context)
        reports.append((context.reports, result.metrics))
    if ranks.is_first:
        torch.save(reports, found)
    else:
        assert all(not context for context, _ in reports)


def assert_close(one: Any, other: Any, place: str = "") -> None:
    if isinstance(one, Tensor):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=lambda text: f"{place}: {text}")
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other)
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_close(*pair, f"{place}/{index}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4, rel=1e-4, nan_ok=True), place
    else:
        assert one == other, place


def test_two_ranks_train_what_one_does(job: Job, tmp_path: Path) -> None:
    # 27 training rows by batches of 13: a part of 6 and of 7 rows, and a last batch of one row for two ranks.
    def make(folder: str) -> list[FoldJob]:
        made = []
        for place, (name, sections) in enumerate(VARIANTS.values()):
            training = {"batch_size": 13, **sections.get("training", {})}
            for phase in ("search", "evaluation") if place == 1 else ("search",):
                made.append(job(name, phase=phase, folder=f"{folder}{place}", **{**sections, "training": training}))
        return made

    alone, shared = make("alone"), make("shared")
    run_all(Ranks(), alone, str(tmp_path / "alone.pt"))
    together(tmp_path, run_all, shared, str(tmp_path / "shared.pt"))
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("alone", "shared"))
    for name, first, second in zip([*VARIANTS, "last"], one, two, strict=False):
        assert_close(list(first), list(second), name)
    for first_job, second_job in zip(alone, shared, strict=True):
        assert_close(load_checkpoint(checkpoint_path(first_job)), load_checkpoint(checkpoint_path(second_job)))


def convolution(ranks: Ranks, found: str) -> None:
    from duchenne_jobs.models.batch_part import draw_by_row, normalise_over_ranks, part_of_batch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout2d(0.5)
    )
    images = torch.randn(7, 3, 6, 6)
    draw_by_row(network)
    part = ranks.part(len(images))
    if ranks.size > 1:
        normalise_over_ranks(network, ranks.data)
    with part_of_batch(part):
        loss = network(images if part is None else part.cut(images)).square().sum()
    loss.backward()
    gradients = [ranks.add(parameter.grad.clone()) for parameter in network.parameters() if parameter.grad is not None]
    if ranks.is_first:
        torch.save([*gradients, *network.state_dict().values()], found)


def test_a_batch_is_normalised_and_dropped_as_a_whole(tmp_path: Path) -> None:
    convolution(Ranks(), str(tmp_path / "alone.pt"))
    together(tmp_path, convolution, str(tmp_path / "shared.pt"))
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("alone", "shared"))
    assert_close(one, two)


def hear(ranks: Ranks, found: str) -> None:
    def refuse() -> None:
        if ranks.rank == 1:
            raise JobFailed("rank 1 says no")

    def break_down() -> None:
        if ranks.rank == 1:
            raise OSError("no space")

    with pytest.raises(JobFailed, match="rank 1 says no"):
        ranks.each(refuse)
    with pytest.raises(RankError, match="rank 1 of 2: OSError: no space"):
        ranks.each(break_down)
    with pytest.raises(JobStopped):
        ranks.any(False, JobStopped() if ranks.is_first else None)
    assert ranks.any(ranks.rank == 1)
    assert ranks.first(lambda: "said") == ("said" if ranks.is_first else None)
    assert ranks.share(b"weights" if ranks.is_first else None) == b"weights"
    assert ranks.share(None) is None
    assert ranks.gather(b"x" * ranks.rank) == [b"", b"x"]
    Path(f"{found}{ranks.rank}").touch()


def test_what_one_rank_raises_all_raise(tmp_path: Path) -> None:
    together(tmp_path, hear, str(tmp_path / "heard"))
    assert (tmp_path / "heard0").exists()
    assert (tmp_path / "heard1").exists()


def stop_and_go_on(ranks: Ranks, job: FoldJob) -> None:
    stopped = Context(stop_at=4 if ranks.is_first else None)  # the followers' contexts are never asked
    with pytest.raises(JobStopped):
        FoldJobRunner(ranks).run(job, job.epochs, stopped)
    assert FoldJobRunner(ranks).run(job, job.epochs, Context()).epoch == job.epochs


def test_a_stop_told_to_the_first_stops_all_and_they_go_on(job: Job, tmp_path: Path) -> None:
    straight, stopped = job("monet", folder="straight"), job("monet", folder="stopped")
    expected = FoldJobRunner().run(straight, straight.epochs, Context())
    together(tmp_path, stop_and_go_on, stopped)
    state = load_checkpoint(checkpoint_path(stopped))
    assert state is not None
    assert_close(expected.metrics, state["metrics"])


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("stage", "is_warm"), [(1, True), (1, False), (2, False), (3, True), (3, False)])
def test_zero_trains_what_one_does(
    stage: int, is_warm: bool, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero, "WHOLE_BELOW", 0)  # stage 3 shares out these small networks too

    def make(folder: str) -> list[FoldJob]:
        training = {"engine": "deepspeed", "zero_stage": stage, "batch_size": 13}
        names = ("vmnc",) if stage == 3 else ("vmnc", "monet")
        orders = {"model": {"orders": {**ORDERS, "warmup_epochs": 1}}}
        return [job(name, folder=f"{folder}-{name}", training=training, **orders) for name in names]

    alone, shared = make("alone"), make("shared")
    run_all(Ranks(), alone, str(tmp_path / "alone.pt"))
    together(tmp_path, run_all, shared, str(tmp_path / "shared.pt"), is_warm)
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("alone", "shared"))
    assert_close([list(each) for each in one], [list(each) for each in two])
    for first, second in zip(alone, shared, strict=True):
        states = [load_checkpoint(checkpoint_path(which)) for which in (first, second)]
        assert_close(*[state["network"] for state in states if state is not None])


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="deepspeed is installed")
def test_without_deepspeed_the_job_says_so_in_one_line(job: Job) -> None:
    pretended = Ranks(rank=0, size=2, control=None)  # the refusal comes before anything is done together
    with pytest.raises(JobFailed, match=r"^training\.engine: deepspeed must be installed .*; pip install [^\n]*$"):
        make_engine(pretended, job("vmnc", training={"engine": "deepspeed"}))


def make_engine(ranks: Ranks, job: FoldJob) -> None:
    split = FoldJobRunner()._split_of(job)
    Trainer(job.config, split.train, split.data, 0, torch.device("cpu"), ranks)


def die(ranks: Ranks, job: FoldJob) -> None:
    context = Context()
    if ranks.rank == 1:
        runner = FoldJobRunner(ranks)
        runner.run(job, 1, context)
        os.kill(os.getpid(), signal.SIGKILL)
    runner = FoldJobRunner(ranks)
    runner.run(job, 1, context)
    with pytest.raises(RuntimeError):
        runner.run(job, job.epochs, context)
    raise SystemExit(3)


def test_a_dead_rank_is_an_error_of_the_others_not_a_wait(job: Job, tmp_path: Path) -> None:
    subject = job("vmnc")
    with pytest.raises((mp.ProcessExitedException, mp.ProcessRaisedException)):
        together(tmp_path, die, subject)
    assert (load_checkpoint(checkpoint_path(subject)) or {})["epoch"] == 1
    result: SegmentResult = FoldJobRunner().run(subject, subject.epochs, Context())  # on one worker, from there
    assert result.epoch == subject.epochs
