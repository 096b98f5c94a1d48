"""The recurrence as a torch operator: schema, fake tensors, `torch.compile`, autocast, DDP."""

from __future__ import annotations

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


def test_compiles_into_one_graph(make) -> None:  # type: ignore[no-untyped-def]
    problem = make(masked=True)
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


def test_trains_under_ddp(make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    problem = make(hard=True)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = problem.cells

        def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
            return loss_of(problem)(hidden, labels)

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(Model())
        before = problem.cells.weight_hh.detach().clone()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        first = model(problem.hidden, problem.labels)
        first.backward()
        optimiser.step()
        assert not torch.equal(before, problem.cells.weight_hh)
        assert model(problem.hidden, problem.labels) < first
    finally:
        torch.distributed.destroy_process_group()


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
