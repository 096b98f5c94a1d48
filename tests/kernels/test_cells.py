"""GRUCells: the parameters' names and shapes are a contract, and a cell is `nn.GRUCell`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from duchenne_kernels import GRUCells
from duchenne_kernels.recurrence.reference import gru_step, unbound


def shapes(cells: GRUCells) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in cells.named_parameters()}


def test_parameters_are_the_contract() -> None:
    assert shapes(GRUCells(num_tasks=5, hidden_size=7)) == {
        "weight_ih": (5, 21),
        "weight_hh": (5, 21, 7),
        "bias_ih": (5, 21),
        "bias_hh": (5, 21),
        "weight_out": (5, 7),
        "bias_out": (5,),
    }


def test_a_shared_cell_keeps_one_set_and_a_bias_for_each_task() -> None:
    cells = GRUCells(5, 7, shared=True)
    assert shapes(cells)["weight_hh"] == (1, 21, 7)
    assert shapes(cells)["weight_out"] == (1, 7)
    assert shapes(cells)["bias_out"] == (5,)
    assert cells.stacked().weight_hh.shape == (5, 21, 7)


def test_groups_have_a_cell_each_and_a_slot_for_each_label() -> None:
    cells = GRUCells(5, 7, groups=[[0, 3], [1], [4, 2]])
    assert cells.num_cells == 3
    assert cells.slots.tolist() == [[0, 3], [1, -1], [4, 2]]
    assert shapes(cells)["weight_ih"] == (3, 21, 2)
    assert shapes(cells)["weight_out"] == (3, 2, 7)


@pytest.mark.parametrize("cell", [0, 2])
def test_a_step_is_torch_gru_cell(cell: int) -> None:
    torch.manual_seed(0)
    cells = GRUCells(3, 6, dtype=torch.float64)
    peer = nn.GRUCell(1, 6, dtype=torch.float64)
    with torch.no_grad():
        peer.weight_ih.copy_(cells.weight_ih[cell].unsqueeze(1))
        peer.weight_hh.copy_(cells.weight_hh[cell])
        peer.bias_ih.copy_(cells.bias_ih[cell])
        peer.bias_hh.copy_(cells.bias_hh[cell])
    state, label = torch.randn(4, 6, dtype=torch.float64), torch.rand(4, 1, dtype=torch.float64)
    after, logits = gru_step(state, label, unbound(cells.stacked())[cell])
    torch.testing.assert_close(after, peer(label, state))
    torch.testing.assert_close(logits[:, 0], after @ cells.weight_out[cell] + cells.bias_out[cell])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_tasks": 0, "hidden_size": 4}, "`num_tasks` must be at least 1, but got 0"),
        ({"num_tasks": 3, "hidden_size": -1}, "`hidden_size` must be at least 1, but got -1"),
        ({"num_tasks": 3, "hidden_size": 4, "groups": [[0, 1]]}, "`groups` must hold each task of 0..2 exactly once"),
        ({"num_tasks": 3, "hidden_size": 4, "groups": [[0, 1, 2], []]}, "`groups` must hold each task"),
        ({"num_tasks": 2, "hidden_size": 4, "groups": [[0], [1]], "shared": True}, "`shared` and `groups` exclude"),
    ],
)
def test_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRUCells(**arguments)  # type: ignore[arg-type]
