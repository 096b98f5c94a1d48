"""Ranks: the processes that train one network together. Rank 0 speaks for them; the others follow what it decides.

What one of them raises is raised on all of them at the next agreement, so that none waits for another in vain. What
kills a process is seen by the others as an error of the next thing that they do together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from duchenne_jobs.models.batch_part import BatchPart
from duchenne_jobs.training.job import JobFailed, JobStopped

Answer = TypeVar("Answer")
_WELL, _STOPPED, _RAISED = range(3)


class RankError(RuntimeError):
    """A rank raised, and all of them have heard of it; the message says what."""


@dataclass(frozen=True)
class Ranks:
    """The group that this process belongs to; by default one of its own.

    Attributes:
        rank: of this process, 0 to `size` - 1.
        size: how many train together.
        data: process group of gradients and sums, on the training device.
        control: process group of decisions, on the CPU.
    """

    rank: int = 0
    size: int = 1
    data: Any = None
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this process leases, reports and writes."""
        return self.rank == 0

    def part(self, rows: int) -> BatchPart | None:
        """This rank's part of a batch, as even as can be; None where each takes all of it.

        That is so for a group of one, and for a batch of fewer rows than ranks: nobody is left without a row.
        """
        if self.size == 1 or rows < self.size:
            return None
        return BatchPart(self.rank * rows // self.size, (self.rank + 1) * rows // self.size, rows)

    def add(self, values: Tensor) -> Tensor:
        """Sum over the ranks, in place."""
        if self.size > 1:
            dist.all_reduce(values, group=self.data)
        return values

    def any(self, here: bool, error: Exception | None = None) -> bool:
        """Whether it is so on any rank; what one brings as `error` is raised on all of them instead."""
        if self.size == 1:
            if error is not None:
                raise error
            return here
        code = _WELL if error is None else _STOPPED if isinstance(error, JobStopped) else _RAISED
        said = torch.tensor([code, int(here)])
        dist.all_reduce(said, op=dist.ReduceOp.MAX, group=self.control)
        worst = int(said[0])
        if worst == _STOPPED:
            raise JobStopped
        if worst == _RAISED:
            self._raise(error)
        return bool(said[1])

    def each(self, action: Callable[..., Answer], *arguments: Any) -> Answer:
        """Do it on every rank. What one of them raises is raised on all."""
        answer, error = _tried(action, *arguments)
        self.any(False, error)
        return answer  # type: ignore[return-value] # no error: there is an answer

    def first(self, action: Callable[..., Answer], *arguments: Any) -> Answer | None:
        """Do it on rank 0 alone; the others get None. What it raises is raised on all."""
        answer, error = _tried(action, *arguments) if self.is_first else (None, None)
        self.any(False, error)
        return answer

    def share(self, data: bytes | None) -> bytes | None:
        """What rank 0 has, on all of them; the argument of the others is not looked at."""
        if self.size == 1:
            return data
        length = torch.tensor([-1 if data is None or not self.is_first else len(data)])
        dist.broadcast(length, group=self.control, group_src=0)
        if int(length) <= 0:
            return None if int(length) < 0 else b""
        content = (
            torch.frombuffer(bytearray(data or b""), dtype=torch.uint8)
            if self.is_first
            else torch.empty(int(length), dtype=torch.uint8)
        )
        dist.broadcast(content, group=self.control, group_src=0)
        return data if self.is_first else content.numpy().tobytes()

    def gather(self, data: bytes) -> list[bytes]:
        """What each rank has, by rank, on all of them."""
        if self.size == 1:
            return [data]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(data)]), group=self.control)
        longest = max(1, *(int(length) for length in lengths))
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else mine[:0]
        contents = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(contents, mine, group=self.control)
        return [content[: int(length)].numpy().tobytes() for content, length in zip(contents, lengths, strict=True)]

    def _raise(self, mine: Exception | None) -> None:
        """Raise on every rank what the first one raised; that a job can't succeed counts before anything else."""
        kind = b"2" if isinstance(mine, JobFailed) else b"0" if mine is None or isinstance(mine, JobStopped) else b"1"
        told = self.gather(kind + (b"" if mine is None else _described(mine).encode()))
        worst = max(said[:1] for said in told)
        rank = next(place for place, said in enumerate(told) if said[:1] == worst)
        said = told[rank][1:].decode()
        if worst == b"2":
            raise JobFailed(said) from mine
        raise RankError(f"rank {rank} of {self.size}: {said}") from mine


ALONE = Ranks()


def _tried(action: Callable[..., Answer], *arguments: Any) -> tuple[Answer | None, Exception | None]:
    try:
        return action(*arguments), None
    except Exception as error:
        return None, error  # raised at the agreement that follows, here and on the other ranks


def _described(error: Exception) -> str:
    if isinstance(error, JobFailed):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no details'}"
