"""p(y^t = 1 | x) of a trained network as a pure function of x: nothing is drawn, so that a row's numbers depend neither
on its neighbours nor on the runtime. The same module predicts and is exported.

Vanilla networks and transformers give their marginals directly. A recurrence sums over label prefixes where that is
cheap enough (Tallec 2023, eq. 2.23), else it follows a fixed number of trajectories whose uniforms are constants.

Shapes: B rows, M orders, C steps (tasks, or groups of tasks), W labels a step, V label prefixes, R trajectories,
H hidden, T tasks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from duchenne_jobs.models import Inputs, MultiTaskNetwork
from duchenne_jobs.models.recurrent import MONET, MRNN
from duchenne_kernels.cells import CellWeights

EXACT_STATES = 2**14  # cell states a row, over all orders and prefixes: exact up to this, 400 million FLOPs with H = 64
TRAJECTORIES = 256  # a row, where exact marginals would take more
NEGLIGIBLE = 1e-6  # share of the mixture that may be left out


class Marginals(nn.Module):
    """A network and how its marginals are computed.

    Attributes:
        method: `direct`, `exact` or `trajectories`, for reports.
    """

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network.eval()
        self.mixture = _mixture_of(network)
        self.method = "direct" if self.mixture is None else self.mixture.method

    @torch.no_grad()
    def forward(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, T)."""
        if self.mixture is None:
            return self.network.predict(inputs)
        hidden = self.network.encoder(inputs)  # type: ignore[operator] # recurrent networks have one
        weights = self.network.selector.weights(hidden) if self.mixture.depends_on_rows else None  # type: ignore[operator, union-attr]
        marginals: Tensor = self.mixture(hidden, weights)
        return marginals


def _mixture_of(network: MultiTaskNetwork) -> _Mixture | None:
    """How a recurrent network mixes its orders; None for a network without a recurrence."""
    if not isinstance(network, MRNN | MONET):
        return None
    cells = network.cells.stacked()
    weights = CellWeights._make(tensor.detach() for tensor in cells)
    if isinstance(network, MRNN):
        return _Exact.or_trajectories(weights, network.order, torch.ones(1), network.cells.num_tasks)
    selector = network.selector
    width = network.cells.hidden_size
    pi = selector.weights(torch.zeros(1, width, device=selector.orders.device))
    return _Exact.or_trajectories(weights, selector.orders, pi if pi.dim() == 1 else None, network.cells.num_tasks)


class _Mixture(nn.Module):
    """Orders with their weights, and the parameters of the cells at each step of each order.

    Args:
        cells: the parameters.
        orders: (M, C).
        pi: (M,), or None where it depends on the row and is handed in.
        tasks: T.
    """

    method: str
    orders: Tensor
    pi: Tensor | None

    def __init__(self, cells: CellWeights, orders: Tensor, pi: Tensor | None, tasks: int) -> None:
        super().__init__()
        self.depends_on_rows = pi is None
        self.steps = orders.shape[1]
        self.register_buffer("orders", orders.clone())
        self.register_buffer("pi", pi)
        for name, tensor in zip(CellWeights._fields, cells, strict=True):
            self.register_buffer(name, tensor.clone())
        slots = cells.slots
        one_hot = functional.one_hot(slots.clamp(min=0), tasks).to(cells.weight_hh.dtype)
        self.register_buffer("tasks_of", one_hot * (slots >= 0).unsqueeze(-1))  # (C, W, T)

    def _at(self, step: int) -> list[Tensor]:
        """Parameters of each order's cell at a step, then which task each of its labels is, (M, W, T)."""
        cells = self.orders[:, step]
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_out", "bias_out", "tasks_of")
        return [getattr(self, name)[cells] for name in names]

    def _weights(self, rows: int, given: Tensor | None) -> Tensor:
        """(M, B)."""
        if given is not None:
            return given.T
        assert self.pi is not None  # noqa: S101 - either is there
        return self.pi[:, None].expand(-1, rows)


class _Exact(_Mixture):
    """Sums over all label prefixes of each order."""

    method = "exact"

    @staticmethod
    def or_trajectories(cells: CellWeights, orders: Tensor, pi: Tensor | None, tasks: int) -> _Mixture:
        """The exact mixture, or the trajectories where that would take more than EXACT_STATES states a row."""
        kept = orders
        if pi is not None:
            orders, pi = _without_negligible(orders, pi)
            kept = orders
        prefixes = 2 ** (cells.slots.shape[1] * (orders.shape[1] - 1))
        if len(kept) * prefixes <= EXACT_STATES:
            return _Exact(cells, orders, pi, tasks)
        return _Trajectories(cells, orders, pi, tasks)

    def forward(self, hidden: Tensor, given: Tensor | None) -> Tensor:
        """(B, H), and (B, M) where the mixture depends on the row -> (B, T)."""
        batch, size = hidden.shape
        width = self.get_buffer("slots").shape[1]
        codes = torch.tensor([[(code >> slot) & 1 for slot in range(width)] for code in range(2**width)])
        codes = codes.to(hidden)  # (2^W, W): what a step may have predicted
        weights = self._weights(batch, given)
        state = hidden.expand(len(self.orders), batch, size)  # (M, B V, H), V innermost
        mass = hidden.new_ones(len(self.orders), batch, 1)
        fed = hidden.new_zeros(1, width)
        marginals = hidden.new_zeros(batch, self.get_buffer("tasks_of").shape[2])
        for step in range(self.steps):
            w_ih, w_hh, b_ih, b_hh, w_out, b_out, tasks_of = self._at(step)
            from_state = (state @ w_hh.transpose(1, 2) + b_hh.unsqueeze(1)).unsqueeze(2)  # (M, B V, 1, 3H)
            from_input = (fed @ w_ih.transpose(1, 2) + b_ih.unsqueeze(1)).unsqueeze(1)  # (M, 1, labels, 3H)
            after = _gated(state.unsqueeze(2), from_state, from_input).flatten(1, 2)  # (M, B V', H)
            logits = after @ w_out.transpose(1, 2) + b_out.unsqueeze(1)
            known = torch.sigmoid(logits).reshape(len(self.orders), batch, -1, width)  # (M, B, V', W)
            share = (mass.unsqueeze(-1) * known).sum(dim=2) * weights.unsqueeze(-1)  # (M, B, W)
            marginals = marginals + (share @ tasks_of).sum(dim=0)
            if step + 1 < self.steps:
                # A slot that pads a smaller group is never 1.
                chance = (known * tasks_of.sum(dim=2)[:, None, None]).unsqueeze(3)  # (M, B, V', 1, W)
                chance = (codes * chance + (1 - codes) * (1 - chance)).prod(dim=-1)
                mass = (mass.unsqueeze(-1) * chance).flatten(2)
                state, fed = after, codes
        return marginals


