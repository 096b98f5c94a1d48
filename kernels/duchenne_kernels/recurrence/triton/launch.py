"""The Triton backend as a torch op: launches the kernels with pinned configurations.

Shapes: B batch, K active orders, T tasks, C cells (= steps), W label slots, H hidden, P H padded to a power of two,
N = B K rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from duchenne_kernels.recurrence import tiled
from duchenne_kernels.recurrence.registration import Gradients, Inputs, register

MIN_CAPABILITY = (8, 0)
INT32 = 2**31
TILE_ROWS = 16  # R


@dataclass(frozen=True)
class Configuration:
    """Sizes of a program, by the hidden size and dtype alone: nothing is tuned at run time."""

    padded: int  # P
    depth: int  # K
    warps: int
    stages: int = 1


# sm_80 and sm_90 compile these without a spill (tests/kernels/test_triton_compile.py).
# TF32, which is opt-in, spills up to 64 bytes above H = 64.
SMALL = (Configuration(padded=16, depth=16, warps=4), Configuration(padded=32, depth=32, warps=8))
PINNED = {
    torch.float32: (
        *SMALL,
        Configuration(padded=64, depth=16, warps=8),
        Configuration(padded=128, depth=16, warps=8),
    ),
    torch.bfloat16: (
        *SMALL,
        Configuration(padded=64, depth=64, warps=8),
        Configuration(padded=128, depth=64, warps=8),
    ),
}
MAX_HIDDEN = 128
MAX_BLOCK = 64  # B: above it, the sum of a block of weight gradients no longer fits into registers


def pinned(hidden_size: int, dtype: torch.dtype) -> Configuration:
    """The configuration of the smallest size that holds `hidden_size` units, for weights of `dtype`."""
    return next(configuration for configuration in PINNED[dtype] if configuration.padded >= hidden_size)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def installed() -> bool:
    """Whether there is a Triton to import."""
    return find_spec("triton") is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def interpreting() -> bool:
    """Whether Triton runs kernels in its interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def refusal(hidden: Tensor, dtype: torch.dtype, rows: int, steps: int) -> str | None:
    """Why the Triton kernels can't compute this, or None: `dtype` is the weights', `rows` is B x K."""
    device, hidden_size = hidden.device, hidden.shape[1]
    if not installed():
        return "triton isn't installed"
    if interpreting():
        if device.type != "cpu":
            return f"the interpreter takes CPU tensors, not {device}"
    elif device.type != "cuda":
        return f"hidden is on {device}, not on a GPU"
    elif tiled.capability(device.index or 0) < MIN_CAPABILITY:
        return f"needs compute capability {MIN_CAPABILITY}, not {tiled.capability(device.index or 0)}"
    if dtype not in PINNED:
        return f"computes in float32 or bfloat16, not {dtype}"
    if hidden_size > MAX_HIDDEN:
        return f"hidden size {hidden_size} is above {MAX_HIDDEN}"
    if rows * steps >= INT32:
        return f"B x K x T = {rows * steps} is not below 2^31"
    return None


def _operand(weight: Tensor) -> Tensor:
    """A matrix for the kernels' products. Triton's interpreter multiplies bfloat16's bit patterns as integers."""
    return (weight.float() if interpreting() else weight).contiguous()


def _precision(dtype: torch.dtype) -> str:
    """float32 stays float32: TF32 only where the user asked torch for it."""
    asked = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if asked and dtype == torch.float32 else "ieee"


def _shared_arguments(inputs: Inputs, tiles: tiled.Tiles) -> dict[str, Any]:
    """What both the forward and the backward kernel take, by name."""
    hidden, fed, orders, _active, weights = inputs
    size = hidden.shape[1]
    chosen = pinned(size, weights.weight_hh.dtype)
    return {
        "fed": fed.contiguous(),
        "orders": orders.contiguous(),
        "slots": weights.slots.contiguous(),
        "tile_order": tiles.order,
        "tile_start": tiles.start,
        "tile_count": tiles.count,
        "example": tiles.example,
        "column": tiles.column,
        "weight_ih": weights.weight_ih.contiguous(),
        "weight_t": _operand(weights.weight_hh.transpose(1, 2)),
        "bias_ih": weights.bias_ih.contiguous(),
        "bias_hh": weights.bias_hh.contiguous(),
        "weight_out": weights.weight_out.contiguous(),
        "steps": orders.shape[1],
        "tasks": fed.shape[1],
        "rows": hidden.shape[0] * inputs.kept,
        "H": size,
        "P": chosen.padded,
        "K": chosen.depth,
        "W": weights.slots.shape[1],
        "R": TILE_ROWS,
        "PRECISION": _precision(weights.weight_hh.dtype),
        "num_warps": chosen.warps,
        "num_stages": chosen.stages,
    }


