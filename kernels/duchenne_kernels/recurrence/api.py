"""The public op: checks its arguments, chooses a backend, and turns logits into likelihoods.

Shapes: B batch, M orders, K active orders, T tasks, C cells (= T without groups), H hidden, R trajectories.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from duchenne_kernels.cells import CellWeights, GRUCells
from duchenne_kernels.recurrence import inference, op, reference, validation
from duchenne_kernels.recurrence.cuda import launch as cuda_launch
from duchenne_kernels.recurrence.trie import cached_trie
from duchenne_kernels.recurrence.triton import launch as triton_launch

Backend = Literal["auto", "reference", "cpu", "triton", "cuda"]
BACKENDS = ("reference", "cpu", "triton", "cuda")
OPS = {
    "cpu": op.recurrence_cpu,
    "triton": triton_launch.recurrence_triton,
    "cuda": cuda_launch.recurrence_cuda,
}


def order_logits(
    hidden: Tensor,
    labels: Tensor,
    orders: Tensor,
    cells: GRUCells,
    mask: Tensor | None = None,
    active: Tensor | None = None,
    conditioning: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Teacher-forced logits of every task in every order (Tallec 2023, eq. 2.25 and 2.26), in task order.

    Args:
        hidden: (B, H), the encoder's state h^0.
        labels: (B, T), in {0, 1} or soft in [0, 1]. Fed to the later steps as they are unless `conditioning` is given.
        orders: (M, C) int64, each row a permutation of 0..C-1.
        cells: the parameters; C cells.
        mask: (B, T) bool, False = unknown label, which conditions later steps as 0.
        active: (K,) or (B, K) int64, indices into `orders`: a subset for the batch, or one for each example.
        conditioning: (B, T) in [0, 1], fed instead of `labels`. With smoothed targets pass the hard labels here.
        backend: which implementation computes it; "auto" takes the fastest that accepts the arguments.

    Returns:
        (B, M, T), or (B, K, T) with `active`. Differentiable in hidden, the cells and the fed labels.

    Raises:
        ValueError: an argument breaks its rule, or the named backend can't take these arguments (`explain` says why).
    """
    fed = _fed_labels(hidden, labels, orders, cells, mask, active, conditioning)
    return _logits(hidden, fed, orders, cells, active, backend)


def order_log_likelihood(
    hidden: Tensor,
    labels: Tensor,
    orders: Tensor,
    cells: GRUCells,
    mask: Tensor | None = None,
    backend: Backend = "auto",
    *,
    active: Tensor | None = None,
    conditioning: Tensor | None = None,
) -> Tensor:
    """Teacher-forced log p^sigma_m(y | x) of each order (Tallec 2023, eq. 2.22 and 2.27).

    A soft label y counts as y log p + (1 - y) log(1 - p), and is fed to the later steps as it is; pass `conditioning`
    (B, T) to feed other labels, such as the hard ones behind smoothed targets. A masked label's term is left out, and
    it conditions later steps as 0. Arguments as in `order_logits`.

    Returns:
        (B, M), or (B, K) with `active`.

    Raises:
        ValueError: as `order_logits`.
    """
    fed = _fed_labels(hidden, labels, orders, cells, mask, active, conditioning)
    logits = _logits(hidden, fed, orders, cells, active, backend)
    targets = labels.to(logits.dtype)
    known: Tensor | None = None
    if mask is not None:
        targets = torch.where(mask, targets, torch.zeros((), dtype=targets.dtype, device=targets.device))
        known = mask.unsqueeze(1)
    terms = targets.unsqueeze(1) * logits - functional.softplus(logits)
    if known is not None:
        # `where`, not a product: a masked term must not turn an infinity of its own into NaN, yet a NaN state still
        # shows in every known term that follows it.
        terms = torch.where(known, terms, torch.zeros((), dtype=terms.dtype, device=terms.device))
    return terms.sum(dim=-1)


