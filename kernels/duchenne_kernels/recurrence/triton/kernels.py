"""The Triton kernels: forward, backward, and the weight gradients outside the time loop.

A program owns a tile of R rows (examples) of one order. Its state stays in registers in float32; the weights of the
step's cell are streamed. Backward recomputes the gates from the saved states and writes the gates' gradients, from
which `weight_kernel` sums one cell's gradients over its tiles in a fixed order: no atomics, the same bits every time.

Letters: N rows, R rows of a tile, T steps, H hidden, P H padded to a power of two, C cells (= T).
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
def _matrix(base, rows, columns, stride, H: tl.constexpr):  # type: ignore[no-untyped-def]
    """A (P, P) tile of an (H, H) block, 0 outside."""
    inside = (rows[:, None] < H) & (columns[None, :] < H)
    return tl.load(base + rows[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _vector(base, units, H: tl.constexpr):  # type: ignore[no-untyped-def]
    """(P,) values in float32, 0 beyond H."""
    return tl.load(base + units, mask=units < H, other=0.0).to(tl.float32)


@triton.jit  # type: ignore[untyped-decorator]
def _gates(  # type: ignore[no-untyped-def]
    h, x, cell, weight_ih, weight_t, bias_ih, bias_hh, units, H: tl.constexpr, PRECISION: tl.constexpr
):
    """Reset, update, candidate and the candidate's hidden part: h (R, P), x (R,)."""
    base = weight_t + cell * 3 * H * H  # (H, 3H): transposed, so that a warp reads neighbouring units
    weight = weight_ih + cell * 3 * H
    first = bias_ih + cell * 3 * H
    second = bias_hh + cell * 3 * H
    narrow = h.to(weight_t.dtype.element_ty)
    left = x[:, None]
    reset = left * _vector(weight, units, H)[None, :] + (_vector(first, units, H) + _vector(second, units, H))[None, :]
    reset = tl.sigmoid(tl.dot(narrow, _matrix(base, units, units, 3 * H, H), reset, input_precision=PRECISION))
    bias = _vector(first + H, units, H) + _vector(second + H, units, H)
    update = left * _vector(weight + H, units, H)[None, :] + bias[None, :]
    update = tl.sigmoid(tl.dot(narrow, _matrix(base + H, units, units, 3 * H, H), update, input_precision=PRECISION))
    part = tl.zeros_like(h) + _vector(second + 2 * H, units, H)[None, :]
    part = tl.dot(narrow, _matrix(base + 2 * H, units, units, 3 * H, H), part, input_precision=PRECISION)
    candidate = left * _vector(weight + 2 * H, units, H)[None, :] + _vector(first + 2 * H, units, H)[None, :]
    candidate = _tanh(candidate + reset * part)
    return reset, update, candidate, part


