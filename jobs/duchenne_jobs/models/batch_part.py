"""A batch that several ranks share: each has a part of its rows, and all see what one process would have seen.

What is drawn for the rows of a batch is drawn for all of them on every rank, which keeps its part; what is measured of
a batch is measured over all ranks. So a network takes the same steps however many ranks train it.

Shapes: B rows of the whole batch, b of this rank's part, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class BatchPart:
    """The rows `start` to `stop` of a batch of `whole` rows, of which other ranks have the others."""

    start: int
    stop: int
    whole: int

    def cut(self, values: Tensor, dim: int = 0) -> Tensor:
        """This part of what is there for the whole batch."""
        return values.narrow(dim, self.start, self.stop - self.start)


_PART: ContextVar[BatchPart | None] = ContextVar("batch_part", default=None)


@contextmanager
def part_of_batch(part: BatchPart | None) -> Iterator[None]:
    """For the time of the block the rows that a network sees are this part; None: they are a whole batch."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


def drawn_for_rows(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """`draw(rows)`, or this rank's part of what is drawn for the whole batch; `draw` takes a number of rows.

    Raises:
        ValueError: these are not the rows of the part.
    """
    part = _PART.get()
    if part is None:
        return draw(rows)
    if rows != part.stop - part.start:
        raise ValueError(f"a part of a batch must keep its {part.stop - part.start} rows, but got {rows}")
    return part.cut(draw(part.whole))


class _RowDropout(nn.Dropout):
    """Dropout whose draws don't depend on how a batch is split; alone it is `nn.Dropout`, number for number."""

    def _noise_shape(self, values: Tensor) -> tuple[int, ...]:
        return tuple(values.shape[1:])

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return values

        def draw(rows: int) -> Tensor:
            kept = values.new_empty((rows, *self._noise_shape(values))).bernoulli_(1 - self.p)
            return kept.div_(1 - self.p) if self.p < 1 else kept

        return values * drawn_for_rows(draw, len(values))


class _RowDropout2d(_RowDropout):
    """Whole channels at a time."""

    def _noise_shape(self, values: Tensor) -> tuple[int, ...]:
        return (values.shape[1], 1, 1)


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over the ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class _BatchNormOverRanks(_BatchNorm):
    """Batch normalisation by the moments of the whole batch, on a CPU too, which `nn.SyncBatchNorm` refuses."""

    group: Any

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        part = _PART.get()
        if part is None or not self.training:
            return super().forward(input)
        over = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        count = part.whole * (input.numel() // (input.shape[0] * input.shape[1]))
        mean = _SumOverRanks.apply(input.sum(over), self.group) / count  # (C,)
        centred = input - mean.view(shape)
        variance = _SumOverRanks.apply(centred.square().sum(over), self.group) / count
        self._remember(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        scaled: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        return scaled if self.weight is None else scaled * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def draw_by_row(network: nn.Module) -> None:
    """Let every dropout of `network` draw for whole batches; its parameters and their names stay."""
    for parent in network.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, _RowDropout(child.p).train(child.training))
            elif type(child) is nn.Dropout2d:
                setattr(parent, name, _RowDropout2d(child.p).train(child.training))


def normalise_over_ranks(network: nn.Module, group: Any) -> None:
    """Let every batch normalisation of `network` measure whole batches; its parameters and their names stay."""
    for parent in network.modules():
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, _BatchNormOverRanks):
                shared = _BatchNormOverRanks(
                    child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
                )
                shared.weight, shared.bias = child.weight, child.bias
                for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                    setattr(shared, buffer, getattr(child, buffer))
                shared.group = group
                setattr(parent, name, shared.train(child.training))
