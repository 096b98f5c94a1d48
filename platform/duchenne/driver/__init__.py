"""Drives one sweep from its file to its entries: data, lock, pool, search, evaluation, records.

Belongs here: the order of the steps and what ends a sweep. Does not belong here: any step's own work, and anything that
a person looks at (`duchenne.cli`).
"""

from duchenne.driver.drive import SweepEnd, resume_sweep, run_sweep
from duchenne.driver.progress import Observer, Progress

__all__ = ["Observer", "Progress", "SweepEnd", "resume_sweep", "run_sweep"]
