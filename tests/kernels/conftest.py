"""Shared pieces of the contract suite: random problems, and one call that returns outputs and gradients."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from duchenne_kernels import GRUCells, order_log_likelihood, order_logits
from duchenne_kernels.recurrence import op
from duchenne_kernels.recurrence.native import compiler, library


@dataclass(frozen=True)
class Problem:
    """One set of arguments. B batch, M orders, T tasks, H hidden, K active orders."""

    cells: GRUCells
    hidden: Tensor
    labels: Tensor
    orders: Tensor
    mask: Tensor | None
    active: Tensor | None

    def to(self, dtype: torch.dtype) -> Problem:
        groups = (
            [[task for task in cell if task >= 0] for cell in self.cells.slots.tolist()] if self.cells.grouped else None
        )
        cells = GRUCells(
            self.cells.num_tasks, self.cells.hidden_size, shared=self.cells.shared, groups=groups, dtype=dtype
        )
        cells.load_state_dict(self.cells.state_dict())
        return Problem(cells, self.hidden.to(dtype), self.labels.to(dtype), self.orders, self.mask, self.active)


@dataclass(frozen=True)
class Make:
    """Draws problems from a seed."""

    def __call__(
        self,
        batch: int = 3,
        count: int = 5,
        tasks: int = 4,
        hidden: int = 8,
        *,
        active: int | None = None,
        masked: bool = False,
        hard: bool = False,
        shared: bool = False,
        groups: list[list[int]] | None = None,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> Problem:
        torch.manual_seed(seed)
        cells = GRUCells(tasks, hidden, shared=shared, groups=groups, dtype=dtype)
        labels = torch.rand(batch, tasks, dtype=dtype)
        return Problem(
            cells,
            torch.randn(batch, hidden, dtype=dtype),
            labels.round() if hard else labels,
            torch.stack([torch.randperm(cells.num_cells) for _ in range(count)]),
            torch.rand(batch, tasks) < 0.7 if masked else None,
            None if active is None else torch.randint(0, count, (batch, active)),
        )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The problems are tiny: on a busy machine two threads would wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


Run = Callable[[Problem, str], dict[str, Tensor]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Outputs, and the gradients of a random linear function of them, by name; float64 throughout."""

    def call(problem: Problem, backend: str) -> dict[str, Tensor]:
        hidden = problem.hidden.clone().requires_grad_()
        labels = problem.labels.clone().requires_grad_()
        problem.cells.zero_grad()
        arguments = (hidden, labels, problem.orders, problem.cells, problem.mask)
        logits = order_logits(*arguments, active=problem.active, backend=backend)
        likelihood = order_log_likelihood(*arguments, active=problem.active, backend=backend)
        generator = torch.Generator().manual_seed(7)
        # Drawn in float64 whatever the dtype, so that two precisions see the same function.
        direction = torch.randn(logits.shape, generator=generator, dtype=torch.float64).to(logits.dtype)
        weights = torch.randn(likelihood.shape, generator=generator, dtype=torch.float64).to(logits.dtype)
        ((logits * direction).sum() + (likelihood * weights).sum()).backward()
        found = {"logits": logits, "likelihood": likelihood, "hidden": hidden.grad, "labels": labels.grad}
        found |= {name: parameter.grad for name, parameter in problem.cells.named_parameters()}
        return {name: value.detach().double() for name, value in found.items() if value is not None}

    return call


@pytest.fixture(scope="session")
def compiled_kernels() -> library.Library:
    """The compiled CPU kernels, built when there is a compiler."""
    if isinstance(library.load(), str):
        if shutil.which("g++") is None:
            pytest.skip("no g++ here to compile the CPU kernels")
        compiler.build()
        library.load.cache_clear()
    loaded = library.load()
    if isinstance(loaded, str):
        pytest.skip(f"compiled CPU kernels: {loaded}")
    return loaded


@pytest.fixture(params=["plain", "compiled"])
def cpu_kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test on the CPU backend's plain PyTorch kernels, then on its compiled ones."""
    if request.param == "compiled":
        request.getfixturevalue("compiled_kernels")
    with op.plain_kernels() if request.param == "plain" else nullcontext():
        yield request.param


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Every buffer that torch hands out uninitialised is full of NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before)


def relative_rms(value: Tensor, wanted: Tensor) -> float:
    """RMS of the difference over the RMS of `wanted`; 0 where both are 0 throughout."""
    scale = wanted.square().mean().sqrt().item()
    error = (value - wanted).square().mean().sqrt().item()
    return error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))


@pytest.fixture(scope="session")
def assert_close() -> Callable[[dict[str, Tensor], dict[str, Tensor], float], None]:
    def check(value: dict[str, Tensor], wanted: dict[str, Tensor], bound: float) -> None:
        assert value.keys() == wanted.keys()
        errors = {name: relative_rms(value[name], wanted[name]) for name in wanted}
        assert max(errors.values()) < bound, errors

    return check
