"""The multi-order recurrence beside its peers: forward + backward time, peak memory, and the floor set by sgemm.

    python benchmarks/recurrence.py                        all shapes, on the GPU where there is one
    python benchmarks/recurrence.py --shapes toy bp4d      some of them
    python benchmarks/recurrence.py --write                also writes benchmarks/results/recurrence_DEVICE_DATE.txt

Every result is compared with the plain float64 backend first; a peer that disagrees gets the word "wrong", not a time.
Peers run in turn, round by round, so that a busy machine slows all of them. Shapes: T tasks, M orders, B batch, H
hidden.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from duchenne_kernels import GRUCells, cpu_kernels, explain, order_log_likelihood
from duchenne_kernels.recurrence.api import Backend
from duchenne_kernels.recurrence.op import plain_kernels
from duchenne_kernels.recurrence.trie import build_trie

RESULTS = Path(__file__).parent / "results"
SECONDS_A_PEER = 3.0
BOUND = 1e-5  # relative RMS against float64


@dataclass(frozen=True)
class Shape:
    """One problem size: M random orders, or all of them where M = T!."""

    name: str
    tasks: int
    count: int
    batch: int
    hidden: int = 64

    @property
    def title(self) -> str:
        return f"{self.name} (T={self.tasks}, M={self.count}, B={self.batch}, H={self.hidden})"


SHAPES = (
    Shape("toy", 5, 120, 64),
    Shape("bp4d", 12, 128, 16),
    Shape("disfa", 8, 128, 16),
    Shape("celeba", 5, 120, 32),
    Shape("wide", 12, 512, 16),
    Shape("large", 12, 512, 64),
)


@dataclass(frozen=True)
class Inputs:
    hidden: Tensor  # (B, H)
    labels: Tensor  # (B, T), hard
    orders: Tensor  # (M, T)
    cells: GRUCells


def draw(shape: Shape, device: str) -> Inputs:
    torch.manual_seed(0)
    cells = GRUCells(shape.tasks, shape.hidden, device=device)
    if shape.count == math.factorial(shape.tasks):
        orders = torch.tensor(list(itertools.permutations(range(shape.tasks))))
    else:
        orders = torch.stack([torch.randperm(shape.tasks) for _ in range(shape.count)])
    hidden = torch.randn(shape.batch, shape.hidden, device=device, requires_grad=True)
    labels = (torch.rand(shape.batch, shape.tasks, device=device) > 0.5).float()
    return Inputs(hidden, labels, orders.to(device), cells)


Likelihood = Callable[[Inputs], Tensor]


def ours(inputs: Inputs, backend: Backend = "auto") -> Tensor:
    return order_log_likelihood(inputs.hidden, inputs.labels, inputs.orders, inputs.cells, backend=backend)


def _step(state: Tensor, fed: Tensor, targets: Tensor, gathered: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """All M orders by one step: state (M, B, H), fed and targets (M, B), parameters gathered by task, (M, ...)."""
    weight_ih, weight_hh, bias_ih, bias_hh, weight_out, bias_out = gathered
    from_state = torch.baddbmm(bias_hh.unsqueeze(1), state, weight_hh.transpose(1, 2))
    from_input = torch.addcmul(bias_ih.unsqueeze(1), fed.unsqueeze(2), weight_ih.unsqueeze(1))
    state_r, state_z, state_n = from_state.chunk(3, dim=2)
    input_r, input_z, input_n = from_input.chunk(3, dim=2)
    candidate = torch.tanh(input_n + torch.sigmoid(input_r + state_r) * state_n)
    state = torch.lerp(candidate, state, torch.sigmoid(input_z + state_z))
    logits = torch.bmm(state, weight_out.unsqueeze(2)).squeeze(2) + bias_out.unsqueeze(1)
    return state, targets * logits - functional.softplus(logits)


def gather_bmm(inputs: Inputs, step: Callable[..., tuple[Tensor, Tensor]] = _step) -> Tensor:
    count, tasks = inputs.orders.shape
    state = inputs.hidden.expand(count, -1, -1)
    fed = inputs.hidden.new_zeros(count, inputs.hidden.shape[0])
    terms = []
    for position in range(tasks):
        task = inputs.orders[:, position]
        targets = inputs.labels[:, task].T
        # Gathered outside the compiled step: inside it, the transposed gather's backward writes out of bounds on a CPU.
        gathered = tuple(parameter[task] for parameter in inputs.cells.parameters())
        state, term = step(state, fed, targets, gathered)
        terms.append(term)
        fed = targets
    return torch.stack(terms).sum(dim=0).T


_compiled_step = torch.compile(_step, dynamic=False)


def gather_bmm_compiled(inputs: Inputs) -> Tensor:
    return gather_bmm(inputs, _compiled_step)


def loop_over_cells(inputs: Inputs) -> Tensor:
    """One call of PyTorch's fused GRU cell for each order and step."""
    cells = inputs.cells
    parts = [
        (ih.unsqueeze(1), hh, bi, bh, out, bias)
        for ih, hh, bi, bh, out, bias in zip(*(parameter.unbind(0) for parameter in cells.parameters()), strict=True)
    ]
    columns = inputs.labels.unsqueeze(2).unbind(1)
    results = []
    for order in inputs.orders.tolist():
        state, fed, total = inputs.hidden, torch.zeros_like(columns[0]), torch.zeros_like(inputs.hidden[:, 0])
        for task in order:
            weight_ih, weight_hh, bias_ih, bias_hh, weight_out, bias_out = parts[task]
            state = torch.gru_cell(fed, state, weight_ih, weight_hh, bias_ih, bias_hh)
            logits = state @ weight_out + bias_out
            fed = columns[task]
            total = total + fed[:, 0] * logits - functional.softplus(logits)
        results.append(total)
    return torch.stack(results, dim=1)


