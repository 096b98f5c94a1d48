"""`synthesise`: a whole drawn dataset in the raw folder format of another, subjects side by side."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.faces.parse import CLASSES_FILE
from duchenne_jobs.data.processes import obey_parent
from duchenne_jobs.data.staging import staging_folder
from duchenne_jobs.data.synth.anatomy import make_subject
from duchenne_jobs.data.synth.options import SynthOptions
from duchenne_jobs.data.synth.paint import CLASSES
from duchenne_jobs.data.synth.write_bp4d import write_bp4d_subject
from duchenne_jobs.data.synth.write_disfa import write_disfa_subject

_WRITERS: dict[str, Callable[[SynthOptions, int, Path, Callable[[], None]], None]] = {
    "disfa": write_disfa_subject,
    "bp4d": write_bp4d_subject,
}
ABOUT_FILE = "synthetic.json"
_POLL_SECONDS = 0.25


def synthesise(
    options: SynthOptions,
    destination: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw a dataset into `destination`, which appears complete in one rename.

    Args:
        workers: processes; default: one a CPU that this process may use. The bytes do not depend on it. More than one
            needs `if __name__ == "__main__":` in a script of your own.
        progress: called with (faces drawn, faces in all).

    Raises:
        DatasetError: the destination holds files or can't be written, or videos of an odd size were asked for.
    """
    target = Path(destination).expanduser().absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise DatasetError(f"{target} must not exist or be an empty folder; choose another place, or remove it first")
    if options.like == "disfa" and options.size % 2:
        raise DatasetError(f"size must be even for a video, but got {options.size}; try {options.size + 1}")
    count = options.subject_count
    meter = _Meter(count * options.frames, progress)
    try:
        with staging_folder(target.parent, f".{target.name}.partial-") as staging:
            root = staging / target.name
            root.mkdir()
            _draw_all(options, root, min(count, workers or len(os.sched_getaffinity(0))), meter)
            _write_about(options, root)
            root.rename(target)
    except OSError as error:
        raise DatasetError(
            f"cannot write {target}: {error.strerror or error}; make room or choose another place"
        ) from error
    return target


class _Meter:
    """Tells how many faces are drawn."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def one_more(self) -> None:
        self.reach(self._done + 1)

    def reach(self, done: int) -> None:
        self._done = done
        if self._progress is not None:
            self._progress(done, self._total)


def _draw_all(options: SynthOptions, root: Path, workers: int, meter: _Meter) -> None:
    if workers == 1:
        for index in range(options.subject_count):
            _WRITERS[options.like](options, index, root, meter.one_more)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads
    drawn, stop = context.Value("q", 0), context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(drawn, stop))
    try:
        waiting = {pool.submit(_draw, options, index, root) for index in range(options.subject_count)}
        while waiting:
            done, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
            meter.reach(drawn.value)
    except BrokenProcessPool as error:
        raise DatasetError(
            "a process that drew faces was killed, perhaps for want of memory; make room and try again"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


# In each process of the pool: how many faces all of them drew, and whether to stop.
_drawn: Any = None
_stop: Any = None


class _Stopped(Exception):  # noqa: N818 - no error: another subject's failure or Ctrl-C ends this one
    """Nobody waits for the faces any more."""


def _begin(drawn: Any, stop: Any) -> None:
    """In each process: what the parent counts faces with, whether to stop; none needs threads of its own."""
    import cv2

    global _drawn, _stop
    _drawn, _stop = drawn, stop
    cv2.setNumThreads(1)
    obey_parent()


def _draw(options: SynthOptions, index: int, root: Path) -> None:
    def advance() -> None:
        if _stop.is_set():
            raise _Stopped
        with _drawn.get_lock():
            _drawn.value += 1

    _WRITERS[options.like](options, index, root, advance)


def _write_about(options: SynthOptions, root: Path) -> None:
    """The parsing classes, and what a reader of the folder should know: it is drawn, how, and who looks how at rest."""
    (root / "parsing" / CLASSES_FILE).write_text("\n".join(CLASSES) + "\n", encoding="ascii")
    people = [make_subject(options.like, index, options.seed) for index in range(options.subject_count)]
    about = {
        "note": "Drawn by `duchenne data synth`: no people are recorded. Apache-2.0.",
        "options": asdict(options),
        "resting_bias": {person.identifier: person.bias for person in people},
    }
    (root / ABOUT_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
