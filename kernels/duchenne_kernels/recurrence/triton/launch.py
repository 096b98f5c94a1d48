"""The Triton backend as a torch op: launches the kernels with pinned configurations.

Shapes: B batch, K active orders, T tasks (= C cells), H hidden, N = B K rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from duchenne_kernels.recurrence import tiled
from duchenne_kernels.recurrence.cpu import Gradients

MAX_HIDDEN = 64  # above it, a cell's matrix no longer fits into registers without spilling
MIN_CAPABILITY = (8, 0)
INT32 = 2**31
BLOCK = 16  # R: rows of a tile


@dataclass(frozen=True)
class Configuration:
    """Warps and pipeline stages of a program, by the padded hidden size alone: nothing is tuned at run time."""

    warps: int
    stages: int = 1


# sm_80 and sm_90 compile these without a spill (tests/kernels/test_triton_compile.py).
PINNED = {16: Configuration(warps=4), 32: Configuration(warps=4), 64: Configuration(warps=8)}


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def installed() -> bool:
    """Whether there is a Triton to import."""
    return find_spec("triton") is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def interpreting() -> bool:
    """Whether Triton runs kernels in its interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def padded(hidden_size: int) -> int:
    """P: the power of two, at least 16, that a tile's units are padded to."""
    return max(16, 1 << (hidden_size - 1).bit_length())


def refusal(hidden: Tensor, dtype: torch.dtype, width: int, rows: int, steps: int) -> str | None:
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
    if dtype not in (torch.float32, torch.bfloat16):
        return f"computes in float32 or bfloat16, not {dtype}"
    if hidden_size > MAX_HIDDEN:
        return f"hidden size {hidden_size} is above {MAX_HIDDEN}"
    if width > 1:
        return f"feeds one label a step, not groups of {width}"
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


@torch.library.custom_op("duchenne_kernels::recurrence_triton", mutates_args=())
def recurrence_triton(
    hidden: Tensor,
    fed: Tensor,
    orders: Tensor,
    active: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    slots: Tensor,
) -> tuple[Tensor, Tensor]:
    """Logits (B, K, T) in task order, and the states (T + 1, N, H) in float32."""
    from duchenne_kernels.recurrence.triton.kernels import forward_kernel

    batch, size = hidden.shape
    steps = orders.shape[1]
    kept = orders.shape[0] if active is None else active.shape[1]
    rows = batch * kept
    tiles = tiled.cut(orders, active, batch, BLOCK)
    logits = torch.empty(batch, kept, steps, dtype=hidden.dtype, device=hidden.device)
    states = torch.empty(steps + 1, rows, size, dtype=torch.float32, device=hidden.device)
    pinned = PINNED[padded(size)]
    forward_kernel[(tiles.number,)](
        hidden.contiguous(),
        fed.contiguous(),
        orders.contiguous(),
        tiles.order,
        tiles.start,
        tiles.count,
        tiles.example,
        tiles.column,
        weight_ih.contiguous(),
        _operand(weight_hh.transpose(1, 2)),
        bias_ih.contiguous(),
        bias_hh.contiguous(),
        weight_out.contiguous(),
        bias_out.contiguous(),
        logits,
        states,
        steps,
        rows,
        H=size,
        P=padded(size),
        R=BLOCK,
        PRECISION=_precision(weight_hh.dtype),
        num_warps=pinned.warps,
        num_stages=pinned.stages,
    )
    return logits, states


@torch.library.custom_op("duchenne_kernels::recurrence_triton_backward", mutates_args=())
def recurrence_triton_backward(
    grad_logits: Tensor,
    hidden: Tensor,
    fed: Tensor,
    orders: Tensor,
    active: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    slots: Tensor,
    states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of hidden, fed and the six cell tensors from `grad_logits` (B, K, T)."""
    from duchenne_kernels.recurrence.triton.kernels import backward_kernel, weight_kernel

    batch, size = hidden.shape
    steps = orders.shape[1]
    kept = grad_logits.shape[1]
    rows, pad = batch * kept, padded(size)
    tiles = tiled.cut(orders, active, batch, BLOCK)
    table = (tiles.order, tiles.start, tiles.count, tiles.example, tiles.column)
    incoming, labels, sequence = grad_logits.contiguous(), fed.contiguous(), orders.contiguous()
    options: dict[str, Any] = {"dtype": torch.float32, "device": hidden.device}
    grad_gates = torch.empty(steps, rows, 4, size, **options)
    grad_hidden = torch.empty(batch, kept, size, **options)
    grad_fed = torch.zeros(batch, kept, steps, **options)  # the last label of an order is fed to nothing
    shared: dict[str, Any] = {"H": size, "P": pad, "R": BLOCK, "PRECISION": _precision(weight_hh.dtype)}
    shared |= {"num_warps": PINNED[pad].warps, "num_stages": PINNED[pad].stages}
    backward_kernel[(tiles.number,)](
        incoming,
        labels,
        sequence,
        *table,
        weight_ih.contiguous(),
        _operand(weight_hh),
        _operand(weight_hh.transpose(1, 2)),
        bias_ih.contiguous(),
        bias_hh.contiguous(),
        weight_out.contiguous(),
        states,
        grad_gates,
        grad_hidden,
        grad_fed,
        steps,
        rows,
        **shared,
    )
    shares = max(1, min(32, tiles.number // 8))
    sum_weight = torch.empty(shares, steps, 4, pad, pad, **options)
    sum_vector = torch.empty(shares, steps, 4, 3, pad, **options)
    weight_kernel[(steps, 4, shares)](
        incoming,
        labels,
        sequence,
        sequence.argsort(dim=1),
        *table,
        states,
        grad_gates,
        sum_weight,
        sum_vector,
        tiles.number,
        -(-tiles.number // shares),
        steps,
        rows,
        **shared,
    )
    parameters = _parameter_gradients(sum_weight.sum(0), sum_vector.sum(0), size)
    inputs = (hidden, fed, weight_ih, weight_hh, bias_ih, bias_hh, weight_out, bias_out)
    found = (grad_hidden.sum(1), grad_fed.sum(1), *parameters)
    return Gradients._make(
        value.to(tensor.dtype).reshape(tensor.shape) for value, tensor in zip(found, inputs, strict=True)
    )


def _parameter_gradients(matrices: Tensor, vectors: Tensor, size: int) -> tuple[Tensor, ...]:
    """From sums (C, 4, P, P) and (C, 4, 3, P) to weight_ih, weight_hh, bias_ih, bias_hh, weight_out and bias_out."""
    cells = matrices.shape[0]
    bias, weight, other = vectors[..., :size].unbind(2)  # (C, 4, H) each
    hidden_part, input_part = [0, 1, 2], [0, 1, 3]
    return (
        weight[:, input_part].reshape(cells, -1),
        matrices[:, :3, :size, :size].reshape(cells, 3 * size, size),
        bias[:, input_part].reshape(cells, -1),
        bias[:, hidden_part].reshape(cells, -1),
        other[:, 3].clone(),
        other[:, 2, 0].clone(),
    )


tiled.register(recurrence_triton, recurrence_triton_backward)