OURS, OURS_PLAIN, COMPILED = "duchenne_kernels", "duchenne_kernels, plain PyTorch", "gather + bmm, torch.compile"
OURS_TRITON = "duchenne_kernels, Triton"
PEERS: dict[str, Likelihood] = {
    OURS: ours,
    OURS_TRITON: partial(ours, backend="triton"),
    OURS_PLAIN: partial(ours, backend="cpu"),
    "gather + bmm": gather_bmm,
    COMPILED: gather_bmm_compiled,
    "loop over nn.GRUCell": loop_over_cells,
}


def gradients(inputs: Inputs, likelihood: Tensor) -> list[Tensor]:
    """Backward of a mixture's loss (eq. 2.27 with equal weights)."""
    loss = -torch.logsumexp(likelihood, dim=1).mean()
    return list(torch.autograd.grad(loss, [inputs.hidden, *inputs.cells.parameters()]))


def step(name: str, inputs: Inputs) -> list[Tensor]:
    """The likelihood and the gradients by one peer."""
    with plain_kernels() if name == OURS_PLAIN else nullcontext():
        likelihood = PEERS[name](inputs)
        return [likelihood.detach(), *gradients(inputs, likelihood)]


def truth(inputs: Inputs) -> list[Tensor]:
    cells = GRUCells(inputs.cells.num_tasks, inputs.cells.hidden_size, dtype=torch.float64)
    cells.load_state_dict({name: value.cpu() for name, value in inputs.cells.state_dict().items()})
    hidden = inputs.hidden.detach().cpu().double().requires_grad_()
    wide = Inputs(hidden, inputs.labels.cpu().double(), inputs.orders.cpu(), cells)
    likelihood = order_log_likelihood(wide.hidden, wide.labels, wide.orders, cells, backend="cpu")
    return [likelihood.detach(), *gradients(wide, likelihood)]


def disagreement(name: str, inputs: Inputs, wanted: list[Tensor]) -> float:
    """Largest relative RMS over the likelihood and every gradient."""
    found = step(name, inputs)
    errors = [
        ((value.cpu().double() - right).square().mean() / right.square().mean()).sqrt().item()
        for value, right in zip(found, wanted, strict=True)
    ]
    return max(errors)


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], device: str) -> float:
    synchronise(device)
    begin = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - begin


def median_times(calls: dict[str, Callable[[], object]], device: str) -> dict[str, float]:
    """Median seconds of each call, taken in turns; a slow one has fewer turns."""
    times: dict[str, list[float]] = {name: [seconds(call, device)] for name, call in calls.items()}
    for _ in range(60):
        for name, call in calls.items():
            if len(times[name]) < 3 or sum(times[name]) < SECONDS_A_PEER:
                times[name].append(seconds(call, device))
    return {name: statistics.median(values) for name, values in times.items()}


def sgemm_speed(device: str) -> float:
    """FLOPs a second of the matmul that a step would be, (rows, H) x (H, 3H), at the best of several sizes."""
    best = 0.0
    for rows in (1024, 4096, 16384, 65536):
        left, right = torch.randn(rows, 64, device=device), torch.randn(64, 192, device=device)
        out = torch.empty(rows, 192, device=device)
        multiply = partial(torch.mm, left, right, out=out)
        taken = statistics.median(seconds(multiply, device) for _ in range(30))
        best = max(best, 2 * rows * 64 * 192 / taken)
    return best


def floor_seconds(shape: Shape, inputs: Inputs, speed: float) -> float:
    """3 x the forward FLOPs of the distinct prefixes (forward, input and weight gradients) at sgemm's speed."""
    rows = build_trie(inputs.orders).num_nodes * shape.batch
    return 3 * rows * 2 * 3 * shape.hidden**2 / speed


