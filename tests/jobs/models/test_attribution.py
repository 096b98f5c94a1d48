"""Attribution maps against finite differences (Tallec 2023, eq. 2.41)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from duchenne_jobs.config import ModelConfig
from duchenne_jobs.models import DataDescription, Inputs, MultiTaskNetwork, TrainingStatistics, build_network
from duchenne_jobs.models.attribution import attribution_maps

SIZE, TASKS = 8, 3


def network(name: str, **model: Any) -> MultiTaskNetwork:
    encoder = {"name": "conv", "width": 4, "layers": 1, "stride": 4}
    values = {"name": name, "encoder": encoder, "hidden_size": 4, "trajectories": 3, "orders": {"count": 3}} | model
    statistics = TrainingStatistics(torch.empty(0), torch.empty(0), torch.full((TASKS,), 0.4), rows=10)
    torch.manual_seed(0)
    data = DataDescription(tasks=("a", "b", "c"), image_size=(SIZE, SIZE))
    return build_network(ModelConfig.model_validate(values), data, statistics).double()


def images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(5)


VARIANTS: dict[str, dict[str, Any]] = {
    "vmnc": {"name": "vmnc"},
    "mrnn": {"name": "mrnn"},
    "monet": {"name": "monet"},
    "xmonet": {"name": "monet", "orders": {"count": 3, "selection": "xmonet"}},
    "groups": {"name": "monet", "orders": {"source": "all", "groups": [["a", "c"], ["b"]]}},
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_map_is_the_mean_gradient_over_channels(variant: dict[str, Any]) -> None:
    subject = network(**variant).train()
    maps = attribution_maps(subject, Inputs(images=images()), generator=draws())
    assert maps.shape == (2, TASKS, SIZE, SIZE)
    assert subject.training
    assert all(parameter.grad is None for parameter in subject.parameters())
    subject.eval()
    step, row, column = 1e-6, 3, 5
    differences = torch.zeros(2, TASKS, dtype=torch.float64)
    with torch.no_grad():
        for channel in range(3):
            for sign in (1, -1):
                moved = images()
                moved[:, channel, row, column] += sign * step
                differences += sign * subject.differentiable_prediction(Inputs(images=moved), draws())
    torch.testing.assert_close(maps[:, :, row, column], differences / (2 * step) / 3, rtol=1e-4, atol=1e-9)
    assert maps.abs().max() > 0


@pytest.mark.parametrize("name", ["mrnn", "monet"])
def test_what_is_differentiated_is_the_prediction(name: str) -> None:
    subject = network(name, trajectories=3000).eval()
    exact = network(name, inference="exact").eval()
    rows = Inputs(images=images())
    with torch.no_grad():
        for one in (subject, exact):
            one.cells.weight_ih.mul_(20)  # type: ignore[union-attr]
        sampled = subject.differentiable_prediction(rows, draws())
        torch.testing.assert_close(sampled, exact.predict(rows), rtol=0, atol=0.03)


def test_maps_of_a_layer_have_its_size() -> None:
    subject = network("vmnc")
    first = next(module for module in subject.modules() if isinstance(module, torch.nn.Conv2d))
    assert attribution_maps(subject, Inputs(images=images()), layer=first).shape == (2, TASKS, SIZE // 2, SIZE // 2)
    with pytest.raises(ValueError, match=r"`layer` must give one \(B, C, H, W\), but got \[\]"):
        attribution_maps(subject, Inputs(images=images()), layer=torch.nn.Conv2d(3, 3, 1))


def test_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"float images in \[0, 1\], but got torch.uint8"):
        attribution_maps(network("vmnc"), Inputs(images=(255 * images()).byte()))
