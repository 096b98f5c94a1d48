"""Checkpoints in a folder and in a bucket: one contract, over a real S3 server, whose answers are cut or missing."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duchenne_jobs.data import DatasetError
from duchenne_jobs.data import s3 as transfers
from duchenne_jobs.data.s3 import Patience
from duchenne_jobs.data.storage import locate
from duchenne_jobs.training import FoldJob
from duchenne_jobs.training.checkpoint_places import BucketCheckpoints, Checkpoints, FolderCheckpoints, checkpoints_at
from duchenne_jobs.training.runner import FoldJobRunner, checkpoint_path

STATE = {"epoch": 3, "network": {"weight": torch.arange(50_000.0)}, "order_optimizer": None}
HURRIED = Patience(deadline=10, stall=5, first_wait=0.02, longest_wait=0.1)


class Context:
    """A scheduler that never stops anything."""

    def tick(self) -> None: ...

    def report(self, epoch: int, metrics: dict[str, float]) -> None: ...


@pytest.fixture
def place(bucket: str) -> str:
    return f"{bucket}/sweeps"


@pytest.fixture(params=["folder", "bucket"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    if request.param == "folder":
        return FolderCheckpoints(tmp_path / "checkpoints")
    return BucketCheckpoints(locate(request.getfixturevalue("place")), HURRIED)


def damage(places: Checkpoints, name: str) -> None:
    """Flip one bit of the last checkpoint's weights."""
    if isinstance(places, FolderCheckpoints):
        path = Path(places.shown(name))
        path.write_bytes(flipped(path.read_bytes()))
        return
    bucket, _, key = places.shown(name).removeprefix("s3://").partition("/")
    client = transfers._client(HURRIED.stall)
    content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=flipped(content))


def flipped(content: bytes) -> bytes:
    return content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]


def epoch_of(places: Checkpoints, name: str) -> int | None:
    state = places.load(name)
    return None if state is None else int(state["epoch"])


def test_the_last_two_are_kept_and_verified(places: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    assert places.load("search-a") is None
    for epoch in (1, 2, 3):
        places.save("search-a", STATE | {"epoch": epoch})
    loaded = places.load("search-a")
    assert loaded is not None
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["network"]["weight"], torch.arange(50_000.0))
    damage(places, "search-a")
    with caplog.at_level(logging.WARNING, logger="duchenne.training"):
        assert epoch_of(places, "search-a") == 2
    (record,) = (one for one in caplog.records if one.name == "duchenne.training")  # the server logs too
    assert record.getMessage().startswith(f"{places.shown('search-a')}: the checkpoint is damaged (")
    assert record.getMessage().endswith("the job goes on from the one before")


def test_what_is_dropped_is_gone_with_the_one_before(places: Checkpoints) -> None:
    for name in ("search-a", "evaluation-a"):
        for epoch in (1, 2):
            places.save(name, STATE | {"epoch": epoch})
    places.drop("search-")
    assert places.load("search-a") is None
    assert epoch_of(places, "evaluation-a") == 2


def test_a_missing_last_object_leaves_the_one_before(place: str) -> None:
    places = BucketCheckpoints(locate(place), HURRIED)
    for epoch in (1, 2):
        places.save("a", STATE | {"epoch": epoch})
    name, _, key = places.shown("a").removeprefix("s3://").partition("/")
    transfers._client(HURRIED.stall).delete_object(Bucket=name, Key=key)
    assert epoch_of(places, "a") == 1


@pytest.mark.parametrize("verb", ["GET", "PUT"])
def test_a_cut_connection_costs_a_second_try_and_no_checkpoint(place: str, proxy: Any, verb: str) -> None:
    places = BucketCheckpoints(locate(place), HURRIED)
    places.save("a", STATE)
    for amount in (40_000, 60_000):
        proxy.fail("cut", method=verb, path="/a.safetensors", amount=amount)
    places.save("a", STATE | {"epoch": 4})
    loaded = places.load("a")
    assert loaded is not None
    assert loaded["epoch"] == 4
    assert not any(fault.times for fault in proxy.faults)  # both connections were cut


def test_a_write_that_never_gets_through_leaves_the_earlier_ones(
    place: str, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = BucketCheckpoints(locate(place), HURRIED)
    places.save("a", STATE)
    short = Patience(deadline=0.5, stall=5, first_wait=0.02, longest_wait=0.1)
    monkeypatch.setattr(transfers.Upload, "__init__", with_patience(transfers.Upload.__init__, short), raising=True)
    # The copy aside passes, the new one does not.
    proxy.fail("cut", method="PUT", path="/a.safetensors", times=100, amount=1000)
    with pytest.raises(DatasetError, match=r"cannot write s3://.*/a\.safetensors: "):
        places.save("a", STATE | {"epoch": 4})
    proxy.faults.clear()
    assert epoch_of(places, "a") == 3


def with_patience(begin: Callable[..., None], patience: Patience) -> Callable[..., None]:
    return lambda upload, bucket, key, extra: begin(upload, bucket, key, extra, patience)


def test_a_bucket_that_refuses_is_no_missing_checkpoint(proxy: Any) -> None:
    nowhere = BucketCheckpoints(locate(f"s3://no-such-{uuid.uuid4()}/x"), HURRIED)
    with pytest.raises(DatasetError, match="cannot read s3://no-such-"):
        nowhere.load("a")


def test_a_job_resumes_from_the_bucket_alone(job: Callable[..., FoldJob], place: str) -> None:
    alone, subject = (
        replace(job("monet", phase="evaluation", folder=folder), checkpoints=uri)
        for folder, uri in (("alone", None), ("subject", place))
    )
    straight = FoldJobRunner().run(alone, alone.epochs, Context())
    FoldJobRunner().run(subject, 2, Context())
    assert not checkpoint_path(subject).exists()
    resumed = FoldJobRunner().run(subject, subject.epochs, Context())
    assert resumed.metrics == straight.metrics
    assert epoch_of(checkpoints_at(place), subject.key.slug) == subject.epochs
    # What `predict` reads is in the home, byte for byte as without a bucket.
    assert checkpoint_path(subject).read_bytes() == checkpoint_path(alone).read_bytes()
