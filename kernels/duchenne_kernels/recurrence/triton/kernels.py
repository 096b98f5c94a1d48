"""The Triton kernels: forward, backward, and the weight gradients outside the time loop.

A program owns a tile of R rows (examples) of one order. Its state stays in registers in float32; the weights of the
step's cell are streamed. Backward recomputes the gates from the saved states and writes the gates' gradients, from
which `matrix_kernel` and `vector_kernel` sum one cell's gradients over its tiles in a fixed order: no atomics, the same
bits every time.

A product takes its left side from registers where K = P. Where both of its sides would need more registers than there
are, K < P: the product then goes through K units at a time, and reads its left side back from the rows that the program
has just written, which its first-level cache holds.

Letters: N rows, R rows of a tile, C cells (= steps), T tasks, W label slots of a cell, H hidden, P H padded to a power
of two, K units of a product's piece.
Gate columns: 0 reset, 1 update, 2 hidden part of the candidate, 3 input part of the candidate.
"""

# ruff: noqa: N803 - compile-time sizes carry their shape letters

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit  # type: ignore[untyped-decorator]
def _vector(base, units, stride, H: tl.constexpr):  # type: ignore[no-untyped-def]
    """(P,) values in float32, `stride` apart, 0 beyond H."""
    return tl.load(base + units * stride, mask=units < H, other=0.0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _rows(base, row, valid, units, H: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows of an (N, H) matrix, 0 outside."""
    inside = valid[:, None] & (units[None, :] < H)
    return tl.load(base + row[:, None] * H + units[None, :], mask=inside, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _store_rows(base, row, valid, units, value, H: tl.constexpr):  # type: ignore[no-untyped-def]
    tl.store(base + row[:, None] * H + units[None, :], value, mask=valid[:, None] & (units[None, :] < H))


@triton.jit  # type: ignore[untyped-decorator]
def _multiply(  # type: ignore[no-untyped-def]
    left,
    memory,
    row,
    valid,
    weights,
    stride,
    total,
    H: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """total (R, P) + left (R, P) times weights (H, H); `left` also lies in the rows `row` of `memory` (N, H)."""
    columns = tl.arange(0, P)
    narrow = weights.dtype.element_ty
    for start in range(0, H, K):
        units = start + tl.arange(0, K)
        inside = (units[:, None] < H) & (columns[None, :] < H)
        right = tl.load(weights + units[:, None] * stride + columns[None, :], mask=inside, other=0.0)
        piece = left if K == P else _rows(memory, row, valid, units, H)
        total = tl.dot(piece.to(narrow), right, total, input_precision=PRECISION)
    return total


@triton.jit  # type: ignore[untyped-decorator]
def _label(fed, slots, who, previous, slot, tasks, live, W: tl.constexpr):  # type: ignore[no-untyped-def]
    """(R,) labels that slot `slot` of the previous cell feeds; 0 at the first step and for padding."""
    task = tl.load(slots + previous * W + slot)
    return tl.load(fed + who * tasks + task, mask=live & (task >= 0), other=0.0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _gates(  # type: ignore[no-untyped-def]
    h,
    states,
    at,
    valid,
    cell,
    fed,
    slots,
    who,
    previous,
    tasks,
    live,
    weight_ih,
    weight_t,
    bias_ih,
    bias_hh,
    H: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    W: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Reset, update, candidate and the candidate's hidden part, (R, P) each, of the rows `at` of `states`: h (R, P)."""
    units = tl.arange(0, P)
    first = bias_ih + cell * 3 * H
    second = bias_hh + cell * 3 * H
    zeros = tl.zeros_like(h)
    reset = zeros + (_vector(first, units, 1, H) + _vector(second, units, 1, H))[None, :]
    update = zeros + (_vector(first + H, units, 1, H) + _vector(second + H, units, 1, H))[None, :]
    candidate = zeros + _vector(first + 2 * H, units, 1, H)[None, :]
    part = zeros + _vector(second + 2 * H, units, 1, H)[None, :]
    for slot in range(W):
        x = _label(fed, slots, who, previous, slot, tasks, live, W)[:, None]
        weight = weight_ih + cell * 3 * H * W + slot
        reset += x * _vector(weight, units, W, H)[None, :]
        update += x * _vector(weight + H * W, units, W, H)[None, :]
        candidate += x * _vector(weight + 2 * H * W, units, W, H)[None, :]
    base = weight_t + cell * 3 * H * H  # (H, 3H): transposed, so that a warp reads neighbouring units
    reset = tl.sigmoid(_multiply(h, states, at, valid, base, 3 * H, reset, H, P, K, PRECISION))
    update = tl.sigmoid(_multiply(h, states, at, valid, base + H, 3 * H, update, H, P, K, PRECISION))
    part = _multiply(h, states, at, valid, base + 2 * H, 3 * H, part, H, P, K, PRECISION)
    return reset, update, _tanh(candidate + reset * part), part


@triton.jit(do_not_specialize=["steps", "tasks", "rows"])  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    hidden,
    fed,
    orders,
    slots,
    tile_order,
    tile_start,
    tile_count,
    example,
    column,
    weight_ih,
    weight_t,
    bias_ih,
    bias_hh,
    weight_out,
    bias_out,
    logits,
    states,
    steps,
    tasks,
    rows,
    H: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Logits (N, T) in task order at `column`, and the states (C + 1, N, H) before each step and after the last."""
    tile = tl.program_id(0)
    count = tl.load(tile_count + tile)
    if count == 0:
        return
    order = tl.load(tile_order + tile).to(tl.int64)
    lane = tl.arange(0, R)
    valid = lane < count
    row = (tl.load(tile_start + tile) + lane).to(tl.int64)
    who = tl.load(example + row, mask=valid, other=0).to(tl.int64)
    where = tl.load(column + row, mask=valid, other=0).to(tl.int64)
    units = tl.arange(0, P)
    h = _rows(hidden, who, valid, units, H).to(tl.float32)
    at = row
    _store_rows(states, at, valid, units, h, H)
    previous = tl.zeros([], tl.int64)
    for step in range(steps):
        cell = tl.load(orders + order * steps + step)
        if K < P:
            tl.debug_barrier()  # the rows of `states` that other threads have written are read from here on
        _reset, update, candidate, _part = _gates(
            h, states, at, valid, cell, fed, slots, who, previous, tasks, valid & (step > 0),
            weight_ih, weight_t, bias_ih, bias_hh, H, P, K, W, PRECISION,
        )  # fmt: skip
        h = candidate + update * (h - candidate)
        at += rows.to(tl.int64)
        _store_rows(states, at, valid, units, h, H)
        for slot in range(W):
            out = _vector(weight_out + (cell * W + slot) * H, units, 1, H)
            logit = tl.sum(h * out[None, :], axis=1) + tl.load(bias_out + cell * W + slot).to(tl.float32)
            task = tl.load(slots + cell * W + slot)
            tl.store(logits + where * tasks + task, logit, mask=valid & (task >= 0))
        previous = cell


@triton.jit(do_not_specialize=["steps", "tasks", "rows"])  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    grad_logits,
    fed,
    orders,
    slots,
    tile_order,
    tile_start,
    tile_count,
    example,
    column,
    weight_ih,
    weight_hh,
    weight_t,
    bias_ih,
    bias_hh,
    weight_out,
    states,
    grad_gates,
    grad_hidden,
    grad_fed,
    steps,
    tasks,
    rows,
    H: tl.constexpr,
    P: tl.constexpr,
    K: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gate gradients (C, N, 4, H), and the rows' gradients of hidden (N, H) and fed (N, T) at `column`."""
    tile = tl.program_id(0)
    count = tl.load(tile_count + tile)
    if count == 0:
        return
    order = tl.load(tile_order + tile).to(tl.int64)
    lane = tl.arange(0, R)
    valid = lane < count
    row = (tl.load(tile_start + tile) + lane).to(tl.int64)
    who = tl.load(example + row, mask=valid, other=0).to(tl.int64)
    where = tl.load(column + row, mask=valid, other=0).to(tl.int64)
    units = tl.arange(0, P)
    grad = tl.zeros([R, P], tl.float32)
    for back in range(steps):
        step = steps - 1 - back
        cell = tl.load(orders + order * steps + step)
        previous = tl.load(orders + order * steps + step - 1, mask=step > 0, other=0)
        live = valid & (step > 0)
        at = step.to(tl.int64) * rows + row
        h = _rows(states, at, valid, units, H)
        reset, update, candidate, part = _gates(
            h, states, at, valid, cell, fed, slots, who, previous, tasks, live,
            weight_ih, weight_t, bias_ih, bias_hh, H, P, K, W, PRECISION,
        )  # fmt: skip
        for slot in range(W):
            task = tl.load(slots + cell * W + slot)
            incoming = tl.load(grad_logits + where * tasks + task, mask=valid & (task >= 0), other=0.0).to(tl.float32)
            grad += incoming[:, None] * _vector(weight_out + (cell * W + slot) * H, units, 1, H)[None, :]

        grad_candidate = grad * (1.0 - update) * (1.0 - candidate * candidate)
        grad_update = grad * (h - candidate) * update * (1.0 - update)
        grad_reset = grad_candidate * part * reset * (1.0 - reset)
        grad_part = grad_candidate * reset
        grad = grad * update
        gate = at * 4
        _store_rows(grad_gates, gate, valid, units, grad_reset, H)
        _store_rows(grad_gates, gate + 1, valid, units, grad_update, H)
        _store_rows(grad_gates, gate + 2, valid, units, grad_part, H)
        _store_rows(grad_gates, gate + 3, valid, units, grad_candidate, H)
        for slot in range(W):
            task = tl.load(slots + previous * W + slot)
            weight = weight_ih + cell * 3 * H * W + slot
            grad_x = tl.sum(grad_reset * _vector(weight, units, W, H)[None, :], axis=1)
            grad_x += tl.sum(grad_update * _vector(weight + H * W, units, W, H)[None, :], axis=1)
            grad_x += tl.sum(grad_candidate * _vector(weight + 2 * H * W, units, W, H)[None, :], axis=1)
            tl.store(grad_fed + where * tasks + task, grad_x, mask=live & (task >= 0))
        if K < P:
            tl.debug_barrier()  # the rows of `grad_gates` that other threads have written are read from here on
        base = weight_hh + cell * 3 * H * H
        grad = _multiply(grad_reset, grad_gates, gate, valid, base, H, grad, H, P, K, PRECISION)
        grad = _multiply(grad_update, grad_gates, gate + 1, valid, base + H * H, H, grad, H, P, K, PRECISION)
        grad = _multiply(grad_part, grad_gates, gate + 2, valid, base + 2 * H * H, H, grad, H, P, K, PRECISION)
    _store_rows(grad_hidden, where, valid, units, grad, H)


@triton.jit(do_not_specialize=["tiles", "tiles_each", "steps", "rows"])  # type: ignore[untyped-decorator]
def matrix_kernel(  # type: ignore[no-untyped-def]
    positions,
    tile_order,
    tile_start,
    tile_count,
    states,
    grad_gates,
    sums,
    tiles,
    tiles_each,
    steps,
    rows,
    H: tl.constexpr,
    P: tl.constexpr,
    B: tl.constexpr,
    R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One cell, one (B, B) block of weight_hh's gradient, one share of the tiles: sums (S, C, 3, P, P)."""
    cell = tl.program_id(0)
    gate = tl.program_id(1) // (P // B * (P // B))
    upper = tl.program_id(1) // (P // B) % (P // B) * B + tl.arange(0, B)
    lower = tl.program_id(1) % (P // B) * B + tl.arange(0, B)
    share = tl.program_id(2)
    lane = tl.arange(0, R)
    total = tl.zeros([B, B], tl.float32)
    for tile in range(share * tiles_each, tl.minimum((share + 1) * tiles_each, tiles)):
        order = tl.load(tile_order + tile).to(tl.int64)
        valid = lane < tl.load(tile_count + tile)
        row = (tl.load(tile_start + tile) + lane).to(tl.int64)
        at = tl.load(positions + order * steps + cell) * rows + row
        grad = _rows(grad_gates, at * 4 + gate, valid, upper, H)
        total = tl.dot(tl.trans(grad), _rows(states, at, valid, lower, H), total, input_precision=PRECISION)
    block = ((share * tl.num_programs(0) + cell) * 3 + gate).to(tl.int64)
    tl.store(sums + (block * P + upper[:, None]) * P + lower[None, :], total)


@triton.jit(do_not_specialize=["tiles", "tiles_each", "steps", "tasks", "rows"])  # type: ignore[untyped-decorator]
def vector_kernel(  # type: ignore[no-untyped-def]
    grad_logits,
    fed,
    orders,
    positions,
    slots,
    tile_order,
    tile_start,
    tile_count,
    example,
    column,
    states,
    grad_gates,
    sums,
    tiles,
    tiles_each,
    steps,
    tasks,
    rows,
    H: tl.constexpr,
    P: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
):
    """One cell, one label slot and gate column, one share of the tiles: sums (S, C, W, 4, 3, P).

    The three: the column's bias, its weight_ih, and (column 3) weight_out; bias_out is in unit 0 of column 2's third.
    """
    cell = tl.program_id(0)
    slot = tl.program_id(1) // 4
    gate = tl.program_id(1) % 4
    share = tl.program_id(2)
    lane = tl.arange(0, R)
    units = tl.arange(0, P)
    own = tl.load(slots + cell * W + slot)
    bias = tl.zeros([P], tl.float32)
    weight = tl.zeros([P], tl.float32)
    third = tl.zeros([P], tl.float32)
    for tile in range(share * tiles_each, tl.minimum((share + 1) * tiles_each, tiles)):
        order = tl.load(tile_order + tile).to(tl.int64)
        valid = lane < tl.load(tile_count + tile)
        row = (tl.load(tile_start + tile) + lane).to(tl.int64)
        who = tl.load(example + row, mask=valid, other=0).to(tl.int64)
        where = tl.load(column + row, mask=valid, other=0).to(tl.int64)
        step = tl.load(positions + order * steps + cell)
        previous = tl.load(orders + order * steps + step - 1, mask=step > 0, other=0)
        x = _label(fed, slots, who, previous, slot, tasks, valid & (step > 0), W)
        at = step * rows + row
        grad = _rows(grad_gates, at * 4 + gate, valid, units, H)
        bias += tl.sum(grad, axis=0)
        weight += tl.sum(grad * x[:, None], axis=0)
        incoming = tl.load(grad_logits + where * tasks + own, mask=valid & (own >= 0), other=0.0).to(tl.float32)
        if gate == 3:
            third += tl.sum(_rows(states, at + rows, valid, units, H) * incoming[:, None], axis=0)
        else:
            third += tl.where(units == 0, tl.sum(incoming, axis=0), 0.0)
    block = ((share * tl.num_programs(0) + cell) * W + slot) * 4 + gate
    place = sums + block.to(tl.int64) * 3 * P + units
    tl.store(place, bias)
    tl.store(place + P, weight)
    tl.store(place + 2 * P, third)