def sequence_ceiling(shape: Shape, device: str) -> Callable[[], object]:
    """`nn.GRU` (cuDNN's kernel on a GPU) on as many rows and steps, one order and one set of weights."""
    gru = nn.GRU(1, shape.hidden, device=device)
    fed = torch.rand(shape.tasks, shape.count * shape.batch, 1, device=device)
    state = torch.randn(1, shape.count * shape.batch, shape.hidden, device=device, requires_grad=True)

    def call() -> object:
        return torch.autograd.grad(gru(fed, state)[0].sum(), [state, *gru.parameters()])

    return call


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """`call` recorded as a CUDA graph, without the launches' cost on the CPU."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peak_bytes(name: str, shape: Shape, device: str) -> int:
    """Peak memory of one forward + backward above what was held before it."""
    inputs = draw(shape, device)
    small = draw(Shape("small", shape.tasks, 2, 2), device)
    if name != COMPILED:
        step(name, small)  # thread pools and libraries
    else:
        step(name, inputs)  # the compiler itself
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(name, inputs)
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status_kib("VmRSS")
    step(name, inputs)
    return (_status_kib("VmHWM") - before) * 1024


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def peak_in_a_process(name: str, shape: Shape, device: str) -> int | None:
    """`peak_bytes` in a process of its own, so that no peer profits from another's freed memory."""
    if device == "cpu" and not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, __file__, "--device", device, "--memory", name, "--shapes", shape.name]
    # A compiled peer must not find its memory in the allocator's cache: freed blocks go back to the system.
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return int(done.stdout.split()[-1])


def report(shape: Shape, device: str, peers: list[str], memory: bool) -> str:
    inputs = draw(shape, device)
    wanted = truth(inputs)
    reasons = explain(inputs.hidden, inputs.orders, inputs.cells)
    chosen = [name for name, reason in reasons.items() if reason is None][-1]  # by "auto"
    peers = [name for name in peers if name != OURS_TRITON or reasons["triton"] is None]
    errors = {name: disagreement(name, inputs, wanted) for name in peers}
    right = [name for name in peers if errors[name] < BOUND]
    calls: dict[str, Callable[[], object]] = {name: partial(step, name, inputs) for name in right}
    if device == "cuda":
        graphed = [name for name in right if name != "loop over nn.GRUCell"]
        calls |= {f"{name}, CUDA graph": captured(partial(step, name, inputs)) for name in graphed}
    calls["nn.GRU, one order, same rows and steps"] = sequence_ceiling(shape, device)
    times = median_times(calls, device)
    floor = floor_seconds(shape, inputs, sgemm_speed(device))
    lines = [
        f"{shape.title}, backend {chosen}",
        f"{'':46s}{'ms':>9s}{'x ours':>9s}{'x floor':>9s}{'peak MiB':>10s}{'rel. RMS':>10s}",
    ]
    for name in [*peers, *[name for name in times if name not in peers]]:
        if name not in times:
            lines.append(f"{name:46s}{'wrong':>9s}{'':28s}{errors[name]:10.1e}")
            continue
        peak = peak_in_a_process(name, shape, device) if memory and name in PEERS else None
        lines.append(
            f"{name:46s}{times[name] * 1e3:9.2f}{times[name] / times.get(OURS, float('nan')):9.2f}"
            f"{times[name] / floor:9.2f}{'' if peak is None else f'{peak / 2**20:.1f}':>10s}"
            f"{'' if name not in errors else f'{errors[name]:.1e}':>10s}"
        )
    lines.append(f"{'floor: 3 x forward FLOPs of the prefixes':46s}{floor * 1e3:9.2f}")
    return "\n".join(lines)


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def header(device: str) -> str:
    changed = _git("status", "--porcelain", "--", "../kernels", "recurrence.py")
    state = (_git("rev-parse", "--short", "HEAD") or "none yet") + (" with uncommitted changes" if changed else "")
    processor = f"{_processor()}, {torch.get_num_threads()} threads"
    hardware = torch.cuda.get_device_name() if device == "cuda" else processor
    kernels = "" if device == "cuda" else f"; CPU kernels: {cpu_kernels()}"
    return (
        f"Multi-order recurrence, forward + backward, float32, median. {datetime.date.today().isoformat()}\n"
        f"{hardware}; torch {torch.__version__}{kernels}; commit {state}; "
        f"sgemm {sgemm_speed(device) / 1e9:.0f} GFLOP/s; load {os.getloadavg()[0]:.2f}\n"
        "x ours: time over ours; x floor: time over the floor; peak: above the inputs and parameters"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{names[0] if names else platform.processor()} ({capability})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=[shape.name for shape in SHAPES], default=None)
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (torch's default: the cores)")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--write", action="store_true", help="write the report under benchmarks/results")
    parser.add_argument("--memory", metavar="PEER", choices=list(PEERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    shapes = [shape for shape in SHAPES if options.shapes is None or shape.name in options.shapes]
    if options.memory:
        print(peak_bytes(options.memory, shapes[0], options.device))
        return
    parts = [header(options.device)]
    print(parts[0], flush=True)
    for shape in shapes:
        parts.append(report(shape, options.device, options.peers, not options.no_memory))
        print(f"\n{parts[-1]}", flush=True)
    if options.write:
        target = RESULTS / f"recurrence_{options.device}_{datetime.date.today().isoformat()}.txt"
        target.parent.mkdir(exist_ok=True)
        target.write_text("\n\n".join(parts) + "\n")
        print(f"\nwritten: {target}")


if __name__ == "__main__":
    main()
