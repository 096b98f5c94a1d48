"""Virtual time: what waits is woken in the order of its moments, and nothing waits in earnest."""

from __future__ import annotations

import asyncio
import time

import pytest

from duchenne.simulation.clock import Clocks, VirtualLoop, at_once, play


def test_an_hour_passes_in_no_time_and_in_order() -> None:
    loop = VirtualLoop()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, loop.time()))

    async def sleepers() -> None:
        await asyncio.gather(sleeper("late", 3600.0), sleeper("early", 0.5), sleeper("mid", 60.0))

    began = time.monotonic()
    play(loop, sleepers())
    assert woken == [("early", 0.5), ("mid", 60.0), ("late", 3600.0)]
    assert time.monotonic() - began < 60
    loop.close()


def test_waits_run_out_at_their_moment() -> None:
    loop = VirtualLoop()

    async def waits() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 5.0)
        return loop.time()

    assert play(loop, waits()) == 5.0
    loop.close()


def test_whoever_waits_for_nothing_is_told() -> None:
    loop = VirtualLoop()

    async def forever() -> None:
        await loop.create_future()

    with pytest.raises(RuntimeError, match="everybody in it waits for somebody else"):
        play(loop, forever())
    loop.close()


def test_records_may_be_wrong_about_the_time() -> None:
    loop = VirtualLoop()
    clocks = Clocks(loop)
    right = clocks.records()
    clocks.skew = -5.0
    assert (clocks.records() - right).total_seconds() == -5.0
    assert clocks.seconds() == 0.0
    loop.close()


def test_a_call_that_waits_is_no_answer_at_once() -> None:
    async def prompt() -> int:
        return 7

    async def slow() -> None:
        await asyncio.sleep(1.0)

    assert at_once(prompt()) == 7
    loop = VirtualLoop()

    async def ask() -> None:
        with pytest.raises(RuntimeError, match="must answer at once"):
            at_once(slow())

    play(loop, ask())
    loop.close()
