"""The contract suite of every backend: outputs and all gradients against the float64 reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duchenne_kernels import order_log_likelihood, order_logits

FP32_BOUND, BF16_BOUND = 1e-5, 1e-2
# Each odd size of each axis at least once: (B, M, T, H).
SIZES = [
    (1, 1, 14, 16),
    (3, 120, 2, 48),
    (17, 1, 12, 100),
    (65, 120, 5, 64),
    (1, 513, 1, 48),
    (3, 513, 5, 16),
    (2, 60, 12, 64),
]

quick = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_agrees_with_the_reference(sizes, make, run, assert_close, cpu_kernels, poisoned) -> None:  # type: ignore[no-untyped-def]
    problem = make(*sizes)
    assert_close(run(problem, "cpu"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@quick
@given(
    batch=st.sampled_from([1, 2, 3, 17]),
    count=st.integers(1, 40),
    tasks=st.integers(1, 6),
    hidden=st.sampled_from([1, 3, 16, 33]),
    active=st.none() | st.integers(1, 9),
    masked=st.booleans(),
    hard=st.booleans(),
    shared=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_agrees_with_the_reference_on_any_problem(make, run, assert_close, cpu_kernels, **drawn) -> None:  # type: ignore[no-untyped-def]
    """Few tasks with many orders repeat orders and share prefixes; `active` repeats orders within an example."""
    problem = make(**drawn)
    assert_close(run(problem, "cpu"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


@pytest.mark.parametrize("active", [None, 3])
@pytest.mark.parametrize("groups", [[[0, 3], [1], [4, 2]], [[4, 1, 0], [2, 3]]], ids=str)
def test_groups_of_tasks_agree(groups, active, make, run, assert_close, cpu_kernels, poisoned) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=6, tasks=5, hidden=12, groups=groups, masked=True, active=active)
    assert_close(run(problem, "cpu"), run(problem.to(torch.float64), "reference"), FP32_BOUND)


def test_bfloat16_is_computed_in_float32(make, run, assert_close, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=17, count=20, tasks=12, hidden=64, hard=True, dtype=torch.bfloat16)
    assert_close(run(problem, "cpu"), run(problem.to(torch.float64), "reference"), BF16_BOUND)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("active", [None, 2])
def test_gradcheck(backend: str, active: int | None, make) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=3, tasks=3, hidden=3, active=active, dtype=torch.float64)
    parameters = dict(problem.cells.named_parameters())

    def likelihood(hidden, labels, *values):  # type: ignore[no-untyped-def]
        def call(cells):  # type: ignore[no-untyped-def]
            return order_log_likelihood(hidden, labels, problem.orders, cells, active=problem.active, backend=backend)

        return _with_parameters(problem.cells, dict(zip(parameters, values, strict=True)), call)

    # Labels stay inside (0, 1): finite differences must not leave the allowed range.
    labels = problem.labels.clamp(0.1, 0.9).requires_grad_()
    inputs = (
        problem.hidden.requires_grad_(),
        labels,
        *[value.detach().requires_grad_() for value in parameters.values()],
    )
    assert torch.autograd.gradcheck(likelihood, inputs)


def _with_parameters(cells, values, call):  # type: ignore[no-untyped-def]
    """`call(cells)` while the module's parameters are `values`."""

    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = cells

        def forward(self) -> torch.Tensor:
            return call(self.cells)

    return torch.func.functional_call(Wrapper(), {f"cells.{name}": value for name, value in values.items()}, ())


def test_per_example_and_per_batch_subsets_pick_columns(make, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=4, count=9, tasks=4, hard=True)
    arguments = (problem.hidden, problem.labels, problem.orders, problem.cells)
    whole = order_logits(*arguments)
    subset = torch.tensor([7, 0, 7])
    torch.testing.assert_close(order_logits(*arguments, active=subset), whole[:, subset], rtol=1e-5, atol=1e-6)
    each = torch.randint(0, 9, (4, 5))
    wanted = torch.stack([whole[example, each[example]] for example in range(4)])
    torch.testing.assert_close(order_logits(*arguments, active=each), wanted, rtol=1e-5, atol=1e-6)


def test_repeated_orders_give_repeated_columns(make, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=3, tasks=4)
    repeated = problem.orders[[0, 1, 0, 2, 0]]
    logits = order_logits(problem.hidden, problem.labels, repeated, problem.cells)
    assert torch.equal(logits[:, 0], logits[:, 2])
    assert torch.equal(logits[:, 0], logits[:, 4])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_nan_in_hidden_comes_out_as_nan_for_that_example_only(backend: str, make, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=3, count=5, tasks=4, hidden=20, hard=True)
    problem.hidden[1, 13] = float("nan")
    found = order_log_likelihood(problem.hidden, problem.labels, problem.orders, problem.cells, backend=backend)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_saturated_gates_stay_finite(make, run, assert_close, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=2, count=4, tasks=3, hidden=16)
    with torch.no_grad():
        problem.cells.bias_hh.copy_(torch.randn_like(problem.cells.bias_hh) * 300)
        problem.cells.bias_out.copy_(torch.randn_like(problem.cells.bias_out) * 300)
    found = run(problem, "cpu")
    assert all(value.isfinite().all() for value in found.values())
    assert_close(
        {"logits": found["logits"]}, {"logits": run(problem.to(torch.float64), "reference")["logits"]}, FP32_BOUND
    )


def test_two_calls_are_bitwise_equal(make, run, cpu_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=17, count=60, tasks=8, hidden=64)
    first, second = run(problem, "cpu"), run(problem, "cpu")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_agrees(threads: int, make, run, assert_close, compiled_kernels) -> None:  # type: ignore[no-untyped-def]
    problem = make(batch=5, count=30, tasks=5, hidden=32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = run(problem, "cpu")
    finally:
        torch.set_num_threads(before)
    assert_close(found, run(problem.to(torch.float64), "reference"), FP32_BOUND)
