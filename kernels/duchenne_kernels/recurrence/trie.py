"""The prefix trie of an order set: under teacher forcing, orders that begin alike share the states of that beginning.

A node at depth t stands for one distinct prefix of t + 1 cells. The nodes of a level are sorted by cell, so that a
level is one matmul per cell over contiguous rows. Per-example subsets of orders ("active") give rows that stand for
(node, example) pairs instead of whole batches; both cases are a `Plan`.

Shapes: B batch, M orders, K active orders, C cells, N nodes (or rows) of a level, S examples a row.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from threading import Lock
from weakref import ref

import torch
from torch import Tensor

from duchenne_kernels.recurrence.validation import check_permutations

CACHED_ORDER_SETS = 64
CACHED_SUBSETS = 4


@dataclass(frozen=True)
class Level:
    """The nodes of one depth, sorted by cell, then by parent."""

    cell: Tensor  # (N,) int64: the cell that runs at the node
    parent: Tensor  # (N,) int64: index of the parent within the level above; 0 at depth 0
    fed: Tensor  # (N,) int64: the cell whose labels are fed, i.e. the parent's; -1 at depth 0
    groups: tuple[tuple[int, int, int], ...]  # (cell, begin, end): runs of nodes of one cell


@dataclass(frozen=True)
class Trie:
    """Levels 0..C-1 and, for each order, the node that it visits at each depth."""

    levels: tuple[Level, ...]
    path: Tensor  # (M, C) int64: index within the level of the node that order m visits at depth t

    @property
    def num_nodes(self) -> int:
        return sum(level.cell.numel() for level in self.levels)


@dataclass(frozen=True)
class Plan:
    """What the trie backend walks: a level's N rows each hold S examples, (N, S, H) states.

    S = B and a row is a node when every example runs every order; S = 1 and a row is a (node, example) pair otherwise.
    """

    levels: tuple[Level, ...]
    examples: tuple[Tensor, ...] | None  # per level (N,) int64: the example of a row, where S = 1
    path: Tensor  # (M, C), or (B, K, C): row within the level that an order visits at depth t
    cells: Tensor  # (M, C), or (B, K, C): the cell that runs there
    offsets: tuple[int, ...]  # C + 1 row offsets of the levels
    _elsewhere: dict[torch.device, Plan] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def output_rows(self) -> Tensor:
        """Global row that computes each cell of each order, in cell order: same shape as `path`."""
        starts = torch.tensor(self.offsets[:-1], device=self.path.device)
        return torch.empty_like(self.path).scatter_(-1, self.cells, self.path + starts)

    def on(self, device: torch.device) -> Plan:
        """The same plan with its tensors on `device`: copied once."""
        if device == self.path.device:
            return self
        if device not in self._elsewhere:
            moved = Plan(
                tuple(
                    Level(level.cell.to(device), level.parent.to(device), level.fed.to(device), level.groups)
                    for level in self.levels
                ),
                None if self.examples is None else tuple(example.to(device) for example in self.examples),
                self.path.to(device),
                self.cells.to(device),
                self.offsets,
            )
            self._elsewhere[device] = moved
        return self._elsewhere[device]


def _groups(cell: Tensor) -> tuple[tuple[int, int, int], ...]:
    """Runs of equal values of a sorted tensor, as (value, begin, end)."""
    values, counts = torch.unique_consecutive(cell, return_counts=True)
    ends = counts.cumsum(0)
    return tuple(zip(values.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True))


def build_trie(orders: Tensor) -> Trie:
    """The trie of `orders` (M, C), each row a permutation. O(M C log M)."""
    orders = orders.detach().cpu()
    count, depth = orders.shape
    above = torch.zeros(count, dtype=torch.int64)  # node of each order in the level above
    above_cell = torch.full((1,), -1)
    levels, path = [], torch.empty_like(orders)
    for step in range(depth):
        parents = above_cell.numel()
        keys, above = torch.unique(orders[:, step] * parents + above, return_inverse=True)
        cell, parent = keys // parents, keys % parents
        levels.append(Level(cell, parent, above_cell[parent], _groups(cell)))
        above_cell = cell
        path[:, step] = above
    return Trie(tuple(levels), path)


def _content(values: Tensor) -> bytes:
    """The bytes of a contiguous CPU tensor."""
    return ctypes.string_at(values.data_ptr(), values.numel() * values.element_size())


class _Cache:
    """The last order sets and their plans: a model calls with the same orders at every step.

    Found by the tensor itself first (no copy from a GPU, no hashing), then by content. Permutations are checked when an
    order set is first seen.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_content: OrderedDict[tuple[tuple[int, ...], bytes], tuple[Trie, Plan]] = OrderedDict()
        self._by_tensor: OrderedDict[int, tuple[ref[Tensor], int, tuple[Trie, Plan]]] = OrderedDict()
        self._lock = Lock()

    def get(self, orders: Tensor) -> tuple[Trie, Plan]:
        version = -1 if orders.is_inference() else orders._version  # in-place edits count it up
        with self._lock:
            known = self._by_tensor.get(id(orders))
            if known is not None and known[0]() is orders and known[1] == version >= 0:
                return known[2]
        values = orders.detach().cpu().contiguous()
        key = (tuple(values.shape), _content(values))
        with self._lock:
            entry = self._by_content.get(key)
        if entry is None:
            check_permutations(values)
            trie = build_trie(values)
            entry = (trie, _full_plan(trie, values))
        with self._lock:
            self._by_content[key] = entry
            self._by_content.move_to_end(key)
            self._by_tensor[id(orders)] = (ref(orders), version, entry)
            self._by_tensor.move_to_end(id(orders))
            for table in (self._by_content, self._by_tensor):
                while len(table) > self._capacity:
                    table.popitem(last=False)
        return entry


