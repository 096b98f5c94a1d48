"""Small networks with known statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
import torch

from duchenne_jobs.config import ATTENTION_NAMES, ModelConfig
from duchenne_jobs.models import DataDescription, Inputs, MultiTaskNetwork, TrainingStatistics, build_network

FEATURES, TASKS = 5, 3
IMAGE_SIZE = (8, 12)
FREQUENCY = (0.1, 0.5, 0.8)
SMALL: dict[str, Any] = {"encoder": {"layers": 2, "width": 8}, "hidden_size": 8, "orders": {"count": 4}}
SMALL_ATTENTION: dict[str, Any] = SMALL | {
    "encoder": {"name": "conv", "layers": 1, "width": 8, "stride": 4},
    "attention": {"width": 8, "heads": 2, "self_layers": 1, "cross_layers": 2, "mlp_ratio": 2},
}


class Build(Protocol):
    """Builds the network `name` for T tasks, from a fixed seed; networks with attention on a small encoder of faces."""

    def __call__(self, name: str, tasks: int = TASKS, **model: Any) -> MultiTaskNetwork: ...


def statistics(tasks: int = TASKS) -> TrainingStatistics:
    frequency = torch.tensor([FREQUENCY[task % 3] for task in range(tasks)])
    return TrainingStatistics(torch.full((FEATURES,), 2.0), torch.full((FEATURES,), 3.0), frequency, rows=100)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of eight units gain nothing from more threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build() -> Build:
    def make(name: str, tasks: int = TASKS, **model: Any) -> MultiTaskNetwork:
        small = SMALL_ATTENTION if name in ATTENTION_NAMES else SMALL
        encoder = small["encoder"] | model.pop("encoder", {})
        config = ModelConfig.model_validate({"name": name} | small | model | {"encoder": encoder})
        torch.manual_seed(0)
        names = tuple(f"task {task}" for task in range(tasks))
        data = DataDescription(tasks=names, features=FEATURES, image_size=IMAGE_SIZE)
        return build_network(config, data, statistics(tasks))

    return make


@pytest.fixture
def inputs() -> Inputs:
    """64 rows of F features, distributed as the statistics say, and of images."""
    generator = torch.Generator().manual_seed(1)
    features = 2.0 + 3.0 * torch.randn(64, FEATURES, generator=generator)
    return Inputs(features=features, images=torch.rand(64, 3, *IMAGE_SIZE, generator=generator))


@pytest.fixture
def frequency() -> torch.Tensor:
    return torch.tensor(FREQUENCY)
