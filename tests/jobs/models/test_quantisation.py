"""int8 of encoders: by hand, against torch.ao, in training and at prediction."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.ao.quantization import FakeQuantize, PerChannelMinMaxObserver

from duchenne_jobs.config import ModelConfig, QuantisationConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import DataDescription, Inputs, TrainingStatistics, build_network
from duchenne_jobs.models.quantisation import (
    DynamicInt8Inputs,
    Int8Weights,
    LearnedInt8Inputs,
    on_affine_grid,
    on_symmetric_grid,
)

PLAIN = TaskLoss(weights=None, dice=0.0)
LABELS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
KNOWN = torch.ones(3, 2, dtype=torch.bool)
MODES = ("int8_weight_only", "int8_dynamic", "int8_qat")


def network(name: str, model: str = "vmnc", encoder: str = "conv", **quantisation: Any) -> Any:
    torch.manual_seed(0)
    config = {
        "name": model,
        "encoder": {"name": encoder, "width": 8},
        "attention": {"width": 8, "heads": 2},
        "quantisation": {"name": name} | quantisation,
    }
    statistics = TrainingStatistics(torch.zeros(5), torch.ones(5), torch.full((2,), 0.5), rows=10)
    data = DataDescription(tasks=("AU1", "AU2"), features=5, image_size=(16, 16))
    return build_network(ModelConfig.model_validate(config), data, statistics)


@pytest.fixture
def inputs() -> Inputs:
    generator = torch.Generator().manual_seed(1)
    return Inputs(features=torch.randn(3, 5, generator=generator), images=torch.rand(3, 3, 16, 16, generator=generator))


def test_weights_by_hand() -> None:
    """Rows with the steps 0.01 and 0.02; the gradient passes as if nothing had happened."""
    weight = torch.tensor([[1.27, 0.014, -0.506], [2.54, -0.029, 0.0]], requires_grad=True)
    on_grid = Int8Weights(post_training=False)(weight)
    torch.testing.assert_close(on_grid, torch.tensor([[1.27, 0.01, -0.51], [2.54, -0.02, 0.0]]))
    (on_grid * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[1.0, 2.0, 3.0]] * 2))


def test_dynamic_inputs_by_hand() -> None:
    """Each row has its own step: 0.01, and 1."""
    x = torch.tensor([[[1.27, 0.014]], [[127.0, 0.4]]], requires_grad=True)
    on_grid = DynamicInt8Inputs(post_training=False)(x)
    torch.testing.assert_close(on_grid, torch.tensor([[[1.27, 0.01]], [[127.0, 0.0]]]))
    on_grid.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))  # type: ignore[arg-type]


def test_learned_inputs_by_hand() -> None:
    """A first batch in [-1, 1.55] sets the step 0.01; it stays in evaluation, where 9 becomes the end of the range."""
    inputs = LearnedInt8Inputs()
    x = torch.tensor([[-1.0, 0.203, 1.55]])
    assert torch.equal(inputs.eval()(x), x)  # nothing learned yet
    torch.testing.assert_close(inputs.train()(x), torch.tensor([[-1.0, 0.2, 1.55]]))
    torch.testing.assert_close(inputs.eval()(torch.tensor([[9.0, 0.104]])), torch.tensor([[1.55, 0.1]]))
    inputs.train()(torch.tensor([[-1.0, 0.0, 101.55]]))
    torch.testing.assert_close(inputs.range.max_val, torch.tensor(2.55))  # a hundredth of the way to 101.55


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-6, 1e6))
def test_weights_stay_within_half_a_step_and_on_256_values(seed: int, scale: float) -> None:
    weight = scale * torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    on_grid = Int8Weights(post_training=False)(weight)
    step = weight.flatten(1).abs().amax(dim=1)[:, None] / 127
    assert bool(((on_grid - weight).flatten(1).abs() <= 0.5001 * step).all())
    values = on_grid.flatten(1) / step
    torch.testing.assert_close(values, values.round(), atol=1e-3, rtol=0)


def test_weights_are_those_of_torch_ao() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    theirs = FakeQuantize(
        PerChannelMinMaxObserver, -127, 127, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, ch_axis=0
    )
    torch.testing.assert_close(Int8Weights(post_training=False)(weight), theirs(weight))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-6, 1e6), zero=st.integers(-128, 127))
def test_what_is_exported_is_what_torch_computes(seed: int, scale: float, zero: int) -> None:
    x = scale * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    x[0, 0, 0] = scale * torch.tensor([0.5, 1.5, -0.5, 2.5, 100.0])  # halves go to even, 100 is out of a range
    steps = x.flatten(1).abs().amax(dim=1) / 127
    coarse, origin = torch.tensor(scale / 50), torch.tensor(float(zero))
    fused = on_symmetric_grid(x, steps), on_affine_grid(x, coarse, origin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_exporting", lambda: True)
        exported = on_symmetric_grid(x, steps), on_affine_grid(x, coarse, origin)
    assert torch.equal(exported[0], fused[0])
    assert torch.equal(exported[1], fused[1])


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize(("model", "encoder"), [("vmnc", "conv"), ("monet", "features"), ("mtts", "conv")])
def test_training_and_prediction(name: str, model: str, encoder: str, inputs: Inputs) -> None:
    built, plain = network(name, model, encoder), network("none", model, encoder)
    losses = built.example_losses(inputs, LABELS, LABELS, KNOWN, PLAIN)
    losses.sum().backward()
    assert all(parameter.grad is not None for parameter in built.parameters())
    unlike = plain.example_losses(inputs, LABELS, LABELS, KNOWN, PLAIN)
    assert not torch.equal(losses, unlike)
    torch.testing.assert_close(losses, unlike, atol=0.1, rtol=0.1)
    with torch.no_grad():
        first = built.eval().predict(inputs, torch.Generator().manual_seed(0))
        again = built.predict(inputs, torch.Generator().manual_seed(0))
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", MODES)
def test_a_checkpoint_and_a_copy_hold_all_of_it(name: str, inputs: Inputs) -> None:
    built = network(name)
    built.example_losses(inputs, LABELS, LABELS, KNOWN, PLAIN)
    restored = network(name)
    restored.load_state_dict(built.state_dict())
    copied = copy.deepcopy(built)
    with torch.no_grad():
        expected = built.eval().predict(inputs)
        assert torch.equal(restored.eval().predict(inputs), expected)
        built.train().example_losses(Inputs(images=9 * inputs.require("images")), LABELS, LABELS, KNOWN, PLAIN)
        assert torch.equal(copied.eval().predict(inputs), expected)  # the ranges of a copy are its own


@pytest.mark.parametrize("name", ["int8_weight_only", "int8_dynamic"])
def test_post_training_leaves_training_alone(name: str, inputs: Inputs) -> None:
    built, plain = network(name, post_training=True), network("none")
    losses = [one.example_losses(inputs, LABELS, LABELS, KNOWN, PLAIN) for one in (built, plain)]
    assert torch.equal(*losses)
    with torch.no_grad():
        predicted = [one.eval().predict(inputs) for one in (built, plain)]
    assert not torch.equal(*predicted)
    torch.testing.assert_close(*predicted, atol=0.02, rtol=0)


def test_only_the_encoder_is_quantised() -> None:
    names = [name for name, module in network("int8_weight_only", "mtts").named_modules() if "parametriz" in name]
    assert names
    assert all(name.startswith("attention.encoder.encoder.backbone") for name in names)


def test_ranges_that_are_never_learned_are_refused() -> None:
    with pytest.raises(ValidationError, match="`int8_qat` learns its ranges in training, but post_training is true"):
        QuantisationConfig(name="int8_qat", post_training=True)
