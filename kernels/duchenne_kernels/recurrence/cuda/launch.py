"""The CUDA backend as a torch op.

Shapes: B batch, K active orders, T tasks (= C cells), H hidden, N = B K rows.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from duchenne_kernels.recurrence import tiled
from duchenne_kernels.recurrence.cpu import Gradients
from duchenne_kernels.recurrence.cuda.library import ARCHITECTURES, Problem, built, load

# Backward keeps 7 H + 8 numbers for each of 16 rows in shared memory; sm_80 gives a block 163 KiB.
MAX_HIDDEN = 256
TILE_ROWS = 16
INT32 = 2**31


def refusal(hidden: Tensor, dtype: torch.dtype, width: int, rows: int, steps: int) -> str | None:
    """Why the CUDA kernels can't compute this, or None: `dtype` is the weights', `rows` is B x K."""
    if not built():
        return "not built; run `python -m duchenne_kernels.build --cuda` where nvcc is"
    if hidden.device.type != "cuda":
        return f"hidden is on {hidden.device}, not on a GPU"
    major, minor = tiled.capability(hidden.device.index or 0)
    if major not in [code // 10 for code in ARCHITECTURES]:  # a binary runs within its major version
        return f"built for compute capabilities {ARCHITECTURES}, not {major}.{minor}"
    if dtype != torch.float32:
        return f"computes in float32, not {dtype}"
    if hidden.shape[1] > MAX_HIDDEN:
        return f"hidden size {hidden.shape[1]} is above {MAX_HIDDEN}"
    if width > 1:
        return f"feeds one label a step, not groups of {width}"
    if rows * steps >= INT32:
        return f"B x K x T = {rows * steps} is not below 2^31"
    return None


class _Call:
    """One call's struct, and the tensors that it points to."""

    def __init__(self, tiles: tiled.Tiles, rows: int, steps: int, size: int, **tensors: Tensor) -> None:
        self.problem = Problem(rows, steps, size, tiles.number)
        self._kept: list[Tensor] = []
        self.point(tile_order=tiles.order, tile_start=tiles.start, tile_count=tiles.count)
        self.point(example=tiles.example, column=tiles.column, **tensors)

    def point(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            whole = tensor.contiguous()
            setattr(self.problem, name, whole.data_ptr())
            self._kept.append(whole)

    def run(self, name: str, device: torch.device) -> None:
        """Launches on torch's current stream.

        Raises:
            RuntimeError: CUDA refused the launch.
        """
        functions = load()
        stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
        code = getattr(functions, f"duchenne_cuda_{name}")(ctypes.byref(self.problem), stream)
        if code != 0:
            message = functions.duchenne_cuda_error(code).decode()
            raise RuntimeError(f"the CUDA recurrence couldn't be launched: {message}; use backend='triton'")


@torch.library.custom_op("duchenne_kernels::recurrence_cuda", mutates_args=())
def recurrence_cuda(
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
    """Logits (B, K, T) in task order, and the states (T + 1, N, H)."""
    batch, size = hidden.shape
    steps = orders.shape[1]
    kept = orders.shape[0] if active is None else active.shape[1]
    rows = batch * kept
    logits = hidden.new_empty(batch, kept, steps)
    states = hidden.new_empty(steps + 1, rows, size)
    tiles = tiled.cut(orders, active, batch, TILE_ROWS)
    call = _Call(tiles, rows, steps, size, initial=hidden, fed=fed, orders=orders, logits=logits, states=states)
    call.point(weight_ih=weight_ih, weight_t=weight_hh.transpose(1, 2), bias_ih=bias_ih, bias_hh=bias_hh)
    call.point(weight_out=weight_out, bias_out=bias_out)
    call.run("forward", hidden.device)
    return logits, states


@torch.library.custom_op("duchenne_kernels::recurrence_cuda_backward", mutates_args=())
def recurrence_cuda_backward(
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
    batch, size = hidden.shape
    steps, kept = orders.shape[1], grad_logits.shape[1]
    rows = batch * kept
    tiles = tiled.cut(orders, active, batch, TILE_ROWS)
    grad_gates = hidden.new_empty(steps, rows, 4, size)
    grad_hidden = hidden.new_empty(batch, kept, size)
    grad_fed = hidden.new_zeros(batch, kept, steps)  # the last label of an order is fed to nothing
    call = _Call(tiles, rows, steps, size, fed=fed, orders=orders, states=states, grad_logits=grad_logits)
    call.point(weight_ih=weight_ih, weight_hh=weight_hh, weight_t=weight_hh.transpose(1, 2))
    call.point(bias_ih=bias_ih, bias_hh=bias_hh, weight_out=weight_out)
    call.point(grad_gates=grad_gates, grad_hidden=grad_hidden, grad_fed=grad_fed)
    call.run("backward", hidden.device)
    parameters = parameter_gradients(grad_logits, fed, orders, active, tiles, states, grad_gates)
    return Gradients(grad_hidden.sum(1), grad_fed.sum(1), *parameters)


def parameter_gradients(
    grad_logits: Tensor,
    fed: Tensor,
    orders: Tensor,
    active: Tensor | None,
    tiles: tiled.Tiles,
    states: Tensor,
    grad_gates: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The six cell tensors' gradients: one cell at a time, a matmul over all of its rows, wherever in time they ran."""
    steps, rows = grad_gates.shape[:2]
    kept = grad_logits.shape[1]
    column = tiles.column.long()
    which = (torch.arange(rows, device=fed.device) % kept) if active is None else active.flatten()
    order_of_row = which[column]  # (N,) in the tiles' order of rows
    positions = orders.argsort(dim=1)
    labels = fed[tiles.example.long()]
    incoming = grad_logits.reshape(rows, steps)[column]
    at = torch.arange(rows, device=fed.device)
    found: list[list[Tensor]] = []
    for cell in range(steps):
        step = positions[order_of_row, cell]
        grad = grad_gates[step, at]  # (N, 4, H)
        before, after = states[step, at], states[step + 1, at]
        previous = orders[order_of_row, (step - 1).clamp(min=0)]
        x = torch.where(step > 0, labels[at, previous], torch.zeros((), dtype=fed.dtype, device=fed.device))
        hidden_part = grad[:, :3].reshape(rows, -1)
        input_part = torch.cat([grad[:, :2].reshape(rows, -1), grad[:, 3]], dim=1)
        out = incoming[:, cell]
        found.append(
            [
                x @ input_part,
                hidden_part.T @ before,
                input_part.sum(0),
                hidden_part.sum(0),
                out @ after,
                out.sum(0),
            ]
        )
    weight_ih, weight_hh, bias_ih, bias_hh, weight_out, bias_out = (
        torch.stack(parts) for parts in zip(*found, strict=True)
    )
    return weight_ih.unsqueeze(2), weight_hh, bias_ih, bias_hh, weight_out.unsqueeze(1), bias_out.unsqueeze(1)


tiled.register(recurrence_cuda, recurrence_cuda_backward)