_cache = _Cache(CACHED_ORDER_SETS)


def cached_trie(orders: Tensor) -> Trie:
    """The trie of `orders` (M, C), built once for each order set."""
    return _cache.get(orders)[0]


def cached_plan(orders: Tensor) -> Plan:
    """The plan in which every example runs every order, built once for each order set."""
    return _cache.get(orders)[1]


def _full_plan(trie: Trie, orders: Tensor) -> Plan:
    sizes = [level.cell.numel() for level in trie.levels]
    return Plan(trie.levels, None, trie.path, orders.clone(), _offsets(sizes))


_active_plans: OrderedDict[tuple[int, tuple[int, ...], bytes], tuple[Trie, Plan]] = OrderedDict()
_active_lock = Lock()


def active_plan(orders: Tensor, active: Tensor) -> Plan:
    """The plan of per-example subsets: `active` (B, K) indexes `orders` (M, C). Examples share no rows.

    Rows are deduplicated within an example, so orders drawn twice or with a common beginning cost once. The last few
    plans are kept: backward asks for the one that forward built.
    """
    trie = cached_trie(orders)
    kept = active.detach().cpu().contiguous()
    key = (id(trie), tuple(kept.shape), _content(kept))
    with _active_lock:
        found = _active_plans.get(key)
    if found is None:
        found = (trie, _active_plan(trie, orders.detach().cpu(), kept))  # holding the trie keeps its id in use
    with _active_lock:
        _active_plans[key] = found
        while len(_active_plans) > CACHED_SUBSETS:
            _active_plans.popitem(last=False)
    return found[1]


def _active_plan(trie: Trie, orders: Tensor, active: Tensor) -> Plan:
    batch, kept = active.shape
    paths = trie.path[active]  # (B, K, C)
    example_of = torch.arange(batch).repeat_interleave(kept)
    levels, examples = [], []
    path = torch.empty_like(paths)
    above = example_of  # row above of each (example, order)
    for step, level in enumerate(trie.levels):
        keys, rows = torch.unique(paths[:, :, step].flatten() * batch + example_of, return_inverse=True)
        node, example = keys // batch, keys % batch
        # Orders that meet in a row come from one row above: whichever is written last, it is the same.
        parent = torch.empty_like(keys).scatter_(0, rows, above)
        cell = level.cell[node]
        levels.append(Level(cell, parent, level.fed[node], _groups(cell)))
        examples.append(example)
        path[:, :, step] = rows.view(batch, kept)
        above = rows
    offsets = _offsets([level.cell.numel() for level in levels])
    return Plan(tuple(levels), tuple(examples), path, orders[active], offsets)


def _offsets(sizes: list[int]) -> tuple[int, ...]:
    return tuple(accumulate(sizes, initial=0))
