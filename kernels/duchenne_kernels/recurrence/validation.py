"""The edge of the recurrence: every argument is checked here, once, before a backend sees it.

Shapes: B batch, M orders, T tasks, C cells, H hidden, K active orders, R trajectories.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duchenne_kernels.cells import GRUCells

# Kernels index rows with 64-bit integers but count elements of one buffer in 32-bit launch arithmetic on a GPU; 2^62
# bytes is beyond any memory, so a product above this can only come from wrong shapes.
MAX_ELEMENTS = 2**60
FLOAT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def inspects_values(tensor: Tensor) -> bool:
    """Whether a check may look at values: it would split a compiled graph and break the capture of a CUDA graph."""
    if torch.compiler.is_compiling():
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def check_hidden(hidden: Tensor, cells: GRUCells) -> None:
    """Raises ValueError unless `hidden` is (B, H), of the cells' size, dtype and device."""
    if hidden.ndim != 2:
        raise ValueError(f"`hidden` must be (B, H), but got shape {tuple(hidden.shape)}; add or remove an axis")
    if hidden.shape[0] < 1:
        raise ValueError(
            f"`hidden` must hold at least one example, but got shape {tuple(hidden.shape)}; skip empty batches"
        )
    if hidden.shape[1] != cells.hidden_size:
        raise ValueError(
            f"`hidden` must have the cells' hidden size {cells.hidden_size} on its last axis, "
            f"but got {hidden.shape[1]}; build GRUCells with the encoder's width"
        )
    if hidden.dtype not in FLOAT_DTYPES:
        raise ValueError(f"`hidden` must be a float tensor, but got {hidden.dtype}; convert it")
    weight = cells.weight_hh
    if hidden.device != weight.device:
        raise ValueError(
            f"`hidden` must be on the cells' device {weight.device}, but got {hidden.device}; move one of them"
        )
    if hidden.dtype != weight.dtype and not torch.is_autocast_enabled(hidden.device.type):
        raise ValueError(
            f"`hidden` must have the cells' dtype {weight.dtype}, but got {hidden.dtype}; convert one of them"
        )


def check_orders_shape(orders: Tensor, cells: GRUCells, device: torch.device) -> None:
    """Raises ValueError unless `orders` is (M, C) int64 on `device`; the values are `check_permutations`' concern."""
    if orders.ndim != 2 or orders.shape[0] < 1 or orders.shape[1] != cells.num_cells:
        raise ValueError(
            f"`orders` must be (M, {cells.num_cells}) with M >= 1, one column for each cell, but got shape "
            f"{tuple(orders.shape)}; give one permutation a row"
        )
    if orders.dtype != torch.int64:
        raise ValueError(f"`orders` must be int64, but got {orders.dtype}; convert it with .long()")
    if orders.device != device:
        raise ValueError(f"`orders` must be on hidden's device {device}, but got {orders.device}; move it")


def check_permutations(orders: Tensor) -> None:
    """Raises ValueError when a row of `orders` (M, C) is no permutation of 0..C-1, naming the first such row."""
    count = orders.shape[1]
    wanted = torch.arange(count, device=orders.device)
    wrong = (orders.sort(dim=1).values != wanted).any(dim=1)
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        raise ValueError(
            f"`orders` must hold a permutation of 0..{count - 1} in each row, but row {row} is {orders[row].tolist()}; "
            "name every task once"
        )


def check_labels(name: str, labels: Tensor, hidden: Tensor, num_tasks: int, mask: Tensor | None) -> None:
    """Raises ValueError unless `labels` is (B, T), on hidden's device and, where `mask` holds, within [0, 1]."""
    wanted = (hidden.shape[0], num_tasks)
    if tuple(labels.shape) != wanted:
        raise ValueError(f"`{name}` must be (B, T) = {wanted}, but got shape {tuple(labels.shape)}; check the batch")
    if labels.device != hidden.device:
        raise ValueError(f"`{name}` must be on hidden's device {hidden.device}, but got {labels.device}; move it")
    if labels.is_complex():
        raise ValueError(f"`{name}` must be real, but got {labels.dtype}; convert it")
    if not inspects_values(labels):
        return
    values = labels.detach()
    wrong = ~((values >= 0) & (values <= 1))  # also true for NaN
    if mask is not None:
        wrong &= mask
    if bool(wrong.any()):
        row, task = (int(index) for index in wrong.nonzero()[0])
        raise ValueError(
            f"`{name}` must lie within [0, 1] where the mask holds, but [{row}, {task}] is {values[row, task].item()}; "
            "mask unknown labels"
        )


def check_mask(mask: Tensor, hidden: Tensor, num_tasks: int) -> None:
    """Raises ValueError unless `mask` is (B, T) bool on hidden's device."""
    wanted = (hidden.shape[0], num_tasks)
    if tuple(mask.shape) != wanted or mask.dtype != torch.bool:
        raise ValueError(
            f"`mask` must be bool (B, T) = {wanted}, but got {mask.dtype} {tuple(mask.shape)}; True = known"
        )
    if mask.device != hidden.device:
        raise ValueError(f"`mask` must be on hidden's device {hidden.device}, but got {mask.device}; move it")


def check_active(active: Tensor, batch: int, num_orders: int, device: torch.device) -> None:
    """Raises ValueError unless `active` is (K,) or (B, K) int64 on `device` with values in 0..M-1."""
    shape_ok = active.ndim in (1, 2) and active.shape[-1] >= 1 and (active.ndim == 1 or active.shape[0] == batch)
    if not shape_ok:
        raise ValueError(
            f"`active` must be (K,) or (B, K) with B = {batch} and K >= 1, but got shape {tuple(active.shape)}; "
            "give the indices of the orders to keep"
        )
    if active.dtype != torch.int64:
        raise ValueError(f"`active` must be int64, but got {active.dtype}; convert it with .long()")
    if active.device != device:
        raise ValueError(f"`active` must be on hidden's device {device}, but got {active.device}; move it")
    if not inspects_values(active):
        return
    low, high = (int(value) for value in active.aminmax())
    if low < 0 or high >= num_orders:
        raise ValueError(
            f"`active` must index orders 0..{num_orders - 1}, but got {low if low < 0 else high}; draw indices below M"
        )


def check_size(batch: int, orders: int, steps: int, hidden_size: int) -> None:
    """Raises ValueError when B x M x T x H overflows what a buffer can be, before anything is allocated."""
    total = batch * orders * steps * 3 * hidden_size  # Python integers do not wrap
    if total > MAX_ELEMENTS:
        raise ValueError(
            f"B x M x T x H must stay below {MAX_ELEMENTS // 3}, but got {batch} x {orders} x {steps} x {hidden_size}; "
            "use fewer orders or a smaller batch"
        )