def sample_orders(
    hidden: Tensor,
    orders: Tensor,
    cells: GRUCells,
    generator: torch.Generator | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Probabilities along R sampled trajectories, each in its own order (Tallec 2023, algorithm 2).

    At each step the label is drawn from the step's probability and fed to the next step. The mean over R estimates the
    marginal p(y^t = 1 | x); the draws come from `generator`, and a fixed seed gives the same result on every backend of
    a device. No gradients.

    Args:
        hidden: (B, H).
        orders: (R, C) int64, one order a trajectory; repeat a row for several trajectories of one order.
        cells: the parameters.
        generator: source of the draws, on hidden's device; the default generator without it.
        backend: as in `order_logits`.

    Returns:
        (B, R, T) probabilities in task order.

    Raises:
        ValueError: an argument breaks its rule.
    """
    validation.check_hidden(hidden, cells)
    validation.check_orders_shape(orders, cells, hidden.device)
    validation.check_permutations(orders)
    validation.check_size(hidden.shape[0], orders.shape[0], cells.num_cells, cells.hidden_size)
    chosen = _choose(backend, hidden, cells, hidden.shape[0] * orders.shape[0])
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        uniforms = torch.rand(
            hidden.shape[0],
            orders.shape[0],
            cells.num_tasks,
            generator=generator,
            dtype=hidden.dtype,
            device=hidden.device,
        )
        run = reference.sample_orders if chosen == "reference" else inference.sample_orders
        state, weights = _computed_in(hidden, cells, chosen)
        return run(state, orders, weights, uniforms.to(state.dtype)).to(hidden.dtype)


def order_marginals(
    hidden: Tensor,
    orders: Tensor,
    weights: Tensor,
    cells: GRUCells,
    *,
    minimum_mass: float = 0.0,
    max_rows: int = 65536,
) -> Tensor:
    """Exact p(y^t = 1 | x) of the mixture (Tallec 2023, eq. 2.23), without sampling noise.

    Walks the tree of the 2^T label prefixes below each distinct prefix of the orders; an order costs about 2^T steps of
    a cell, so T up to 14 is practical.

    Args:
        hidden: (B, H).
        orders: (M, C) int64.
        weights: (M,) or (B, M), the mixture pi; non-negative and summing to 1.
        cells: the parameters.
        minimum_mass: branches with at most this share of the probability are left out, which lowers each entry by at
            most the mass left out. 0 is exact.
        max_rows: states advanced at a time; bounds the memory to about 2 T max_rows H numbers.

    Returns:
        (B, T). No gradients.

    Raises:
        ValueError: an argument breaks its rule.
    """
    validation.check_hidden(hidden, cells)
    validation.check_orders_shape(orders, cells, hidden.device)
    cached_trie(orders)  # checks the permutations
    if not 0.0 <= minimum_mass < 1.0:
        raise ValueError(f"`minimum_mass` must lie within [0, 1), but got {minimum_mass}; 0 is exact")
    if max_rows < 1:
        raise ValueError(f"`max_rows` must be at least 1, but got {max_rows}; give the rows that fit into memory")
    mixture = _checked_mixture(weights, hidden, orders.shape[0])
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        state, tensors = _computed_in(hidden, cells, "cpu")
        marginals = inference.order_marginals(state, orders, mixture.to(state.dtype), tensors, minimum_mass, max_rows)
        return marginals.to(hidden.dtype)


def explain(hidden: Tensor, orders: Tensor, cells: GRUCells, active: Tensor | None = None) -> dict[str, str | None]:
    """Why each backend can't take these arguments: one sentence, or None for a backend that can.

    "auto" takes the last of `reference`, `cpu`, `triton`, `cuda` that can. On a GPU, `cpu` is its plain PyTorch form.
    """
    rows = hidden.shape[0] * (orders.shape[0] if active is None else active.shape[-1])
    return {name: _refusal(name, hidden, cells, rows) for name in BACKENDS}


def _refusal(backend: str, hidden: Tensor, cells: GRUCells, rows: int) -> str | None:
    """Why `backend` can't compute B x K = `rows` rows of this, or None."""
    if backend == "cpu" and hidden.device.type not in ("cpu", "cuda"):
        return f"cpu: hidden is on {hidden.device}, neither on the CPU nor on a GPU"
    if backend == "triton":
        reason = triton_launch.refusal(hidden, cells.weight_hh.dtype, rows, cells.num_cells)
        return None if reason is None else f"triton: {reason}"
    if backend == "cuda":
        reason = cuda_launch.refusal(hidden, cells.weight_hh.dtype, rows, cells.num_cells)
        return None if reason is None else f"cuda: {reason}"
    return None


def _choose(backend: str, hidden: Tensor, cells: GRUCells, rows: int) -> str:
    """The backend that runs: the one named, or for "auto" the fastest that can."""
    if backend == "auto":
        fitting = [name for name in BACKENDS if _refusal(name, hidden, cells, rows) is None]
        # Triton's interpreter is for tests: it runs only when asked for by name.
        return [name for name in fitting if name != "triton" or not triton_launch.interpreting()][-1]
    if backend not in BACKENDS:
        raise ValueError(f"`backend` must be auto, {', '.join(BACKENDS)}, but got {backend!r}; choose one of them")
    refusal = _refusal(backend, hidden, cells, rows)
    if refusal is not None:
        raise ValueError(f"`backend` can't take these arguments: {refusal}; use backend='auto'")
    return backend


def _computed_in(hidden: Tensor, cells: GRUCells, backend: str) -> tuple[Tensor, CellWeights]:
    """The state and weights in the dtype that the backend computes in: a CPU raises half precision to float32."""
    weights = cells.stacked()
    narrow = (torch.bfloat16, torch.float16)
    agree = hidden.dtype == weights.weight_hh.dtype
    if backend == "reference" or (agree and (hidden.dtype not in narrow or backend != "cpu")):
        return hidden, weights
    wide = torch.float32 if hidden.dtype in narrow else hidden.dtype
    tensors = [*[tensor.to(wide) for tensor in weights[:-1]], weights.slots]
    return hidden.to(wide), CellWeights._make(tensors)


def _fed_labels(
    hidden: Tensor,
    labels: Tensor,
    orders: Tensor,
    cells: GRUCells,
    mask: Tensor | None,
    active: Tensor | None,
    conditioning: Tensor | None,
) -> Tensor:
    """Checks everything and returns the labels that later steps see, (B, T) in hidden's dtype."""
    validation.check_hidden(hidden, cells)
    validation.check_orders_shape(orders, cells, hidden.device)
    if not torch.compiler.is_compiling():
        # Checks the permutations of an order set that it hasn't seen; in a compiled graph the op does.
        cached_trie(orders)
    if mask is not None:
        validation.check_mask(mask, hidden, cells.num_tasks)
    validation.check_labels("labels", labels, hidden, cells.num_tasks, mask)
    if conditioning is not None:
        validation.check_labels("conditioning", conditioning, hidden, cells.num_tasks, mask)
    if active is not None:
        validation.check_active(active, hidden.shape[0], orders.shape[0], hidden.device)
    validation.check_size(hidden.shape[0], orders.shape[0], cells.num_cells, cells.hidden_size)
    fed = (labels if conditioning is None else conditioning).to(hidden.dtype)
    return fed if mask is None else torch.where(mask, fed, torch.zeros((), dtype=fed.dtype, device=fed.device))


def _logits(
    hidden: Tensor, fed: Tensor, orders: Tensor, cells: GRUCells, active: Tensor | None, backend: Backend
) -> Tensor:
    if active is not None and active.ndim == 1:
        orders, active = orders[active], None
    kept = orders.shape[0] if active is None else active.shape[1]
    chosen = _choose(backend, hidden, cells, hidden.shape[0] * kept)
    state, weights = _computed_in(hidden, cells, chosen)
    if chosen == "reference":
        return reference.order_logits(state, fed, orders, active, weights)
    logits: Tensor = OPS[chosen](state, fed.to(state.dtype), orders, active, *weights)[0]
    return logits.to(hidden.dtype)


def _checked_mixture(weights: Tensor, hidden: Tensor, num_orders: int) -> Tensor:
    """The mixture as (B, M), checked to be a distribution over orders."""
    batch = hidden.shape[0]
    if tuple(weights.shape) not in ((num_orders,), (batch, num_orders)):
        raise ValueError(
            f"`weights` must be (M,) or (B, M) with B = {batch} and M = {num_orders}, "
            f"but got shape {tuple(weights.shape)}; give one weight an order"
        )
    if weights.device != hidden.device:
        raise ValueError(f"`weights` must be on hidden's device {hidden.device}, but got {weights.device}; move it")
    mixture = weights.detach().to(hidden.dtype).expand(batch, num_orders)
    tolerance = 1e-2 if hidden.dtype in (torch.bfloat16, torch.float16) else 1e-4
    if bool((mixture < 0).any()) or bool(((mixture.sum(dim=1) - 1).abs() > tolerance).any()):
        worst = mixture.sum(dim=1)
        raise ValueError(
            f"`weights` must be non-negative and sum to 1, but got a minimum of {mixture.min().item():g} and sums from "
            f"{worst.min().item():g} to {worst.max().item():g}; apply softmax to the logits"
        )
    return mixture
