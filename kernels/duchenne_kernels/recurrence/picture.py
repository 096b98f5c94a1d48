"""Draws the prefix trie of a few orders as text: `python -m duchenne_kernels.recurrence.picture 0123 0132 0213`."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from duchenne_kernels.recurrence.trie import Trie, cached_trie


def draw_trie(orders: Tensor) -> str:
    """The trie of `orders` (M, C) as lines of text; a node is the cell that runs there, a leaf names its orders.

    Raises:
        ValueError: a row is no permutation.
    """
    trie = cached_trie(orders)
    leaves = trie.path[:, -1].tolist()
    ends = {node: [order for order, leaf in enumerate(leaves) if leaf == node] for node in set(leaves)}
    count = f"{trie.num_nodes} steps of a cell instead of {orders.numel()}"
    return "\n".join(["h0", *_branches(trie, ends, 0, 0, ""), "", count])


def _branches(trie: Trie, ends: dict[int, list[int]], depth: int, parent: int, margin: str) -> list[str]:
    children = (trie.levels[depth].parent == parent).nonzero().flatten().tolist()
    lines = []
    for node in children:
        last = node == children[-1]
        cell = int(trie.levels[depth].cell[node])
        leaf = depth + 1 == len(trie.levels)
        orders = f"   order {', '.join(map(str, ends[node]))}" if leaf else ""
        lines.append(f"{margin}{'└' if last else '├'}─ {cell}{orders}")
        if not leaf:
            lines += _branches(trie, ends, depth + 1, node, margin + ("   " if last else "│  "))
    return lines


def main() -> int:
    """Draws the orders given as digits; exit code 2 with one line for a row that is no permutation."""
    rows = [[int(digit) for digit in word] for word in sys.argv[1:] if word.isdigit()]
    if len(rows) != len(sys.argv) - 1 or not rows or len({len(row) for row in rows}) > 1:
        sys.stderr.write("give orders of one length as digits, such as 012 021\n")
        return 2
    try:
        sys.stdout.write(draw_trie(torch.tensor(rows)) + "\n")
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
