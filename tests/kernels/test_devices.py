"""The trie in plain PyTorch on a GPU's tensors, without a GPU: fake tensors know their device and refuse to mix two."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from duchenne_kernels import explain
from duchenne_kernels.recurrence import cpu, op
from duchenne_kernels.recurrence.registration import Inputs
from duchenne_kernels.recurrence.trie import active_plan, cached_plan

GROUPS = [[0, 3], [1], [4, 2]]


@pytest.fixture
def walked_on_a_gpu(monkeypatch):  # type: ignore[no-untyped-def]
    """Runs forward and backward of a problem as the op would on a GPU; returns the devices of all results."""

    def walk(problem) -> set[str]:  # type: ignore[no-untyped-def]
        whole = problem.active is None
        plan = cached_plan(problem.orders) if whole else active_plan(problem.orders, problem.active)
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            device = torch.device("cuda", 0)
            there = plan.on(device)
            plan._elsewhere.clear()  # fake tensors must not outlive their mode
            monkeypatch.setattr(op, "_plan", lambda _inputs: there)
            active = None if whole else problem.active.to(device)
            weights = type(problem.cells.stacked())._make(value.to(device) for value in problem.cells.stacked())
            labels, hidden = problem.labels.to(device), problem.hidden.to(device)
            inputs = Inputs(hidden, labels, problem.orders.to(device), active, weights)
            logits, states = op._forward(inputs)
            grads = op._backward(torch.ones_like(logits), inputs, states)
        return {str(value.device) for value in (logits, states, *grads)}

    return walk


@pytest.mark.parametrize("active", [None, 2])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=str)
def test_everything_stays_on_the_gpu(groups, active, make, walked_on_a_gpu) -> None:  # type: ignore[no-untyped-def]
    assert walked_on_a_gpu(make(batch=3, count=4, tasks=5, groups=groups, active=active)) == {"cuda:0"}


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@gpu
@pytest.mark.parametrize("active", [None, 3])
@pytest.mark.parametrize("groups", [None, GROUPS], ids=str)
def test_on_a_gpu_the_trie_serves_what_no_kernel_takes(groups, active, make, run, assert_close) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=6, tasks=5, hidden=300, groups=groups, active=active)
    here = type(problem)(
        problem.to(torch.float32).cells.cuda(),
        problem.hidden.cuda(),
        problem.labels.cuda(),
        problem.orders.cuda(),
        None,
        None if active is None else problem.active.cuda(),
    )
    reasons = explain(here.hidden, here.orders, here.cells)
    assert reasons["cpu"] is None
    assert reasons["triton"] == "triton: hidden size 300 is above 128"
    found = {name: value.cpu() for name, value in run(here, "auto").items()}
    assert_close(found, run(problem.to(torch.float64), "reference"), 1e-5)


def test_rows_are_added_once_each() -> None:
    target, index = torch.zeros(3, 2), torch.tensor([2, 0, 2])
    found = cpu.add_rows(target, index, torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert found.tolist() == [[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]]