class _Trajectories(_Mixture):
    """Mean over trajectories whose uniforms are constants, the same for every row (Tallec 2023, algorithm 2).

    Orders are taken at even steps through the cumulated mixture. A mixture that depends on the row weighs the same
    number of trajectories of every order.
    """

    method = "trajectories"
    uniforms: Tensor

    def __init__(self, cells: CellWeights, orders: Tensor, pi: Tensor | None, tasks: int) -> None:
        if pi is not None:
            even = (torch.arange(TRAJECTORIES, dtype=torch.float64) + 0.5) / TRAJECTORIES
            picks = torch.searchsorted(pi.double().cpu().cumsum(0), even).clamp(max=len(pi) - 1)
            drawn, share = orders[picks.to(orders.device)], torch.full((TRAJECTORIES,), 1 / TRAJECTORIES)
            super().__init__(cells, drawn, share.to(pi.device), tasks)
        else:
            super().__init__(cells, orders.repeat_interleave(max(1, TRAJECTORIES // len(orders)), dim=0), None, tasks)
        generator = torch.Generator().manual_seed(0)
        uniforms = torch.rand(len(self.orders), 1, tasks, generator=generator)
        self.register_buffer("uniforms", uniforms.to(orders.device))

    def forward(self, hidden: Tensor, given: Tensor | None) -> Tensor:
        """(B, H), and (B, M) where the mixture depends on the row -> (B, T)."""
        batch = hidden.shape[0]
        if given is not None:
            each = len(self.orders) // given.shape[1]
            given = given.repeat_interleave(each, dim=1) / each
        weights = self._weights(batch, given)
        state = hidden.expand(len(self.orders), batch, hidden.shape[1])  # (R, B, H)
        fed = hidden.new_zeros(len(self.orders), batch, self.get_buffer("slots").shape[1])
        marginals = hidden.new_zeros(batch, self.uniforms.shape[2])
        for step in range(self.steps):
            w_ih, w_hh, b_ih, b_hh, w_out, b_out, tasks_of = self._at(step)
            from_state = state @ w_hh.transpose(1, 2) + b_hh.unsqueeze(1)
            from_input = fed @ w_ih.transpose(1, 2) + b_ih.unsqueeze(1)
            state = _gated(state, from_state, from_input)
            known = torch.sigmoid(state @ w_out.transpose(1, 2) + b_out.unsqueeze(1))  # (R, B, W)
            marginals = marginals + ((known * weights.unsqueeze(-1)) @ tasks_of).sum(dim=0)
            threshold = self.uniforms @ tasks_of.transpose(1, 2)  # (R, 1, W); 0 for a slot that pads
            fed = ((threshold < known) & (threshold > 0)).to(hidden.dtype)
        return marginals


def _gated(state: Tensor, from_state: Tensor, from_input: Tensor) -> Tensor:
    """h' of GRU cells from the parts of their gates, r, z, n on the last axis."""
    size = state.shape[-1]
    reset = torch.sigmoid(from_state[..., :size] + from_input[..., :size])
    update = torch.sigmoid(from_state[..., size : 2 * size] + from_input[..., size : 2 * size])
    candidate = torch.tanh(from_input[..., 2 * size :] + reset * from_state[..., 2 * size :])
    return candidate + update * (state - candidate)


def _without_negligible(orders: Tensor, pi: Tensor) -> tuple[Tensor, Tensor]:
    """The fewest orders that hold all but NEGLIGIBLE of the mixture, which is scaled up to them."""
    sorted_pi, at = pi.sort(descending=True)
    # Of those before it: an order is kept while they hold less than nearly all.
    before = sorted_pi.double().cumsum(0) - sorted_pi.double()
    kept = at[before < 1 - NEGLIGIBLE].sort().values
    return orders[kept], pi[kept] / pi[kept].sum()


def states_a_row(mixture: _Mixture | None) -> int:
    """Cell states of a row at the last step, from which a caller bounds how many rows to take at once."""
    if not isinstance(mixture, _Mixture):
        return 1
    prefixes = 2 ** (mixture.get_buffer("slots").shape[1] * (mixture.steps - 1)) if mixture.method == "exact" else 1
    return math.prod((len(mixture.orders), prefixes))
