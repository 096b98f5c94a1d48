"""int8 quantisation of encoders as a regulariser (Tallec 2023, 5.2.3): values on an int8 grid, kept in floating point.

A quantised layer computes with what int8 would hold, and its gradient passes straight through the rounding. The stored
weights stay in floating point: a checkpoint holds what training goes on from.

Shapes: B rows, O output channels or units of a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.ao.quantization import MovingAverageMinMaxObserver
from torch.nn.utils import parametrize

from duchenne_jobs.config import QuantisationConfig
from duchenne_jobs.models.encoders import Encoder

LOW, HIGH = -128, 127
STEPS = HIGH - LOW
INPUTS = "int8_inputs"
SMALLEST_SCALE = torch.finfo(torch.float32).eps


class Int8Weights(nn.Module):
    """Symmetric int8 over each output channel's own range; a parametrisation of `weight`.

    Args:
        post_training: leave the weights as they are in training.
    """

    def __init__(self, post_training: bool) -> None:
        super().__init__()
        self._post_training = post_training

    def forward(self, weight: Tensor) -> Tensor:
        """(O, ...) -> the same, on the grid."""
        if self.training and self._post_training:
            return weight
        scale = weight.detach().flatten(1).abs().amax(dim=1).clamp(min=SMALLEST_SCALE) / HIGH
        return on_symmetric_grid(weight, scale)


class DynamicInt8Inputs(nn.Module):
    """Symmetric int8 over each row's own range.

    Args:
        post_training: leave the inputs as they are in training.
    """

    def __init__(self, post_training: bool) -> None:
        super().__init__()
        self._post_training = post_training

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same, on the grid."""
        if self.training and self._post_training:
            return x
        scale = x.detach().flatten(1).abs().amax(dim=1).clamp(min=SMALLEST_SCALE) / HIGH
        return on_symmetric_grid(x, scale)


class LearnedInt8Inputs(nn.Module):
    """int8 over a range that follows the training batches by a moving average and stays as it is in evaluation.

    Before the first training batch there is no range, and the inputs stay as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.range = MovingAverageMinMaxObserver(
            averaging_constant=0.01, dtype=torch.qint8, qscheme=torch.per_tensor_affine, quant_min=LOW, quant_max=HIGH
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same, on the grid, values outside the range at its ends."""
        if self.training:
            self.range(x.detach())
        low, high = self.range.min_val.clamp(max=0), self.range.max_val.clamp(min=0)  # zero must be on the grid
        scale = ((high - low) / STEPS).clamp(min=SMALLEST_SCALE)
        zero = (LOW - low / scale).round().clamp(LOW, HIGH)
        return torch.where(torch.isfinite(self.range.min_val), on_affine_grid(x, scale, zero), x)


def on_symmetric_grid(x: Tensor, scale: Tensor) -> Tensor:
    """(B, ...) at the nearest multiples of its row's step `scale` (B,); the gradient passes within the range."""
    if torch.compiler.is_exporting():
        return _by_arithmetic(x, scale.view(-1, *(1,) * (x.dim() - 1)), 0.0)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(x, scale, zero, 0, LOW, HIGH)


def on_affine_grid(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """(...) at the nearest `(q - zero) scale` of a whole q in LOW..HIGH; the gradient passes within the range."""
    if torch.compiler.is_exporting():
        return _by_arithmetic(x, scale, zero)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero.to(torch.int32), LOW, HIGH)


def _by_arithmetic(x: Tensor, scale: Tensor, zero: Tensor | float) -> Tensor:
    """What torch's fused operators compute, bit by bit, in operators that ONNX has; a graph needs no gradient."""
    return (((x * (1.0 / scale)).round() + zero).clamp(LOW, HIGH) - zero) * scale


def quantise_encoders(network: nn.Module, config: QuantisationConfig) -> None:
    """Quantise every convolution and dense layer of the network's encoders, in place; `none` leaves them alone."""
    if config.name == "none":
        return
    encoders = [module for module in network.modules() if isinstance(module, Encoder)]
    for encoder in encoders:
        for layer in list(encoder.modules()):
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                _quantise(layer, config)


def _quantise(layer: nn.Conv2d | nn.Linear, config: QuantisationConfig) -> None:
    parametrize.register_parametrization(layer, "weight", Int8Weights(config.post_training))
    if config.name == "int8_weight_only":
        return
    inputs = LearnedInt8Inputs() if config.name == "int8_qat" else DynamicInt8Inputs(config.post_training)
    layer.add_module(INPUTS, inputs)
    layer.register_forward_pre_hook(_quantise_inputs)


def _quantise_inputs(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # Looked up on the layer, not closed over: a copy of the network has ranges of its own.
    return (layer.get_submodule(INPUTS)(args[0]), *args[1:])
