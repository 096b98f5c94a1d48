"""The recurrence as a torch operator: schema, fake tensors, `torch.compile`, autocast, DDP."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from duchenne_kernels import order_log_likelihood
from duchenne_kernels.recurrence import op


def loss_of(problem):  # type: ignore[no-untyped-def]
    """A mixture's loss (Tallec 2023, eq. 2.27) as a function of the state and labels."""

    def loss(hidden: Tensor, labels: Tensor) -> Tensor:
        likelihood = order_log_likelihood(
            hidden, labels, problem.orders, problem.cells, problem.mask, active=problem.active
        )
        return -torch.logsumexp(likelihood, dim=1).mean()

    return loss


@pytest.mark.parametrize("active", [None, 2])
def test_opcheck(active: int | None, make, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(active=active)
    weights = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in problem.cells.stacked()]
    arguments = (
        problem.hidden.requires_grad_(),
        problem.labels.requires_grad_(),
        problem.orders,
        problem.active,
        *weights,
    )
    results = torch.library.opcheck(torch.ops.duchenne_kernels.recurrence_cpu.default, arguments)
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    "changes",
    [{}, {"active": 2}, {"groups": [[0, 3], [1, 2]]}, {"shared": True}],
    ids=["plain", "active", "groups", "shared"],
)
def test_compiles_into_one_graph(changes, make) -> None:  # type: ignore[no-untyped-def]
    problem = make(masked=True, **changes)
    loss = loss_of(problem)
    results = []
    for call in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        hidden = problem.hidden.clone().requires_grad_()
        problem.cells.zero_grad()
        value = call(hidden, problem.labels)
        value.backward()
        results.append([value.detach(), hidden.grad, problem.cells.weight_hh.grad])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_a_bad_order_is_refused_inside_a_compiled_graph(make) -> None:  # type: ignore[no-untyped-def]
    problem = make()
    problem.orders[1, 0] = problem.orders[1, 1]
    compiled = torch.compile(loss_of(problem), fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match="permutation"):
        compiled(problem.hidden, problem.labels)


def test_autocast_keeps_float32(make, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(hard=True)
    wanted = order_log_likelihood(problem.hidden, problem.labels, problem.orders, problem.cells)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = order_log_likelihood(problem.hidden, problem.labels, problem.orders, problem.cells)
        found.sum().backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)
    # An encoder under autocast hands over bfloat16.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = order_log_likelihood(problem.hidden.bfloat16(), problem.labels, problem.orders, problem.cells)
    torch.testing.assert_close(narrow.float(), wanted, rtol=2e-2, atol=2e-2)


RANK = """
import os
import sys
import torch
from duchenne_kernels import GRUCells, order_log_likelihood

rank, folder = int(sys.argv[1]), sys.argv[2]


class Mixture(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cells = GRUCells(4, 8)

    def forward(self, hidden, labels, orders):
        return -torch.logsumexp(order_log_likelihood(hidden, labels, orders, self.cells), dim=1).mean()


given = torch.load(f"{folder}/given.pt", weights_only=True)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
mixture = Mixture()
mixture.cells.load_state_dict(given["cells"])
half = slice(rank * 2, rank * 2 + 2)
model = torch.nn.parallel.DistributedDataParallel(mixture)
model(given["hidden"][half], given["labels"][half], given["orders"]).backward()
torch.save({name: value.grad for name, value in mixture.cells.named_parameters()}, f"{folder}/{rank}.pt")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
os._exit(0)  # gloo's threads now and then abort an interpreter that tears them down; what is asked is on the disk
"""


def test_two_ddp_processes_average_the_gradients_of_their_halves(make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=4, hard=True)
    given = {"hidden": problem.hidden, "labels": problem.labels, "orders": problem.orders}
    torch.save(given | {"cells": problem.cells.state_dict()}, tmp_path / "given.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, "-W", "ignore", "-c", RANK, str(rank), str(tmp_path)] for rank in (0, 1)]
    ranks = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    messages = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], messages
    loss_of(problem)(problem.hidden, problem.labels).backward()  # the mean over both halves
    wanted = {name: parameter.grad for name, parameter in problem.cells.named_parameters()}
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, wanted)


def test_vmap_free_second_order_is_refused_not_wrong(make) -> None:  # type: ignore[no-untyped-def]
    """The backward has no backward of its own: asking for one raises instead of giving zeros."""
    problem = make()
    hidden = problem.hidden.requires_grad_()
    value = loss_of(problem)(hidden, problem.labels)
    (grad,) = torch.autograd.grad(value, hidden, create_graph=True)
    with pytest.raises(RuntimeError):
        grad.sum().backward()


def test_the_op_names_its_kernels() -> None:
    with op.plain_kernels():
        assert op.cpu_kernels().startswith("plain PyTorch")
