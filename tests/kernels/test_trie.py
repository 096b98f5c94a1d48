"""The prefix trie: it has one node for each distinct prefix, and every order finds its way."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from duchenne_kernels.recurrence.picture import draw_trie
from duchenne_kernels.recurrence.trie import active_plan, build_trie, cached_plan

order_sets = st.integers(1, 6).flatmap(lambda depth: st.lists(st.permutations(range(depth)), min_size=1, max_size=30))
quick = settings(max_examples=50, deadline=None, derandomize=True)


@quick
@given(order_sets)
def test_one_node_for_each_distinct_prefix(rows: list[list[int]]) -> None:
    trie = build_trie(torch.tensor(rows))
    for depth, level in enumerate(trie.levels):
        assert level.cell.numel() == len({tuple(row[: depth + 1]) for row in rows})


@quick
@given(order_sets)
def test_a_path_spells_its_order(rows: list[list[int]]) -> None:
    orders = torch.tensor(rows)
    trie = build_trie(orders)
    for depth, level in enumerate(trie.levels):
        assert torch.equal(level.cell[trie.path[:, depth]], orders[:, depth])
        if depth:
            assert torch.equal(level.parent[trie.path[:, depth]], trie.path[:, depth - 1])
            assert torch.equal(level.fed, trie.levels[depth - 1].cell[level.parent])


@quick
@given(order_sets)
def test_groups_cover_a_level_once_in_cell_order(rows: list[list[int]]) -> None:
    for level in build_trie(torch.tensor(rows)).levels:
        spread = [cell for cell, begin, end in level.groups for _ in range(begin, end)]
        assert spread == level.cell.tolist() == sorted(spread)


@pytest.mark.parametrize("tasks", [1, 3, 5])
def test_all_orders_cost_their_distinct_prefixes(tasks: int) -> None:
    orders = torch.tensor(list(itertools.permutations(range(tasks))))
    wanted = sum(math.factorial(tasks) // math.factorial(tasks - depth) for depth in range(1, tasks + 1))
    assert build_trie(orders).num_nodes == wanted


@quick
@given(order_sets, st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_active_rows_are_the_distinct_prefixes_of_each_example(
    rows: list[list[int]], batch: int, kept: int, seed: int
) -> None:
    orders = torch.tensor(rows)
    active = torch.randint(0, len(rows), (batch, kept), generator=torch.Generator().manual_seed(seed))
    plan = active_plan(orders, active)
    assert plan.examples is not None
    for depth, (level, examples) in enumerate(zip(plan.levels, plan.examples, strict=True)):
        prefixes = {(b, *rows[m][: depth + 1]) for b in range(batch) for m in active[b].tolist()}
        assert level.cell.numel() == len(prefixes)
        path = plan.path[:, :, depth]
        assert torch.equal(level.cell[path], orders[active][:, :, depth])
        assert torch.equal(examples[path], torch.arange(batch).unsqueeze(1).expand(batch, kept))


def test_a_plan_is_built_once_and_again_after_an_edit() -> None:
    orders = torch.stack([torch.randperm(5) for _ in range(4)])
    first = cached_plan(orders)
    assert cached_plan(orders) is first
    assert cached_plan(orders.clone()) is first
    orders[0] = orders[0].flip(0).clone()
    assert not torch.equal(cached_plan(orders).cells, first.cells)


def test_an_edited_order_set_is_checked_again() -> None:
    orders: Tensor = torch.stack([torch.randperm(5) for _ in range(4)])
    cached_plan(orders)
    orders[2, 0] = orders[2, 1]
    with pytest.raises(ValueError, match="row 2"):
        cached_plan(orders)


def test_the_picture_in_the_readme_is_the_command_s_output() -> None:
    readme = (Path(__file__).parents[2] / "kernels" / "README.md").read_text(encoding="utf-8")
    picture = draw_trie(torch.tensor([[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [1, 0, 2, 3], [1, 0, 3, 2]]))
    assert f"```text\n{picture}\n```" in readme