@triton.jit(do_not_specialize=["steps", "rows"])  # type: ignore[untyped-decorator]
def forward_kernel(  # type: ignore[no-untyped-def]
    hidden,
    fed,
    orders,
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
    rows,
    H: tl.constexpr,
    P: tl.constexpr,
    R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Logits (N, T) in task order at `column`, and the states (T + 1, N, H) before each step and after the last."""
    tile = tl.program_id(0)
    count = tl.load(tile_count + tile)
    if count == 0:
        return
    order = tl.load(tile_order + tile).to(tl.int64)
    lane = tl.arange(0, R)
    units = tl.arange(0, P)
    valid = lane < count
    row = (tl.load(tile_start + tile) + lane).to(tl.int64)
    who = tl.load(example + row, mask=valid, other=0).to(tl.int64)
    where = tl.load(column + row, mask=valid, other=0).to(tl.int64)
    inside = valid[:, None] & (units[None, :] < H)
    h = tl.load(hidden + who[:, None] * H + units[None, :], mask=inside, other=0.0).to(tl.float32)
    place = states + row[:, None] * H + units[None, :]
    tl.store(place, h, mask=inside)
    previous = tl.zeros([], tl.int64)
    for step in range(steps):
        cell = tl.load(orders + order * steps + step)
        x = tl.load(fed + who * steps + previous, mask=valid & (step > 0), other=0.0).to(tl.float32)
        _reset, update, candidate, _part = _gates(
            h, x, cell, weight_ih, weight_t, bias_ih, bias_hh, units, H, PRECISION
        )
        h = candidate + update * (h - candidate)
        place += rows.to(tl.int64) * H
        tl.store(place, h, mask=inside)
        out = _vector(weight_out + cell * H, units, H)
        logit = tl.sum(h * out[None, :], axis=1) + tl.load(bias_out + cell).to(tl.float32)
        tl.store(logits + where * steps + cell, logit, mask=valid)
        previous = cell


@triton.jit(do_not_specialize=["steps", "rows"])  # type: ignore[untyped-decorator]
def backward_kernel(  # type: ignore[no-untyped-def]
    grad_logits,
    fed,
    orders,
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
    rows,
    H: tl.constexpr,
    P: tl.constexpr,
    R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gate gradients (T, N, 4, H), and the rows' gradients of hidden (N, H) and fed (N, T) at `column`."""
    tile = tl.program_id(0)
    count = tl.load(tile_count + tile)
    if count == 0:
        return
    order = tl.load(tile_order + tile).to(tl.int64)
    lane = tl.arange(0, R)
    units = tl.arange(0, P)
    known = units < H
    valid = lane < count
    row = (tl.load(tile_start + tile) + lane).to(tl.int64)
    who = tl.load(example + row, mask=valid, other=0).to(tl.int64)
    where = tl.load(column + row, mask=valid, other=0).to(tl.int64)
    inside = valid[:, None] & known[None, :]
    grad = tl.zeros([R, P], tl.float32)
    for back in range(steps):
        step = steps - 1 - back
        cell = tl.load(orders + order * steps + step)
        previous = tl.load(orders + order * steps + step - 1, mask=step > 0, other=0)
        x = tl.load(fed + who * steps + previous, mask=valid & (step > 0), other=0.0).to(tl.float32)
        at = step.to(tl.int64) * rows + row
        h = tl.load(states + at[:, None] * H + units[None, :], mask=inside, other=0.0)
        reset, update, candidate, part = _gates(h, x, cell, weight_ih, weight_t, bias_ih, bias_hh, units, H, PRECISION)
        out = _vector(weight_out + cell * H, units, H)
        incoming = tl.load(grad_logits + where * steps + cell, mask=valid, other=0.0).to(tl.float32)
        grad += incoming[:, None] * out[None, :]
        base = weight_hh + cell * 3 * H * H
        vector = weight_ih + cell * 3 * H
        gates = grad_gates + at[:, None] * 4 * H + units[None, :]

        grad_candidate = grad * (1.0 - update) * (1.0 - candidate * candidate)
        grad_update = grad * (h - candidate) * update * (1.0 - update)
        grad = grad * update
        tl.store(gates + H, grad_update, mask=inside)
        grad_x = tl.sum(grad_update * _vector(vector + H, units, H)[None, :], axis=1)
        narrow = weight_hh.dtype.element_ty
        second = _matrix(base + H * H, units, units, H, H)
        grad = tl.dot(grad_update.to(narrow), second, grad, input_precision=PRECISION)

        grad_reset = grad_candidate * part * reset * (1.0 - reset)
        tl.store(gates, grad_reset, mask=inside)
        grad_x += tl.sum(grad_reset * _vector(vector, units, H)[None, :], axis=1)
        grad = tl.dot(grad_reset.to(narrow), _matrix(base, units, units, H, H), grad, input_precision=PRECISION)

        tl.store(gates + 3 * H, grad_candidate, mask=inside)
        grad_x += tl.sum(grad_candidate * _vector(vector + 2 * H, units, H)[None, :], axis=1)
        grad_part = grad_candidate * reset
        tl.store(gates + 2 * H, grad_part, mask=inside)
        third = _matrix(base + 2 * H * H, units, units, H, H)
        grad = tl.dot(grad_part.to(narrow), third, grad, input_precision=PRECISION)
        tl.store(grad_fed + where * steps + previous, grad_x, mask=valid & (step > 0))
    tl.store(grad_hidden + where[:, None] * H + units[None, :], grad, mask=inside)


@triton.jit(do_not_specialize=["tiles", "tiles_each", "steps", "rows"])  # type: ignore[untyped-decorator]
def weight_kernel(  # type: ignore[no-untyped-def]
    grad_logits,
    fed,
    orders,
    positions,
    tile_order,
    tile_start,
    tile_count,
    example,
    column,
    states,
    grad_gates,
    sum_weight,
    sum_vector,
    tiles,
    tiles_each,
    steps,
    rows,
    H: tl.constexpr,
    P: tl.constexpr,
    R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One cell, one gate column, one share of the tiles: sums (S, C, 4, P, P) and (S, C, 4, 3, P).

    The matrices of columns 0 to 2 are weight_hh's gradient. The vectors are the column's bias, its weight_ih, and
    (column 3) weight_out; bias_out is in unit 0 of column 2's third vector.
    """
    cell = tl.program_id(0)
    gate = tl.program_id(1)
    share = tl.program_id(2)
    lane = tl.arange(0, R)
    units = tl.arange(0, P)
    total = tl.zeros([P, P], tl.float32)
    bias = tl.zeros([P], tl.float32)
    weight = tl.zeros([P], tl.float32)
    other = tl.zeros([P], tl.float32)
    for tile in range(share * tiles_each, tl.minimum((share + 1) * tiles_each, tiles)):
        order = tl.load(tile_order + tile).to(tl.int64)
        valid = lane < tl.load(tile_count + tile)
        row = (tl.load(tile_start + tile) + lane).to(tl.int64)
        who = tl.load(example + row, mask=valid, other=0).to(tl.int64)
        where = tl.load(column + row, mask=valid, other=0).to(tl.int64)
        inside = valid[:, None] & (units[None, :] < H)
        step = tl.load(positions + order * steps + cell)
        previous = tl.load(orders + order * steps + step - 1, mask=step > 0, other=0)
        x = tl.load(fed + who * steps + previous, mask=valid & (step > 0), other=0.0).to(tl.float32)
        at = step * rows + row
        grad = tl.load(grad_gates + (at[:, None] * 4 + gate) * H + units[None, :], mask=inside, other=0.0)
        bias += tl.sum(grad, axis=0)
        weight += tl.sum(grad * x[:, None], axis=0)
        incoming = tl.load(grad_logits + where * steps + cell, mask=valid, other=0.0).to(tl.float32)
        if gate == 3:
            after = tl.load(states + (at + rows)[:, None] * H + units[None, :], mask=inside, other=0.0)
            other += tl.sum(after * incoming[:, None], axis=0)
        else:
            h = tl.load(states + at[:, None] * H + units[None, :], mask=inside, other=0.0)
            total = tl.dot(tl.trans(grad), h, total, input_precision=PRECISION)
            other += tl.where(units == 0, tl.sum(incoming, axis=0), 0.0)
    block = ((share * tl.num_programs(0) + cell) * 4 + gate).to(tl.int64)
    tl.store(sum_weight + block * P * P + units[:, None] * P + units[None, :], total)
    vectors = sum_vector + block * 3 * P + units
    tl.store(vectors, bias)
    tl.store(vectors + P, weight)
    tl.store(vectors + 2 * P, other)
