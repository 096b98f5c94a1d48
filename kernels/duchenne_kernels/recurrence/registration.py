"""Makes a backend a torch op, in one place: its schema, fake tensors, autograd and autocast.

Shapes: B batch, M orders, K active orders, T tasks, C cells, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from duchenne_kernels.cells import CellWeights


class Inputs(NamedTuple):
    """What every backend computes from: the state, the labels fed, the orders, a subset of them, and the cells."""

    hidden: Tensor  # (B, H)
    fed: Tensor  # (B, T)
    orders: Tensor  # (M, C) int64
    active: Tensor | None  # (B, K) int64
    weights: CellWeights

    @property
    def kept(self) -> int:
        """K, the orders that an example runs."""
        return self.orders.shape[0] if self.active is None else self.active.shape[1]


class Gradients(NamedTuple):
    """Gradients of every differentiable input, in the order of the op's arguments."""

    hidden: Tensor
    fed: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    weight_out: Tensor
    bias_out: Tensor


Forward = Callable[[Inputs], tuple[Tensor, Tensor]]
Backward = Callable[[Tensor, Inputs, Tensor], Gradients]
FakeStates = Callable[[Inputs], Tensor]

_INPUTS = ", ".join(
    ["Tensor hidden, Tensor fed, Tensor orders, Tensor? active", *map("Tensor {}".format, CellWeights._fields)]
)
_FORWARD = f"({_INPUTS}) -> (Tensor, Tensor)"
_BACKWARD = f"(Tensor grad_logits, {_INPUTS}, Tensor states) -> ({', '.join(['Tensor'] * len(Gradients._fields))})"


def _inputs(hidden: Tensor, fed: Tensor, orders: Tensor, active: Tensor | None, *weights: Tensor) -> Inputs:
    return Inputs(hidden, fed, orders, active, CellWeights._make(weights))


def register(name: str, forward: Forward, backward: Backward, fake_states: FakeStates) -> Any:
    """The op `duchenne_kernels::NAME (hidden, fed, orders, active, *weights) -> logits, states`.

    Under autocast it runs in float32: gates saturate, and a state passes through every step.

    Args:
        name: of the op; that of its backward ends in `_backward`.
        forward: gives logits (B, K, T) in task order and the states that backward needs.
        backward: gives the inputs' gradients from that of the logits, the inputs and the states.
        fake_states: an empty tensor of the states' shape and dtype.
    """

    def run_backward(grad_logits: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        return tuple(backward(grad_logits, _inputs(*arguments[:-1]), arguments[-1]))

    full = f"duchenne_kernels::{name}"
    op = torch.library.custom_op(full, lambda *call: forward(_inputs(*call)), mutates_args=(), schema=_FORWARD)
    grads = torch.library.custom_op(f"{full}_backward", run_backward, mutates_args=(), schema=_BACKWARD)

    def fake_forward(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        inputs = _inputs(*arguments)
        logits = inputs.hidden.new_empty(inputs.hidden.shape[0], inputs.kept, inputs.fed.shape[1])
        return logits, fake_states(inputs)

    def fake_backward(_grad_logits: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        inputs = _inputs(*arguments[:-1])
        differentiable = (inputs.hidden, inputs.fed, *inputs.weights[:-1])
        return tuple(torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in differentiable)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])

    def differentiate(ctx: Any, grad_logits: Tensor, _grad_states: Tensor) -> tuple[Tensor | None, ...]:
        found = grads(grad_logits, *ctx.saved_tensors)
        return (*found[:2], None, None, *found[2:], None)

    op.register_fake(fake_forward)
    grads.register_fake(fake_backward)
    op.register_autograd(differentiate, setup_context=setup_context)
    for each in (op, grads):
        for device in ("cpu", "cuda"):
            each.register_autocast(device, torch.float32)
    return op
