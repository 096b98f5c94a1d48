"""Virtual time: an event loop that does not wait, and the clocks of a simulated sweep."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
Answer = TypeVar("Answer")


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio on virtual seconds: what waits is woken in the order of its moments, and no real time passes.

    Whatever runs in it, `asyncio.sleep` and `asyncio.wait_for` included, runs as it would on a machine where nothing
    takes longer than it should. Nothing ever arrives from outside, so nobody asks the machine for it.
    """

    _ready: deque[asyncio.Handle]  # asyncio's: what is to be called now

    def __init__(self) -> None:
        self._virtual = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        super().__init__()

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def call_at(  # type: ignore[override]  # asyncio's names the arguments' types one by one
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, in a heap of plain tuples: hundreds of workers have a timer or two each."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        return self.call_at(self._virtual + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """One round of asyncio's loop: call what is to be called now or, where nothing is, the next timer."""
        ready = self._ready
        if not ready:
            ready.append(self._leap())
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _leap(self) -> asyncio.TimerHandle:
        """Let the time pass until the next timer."""
        while self._timers:
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._virtual = max(self._virtual, when)
                return timer
        raise RuntimeError(
            "a simulated sweep must go on until it has ended, but everybody in it waits for somebody else; this is a "
            "fault of Duchenne: report it with the sweep file and the seed"
        )


class Clocks:
    """The clocks of one sweep.

    Attributes:
        skew: seconds by which the records' clock is wrong now.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.skew = 0.0

    def seconds(self) -> float:
        """True seconds: what jobs are measured and billed by."""
        return self._loop.time()

    def records(self) -> datetime:
        """The time by which locks and leases fall due."""
        return BEGIN + timedelta(seconds=self._loop.time() + self.skew)


def at_once(asked: Awaitable[Answer]) -> Answer:
    """The answer of a call that never waits.

    Raises:
        RuntimeError: it does wait.
    """
    steps = asked.__await__()
    try:
        next(steps)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    raise RuntimeError(f"a call must answer at once where nobody can wait for it, but {asked} waits; await it")


def play(loop: VirtualLoop, sweep: Awaitable[Answer]) -> Answer:
    """Run `sweep` to its end on virtual time."""
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(sweep)
    finally:
        asyncio.set_event_loop(None)
