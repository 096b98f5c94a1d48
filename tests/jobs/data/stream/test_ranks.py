"""Who this process is among the workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from duchenne_jobs.data import Dataset
from duchenne_jobs.data.stream import FaceStream, current_rank


@pytest.fixture
def third_of_five() -> Iterator[None]:
    """This process as rank 2 of a group of 5, without the other four."""
    dist.init_process_group(backend="fake", rank=2, world_size=5, store=FakeStore())
    yield
    dist.destroy_process_group()


def test_alone() -> None:
    assert current_rank() == (0, 1)


def test_a_driver_that_has_loaded_ray_train_is_no_worker() -> None:
    import ray.train  # noqa: F401

    assert current_rank() == (0, 1)


def test_a_stream_takes_its_place_in_the_group(third_of_five: None, jpegs: Dataset) -> None:
    assert current_rank() == (2, 5)
    mine = [batch.rows.tolist() for batch in FaceStream(jpegs, cache="bytes")]
    given = [batch.rows.tolist() for batch in FaceStream(jpegs, cache="bytes", rank=2, world=5)]
    alone = [batch.rows.tolist() for batch in FaceStream(jpegs, cache="bytes", rank=0, world=1)]
    assert mine == given != alone
