"""How a worker process of a pool belongs to the process that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import Any


def obey_parent() -> None:
    """Called once in a worker: Ctrl-C is the parent's to hear, and a parent that was killed takes its workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
