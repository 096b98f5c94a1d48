"""Objects that Ray Tune wants to pickle but that live in the driver alone: they hold database connections."""

from __future__ import annotations

import weakref
from typing import Any

_ALIVE: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class DriverOnly:
    """Pickles as a reference that is good in this process while the object lives, and None anywhere else.

    Tune pickles its tuner for `Tuner.restore`, which this project does not use: a sweep resumes from its records.
    """

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        _ALIVE[id(self)] = self
        return _find, (id(self),)


def _find(key: int) -> Any:
    return _ALIVE.get(key)
