"""SIGTERM, which a pod's end, a batch system or `kill` sends, ends a driver as Ctrl-C does: the records say so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = "ended by SIGTERM: its pod or machine goes away, or somebody ended the process"


@contextmanager
def sigterm_interrupts() -> Iterator[threading.Event]:
    """For the time of the block, the first SIGTERM is a KeyboardInterrupt, and sets the event that is yielded.

    Further ones change nothing: the driver is on its way. On another thread than the main one nothing is heard.
    """
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return

    def hear(_number: int, _frame: FrameType | None) -> None:
        if not told.is_set():
            told.set()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, hear)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
