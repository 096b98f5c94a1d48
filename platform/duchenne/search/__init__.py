"""The search: which configurations are tried, how far each one runs, and which one is selected.

Belongs here: Ray Tune, its searchers and schedulers, and the selection. Does not belong here: running a fold
(`duchenne.pool`, `duchenne_jobs`) or recording one (`duchenne.records`).
"""

from duchenne.search.jobs import SweepContext
from duchenne.search.selection import NothingToSelect, Selection, select
from duchenne.search.tuner import run_search

__all__ = ["NothingToSelect", "Selection", "SweepContext", "run_search", "select"]
