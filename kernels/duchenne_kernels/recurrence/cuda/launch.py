"""The CUDA backend as a torch op.

Shapes: B batch, K active orders, T tasks, C cells (= steps), W label slots, H hidden, N = B K rows.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from duchenne_kernels.recurrence import tiled
from duchenne_kernels.recurrence.cpu import labels_by_cell
from duchenne_kernels.recurrence.cuda.library import ARCHITECTURES, Problem, built, load
from duchenne_kernels.recurrence.registration import Gradients, Inputs, register

# Backward keeps 7 H + 8 numbers for each of 16 rows in shared memory; sm_80 gives a block 163 KiB.
MAX_HIDDEN = 256
TILE_ROWS = 16
INT32 = 2**31


def refusal(hidden: Tensor, dtype: torch.dtype, rows: int, steps: int) -> str | None:
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
    if rows * steps >= INT32:
        return f"B x K x T = {rows * steps} is not below 2^31"
    return None


class _Call:
    """One call's struct, and the tensors that it points to."""

    def __init__(self, inputs: Inputs, tiles: tiled.Tiles, **tensors: Tensor) -> None:
        hidden, fed, orders, _active, weights = inputs
        (batch, size), (cells, width) = hidden.shape, weights.slots.shape
        self.device = hidden.device
        self.problem = Problem(batch * inputs.kept, cells, fed.shape[1], width, size, tiles.number)
        self._kept: list[Tensor] = []
        self._point(tile_order=tiles.order, tile_start=tiles.start, tile_count=tiles.count)
        self._point(example=tiles.example, column=tiles.column, initial=hidden, fed=fed, orders=orders)
        self._point(**weights._asdict(), weight_t=weights.weight_hh.transpose(1, 2), **tensors)

    def _point(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            whole = tensor.contiguous()
            setattr(self.problem, name, whole.data_ptr())
            self._kept.append(whole)

    def run(self, name: str) -> None:
        """Launches on torch's current stream.

        Raises:
            RuntimeError: CUDA refused the launch.
        """
        functions = load()
        stream = torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else 0
        code = getattr(functions, f"duchenne_cuda_{name}")(ctypes.byref(self.problem), stream)
        if code != 0:
            message = functions.duchenne_cuda_error(code).decode()
            raise RuntimeError(f"the CUDA recurrence couldn't be launched: {message}; use backend='triton'")


def _forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    logits = inputs.hidden.new_empty(inputs.hidden.shape[0], inputs.kept, inputs.fed.shape[1])
    states = tiled.empty_states(inputs)
    _Call(inputs, tiled.cut(inputs, TILE_ROWS), logits=logits, states=states).run("forward")
    return logits, states


def _backward(grad_logits: Tensor, inputs: Inputs, states: Tensor) -> Gradients:
    (batch, size), hidden = inputs.hidden.shape, inputs.hidden
    tiles = tiled.cut(inputs, TILE_ROWS)
    grad_gates = hidden.new_empty(inputs.orders.shape[1], batch * inputs.kept, 4, size)
    grad_hidden = hidden.new_empty(batch, inputs.kept, size)
    # The last labels of an order are fed to nothing.
    grad_fed = hidden.new_zeros(batch, inputs.kept, inputs.fed.shape[1])
    results = {"grad_gates": grad_gates, "grad_hidden": grad_hidden, "grad_fed": grad_fed}
    _Call(inputs, tiles, grad_logits=grad_logits, states=states, **results).run("backward")
    parameters = _parameter_gradients(grad_logits, inputs, tiles, states, grad_gates)
    return Gradients(grad_hidden.sum(1), grad_fed.sum(1), *parameters)


def _parameter_gradients(
    grad_logits: Tensor, inputs: Inputs, tiles: tiled.Tiles, states: Tensor, grad_gates: Tensor
) -> list[Tensor]:
    """The six cell tensors' gradients: one cell at a time, a matmul over all of its rows, wherever in time they ran."""
    _hidden, fed, orders, active, weights = inputs
    cells, rows = grad_gates.shape[:2]
    column, at = tiles.column.long(), torch.arange(rows, device=fed.device)
    order_of_row = column % inputs.kept if active is None else active.flatten()[column]  # (N,) in the tiles' order
    positions = orders.argsort(dim=1)
    labels = labels_by_cell(fed, weights.slots)[:, tiles.example.long()]  # (C, N, W)
    incoming = labels_by_cell(grad_logits.reshape(rows, -1)[column], weights.slots)
    found: list[tuple[Tensor, ...]] = []
    for cell in range(cells):
        step = positions[order_of_row, cell]
        grad = grad_gates[step, at]  # (N, 4, H)
        before, after = states[step, at], states[step + 1, at]
        previous = orders[order_of_row, (step - 1).clamp(min=0)]
        x = torch.where((step > 0).unsqueeze(1), labels[previous, at], fed.new_zeros(()))  # (N, W)
        hidden_part = grad[:, :3].reshape(rows, -1)
        input_part = torch.cat([grad[:, :2].reshape(rows, -1), grad[:, 3]], dim=1)
        out = incoming[cell]  # (N, W)
        biases = (input_part.sum(0), hidden_part.sum(0))
        found.append((input_part.T @ x, hidden_part.T @ before, *biases, out.T @ after, out.sum(0)))
    return [torch.stack(parts) for parts in zip(*found, strict=True)]


recurrence_cuda = register("recurrence_cuda", _forward, _backward, tiled.empty_states)
