"""How many workers fit: cores are a sum over the machine, GPUs are devices, of which a worker's share lies on one."""

from __future__ import annotations

import math

UNITS = 10_000
"""Ray counts resources in ten-thousandths and drops what is below: a third of a GPU is 0.3333, three of which fit."""


def most_by_cores(cores: float, each: float) -> int:
    """Workers of `each` cores that `cores` hold."""
    return _units(cores) // max(1, _units(each))


def most_by_gpus(gpus: float, each: float) -> int:
    """Workers of `each` GPUs that `gpus` hold: devices, or what a cluster has set aside for so many workers."""
    if each >= 1:
        return int(gpus // each)
    # A sum that was written with six digits may be a little short.
    return min(int(gpus / each + 0.01), math.ceil(gpus) * _sharers(each))


def gpu_share(each: float) -> float:
    """What a worker of `each` GPUs pays for: where three share a device, they pay for all of it."""
    return 1 / _sharers(each) if 0 < each < 1 else each


def _sharers(each: float) -> int:
    return UNITS // max(1, _units(each))


def _units(amount: float) -> int:
    return int(amount * UNITS + 1e-6)