def _forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    from duchenne_kernels.recurrence.triton.kernels import forward_kernel

    hidden = inputs.hidden
    tiles = tiled.cut(inputs, TILE_ROWS)
    logits = hidden.new_empty(hidden.shape[0], inputs.kept, inputs.fed.shape[1])
    states = tiled.empty_states(inputs)
    forward_kernel[(tiles.number,)](
        hidden=hidden.contiguous(),
        bias_out=inputs.weights.bias_out.contiguous(),
        logits=logits,
        states=states,
        **_shared_arguments(inputs, tiles),
    )
    return logits, states


def _backward(grad_logits: Tensor, inputs: Inputs, states: Tensor) -> Gradients:
    from duchenne_kernels.recurrence.triton.kernels import backward_kernel

    (batch, size), (steps, tasks) = inputs.hidden.shape, (inputs.orders.shape[1], inputs.fed.shape[1])
    tiles = tiled.cut(inputs, TILE_ROWS)
    options: dict[str, Any] = {"dtype": torch.float32, "device": inputs.hidden.device}
    grad_gates = torch.empty(steps, batch * inputs.kept, 4, size, **options)
    grad_hidden = torch.empty(batch, inputs.kept, size, **options)
    grad_fed = torch.zeros(batch, inputs.kept, tasks, **options)  # the last labels of an order are fed to nothing
    arguments = _shared_arguments(inputs, tiles) | {"grad_logits": grad_logits.contiguous(), "states": states}
    backward_kernel[(tiles.number,)](
        weight_hh=_operand(inputs.weights.weight_hh),
        grad_gates=grad_gates,
        grad_hidden=grad_hidden,
        grad_fed=grad_fed,
        **arguments,
    )
    found = (grad_hidden.sum(1), grad_fed.sum(1), *_parameter_gradients(arguments, tiles.number, grad_gates))
    wanted = (inputs.hidden, inputs.fed, *inputs.weights[:-1])
    return Gradients._make(
        value.to(tensor.dtype).view(tensor.shape) for value, tensor in zip(found, wanted, strict=True)
    )


def _parameter_gradients(arguments: dict[str, Any], tiles: int, grad_gates: Tensor) -> tuple[Tensor, ...]:
    """weight_ih, weight_hh, bias_ih, bias_hh, weight_out and bias_out, summed per cell over all of its tiles."""
    from duchenne_kernels.recurrence.triton.kernels import matrix_kernel, vector_kernel

    size, padded, (cells, width) = arguments["H"], arguments["P"], arguments["slots"].shape
    block = min(padded, MAX_BLOCK)
    shares = max(1, min(32, tiles // 8))
    matrices = grad_gates.new_empty(shares, cells, 3, padded, padded)
    vectors = grad_gates.new_empty(shares, cells, width, 4, 3, padded)
    arguments = arguments | {
        "positions": arguments["orders"].argsort(dim=1),
        "grad_gates": grad_gates,
        "tiles": tiles,
        "tiles_each": -(-tiles // shares),
        "B": block,
    }
    blocks = 3 * (padded // block) ** 2
    for kernel, programs, sums in ((matrix_kernel, blocks, matrices), (vector_kernel, 4 * width, vectors)):
        options = ("num_warps", "num_stages")
        taken = {name: value for name, value in arguments.items() if name in (*kernel.arg_names, *options)}
        kernel[(cells, programs, shares)](sums=sums, **taken)
    weight_hh = matrices.sum(0)[..., :size, :size].reshape(cells, 3 * size, size)
    bias, weight, third = vectors.sum(0)[..., :size].unbind(3)  # (C, W, 4, H) each
    hidden_part, input_part = [0, 1, 2], [0, 1, 3]
    return (
        weight[:, :, input_part].permute(0, 2, 3, 1).reshape(cells, 3 * size, width),
        weight_hh,
        bias[:, 0, input_part].reshape(cells, -1),
        bias[:, 0, hidden_part].reshape(cells, -1),
        third[:, :, 3].clone(),
        third[:, :, 2, 0].clone(),
    )


recurrence_triton = register("recurrence_triton", _forward, _backward, tiled.empty_states)
