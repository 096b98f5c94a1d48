"""The search: which configurations are tried, how far each one runs, and which one is selected.

Belongs here: Ray Tune, its searchers and schedulers, and the selection. Does not belong here: running a fold
(`duchenne.pool`, `duchenne_jobs`) or recording one (`duchenne.records`). What decides (`judge`, `racing`, `halving`) is
pure, so that a simulation plays the same decisions; what needs Ray is `duchenne.search.tuner` and what it imports.
"""

from duchenne.search.jobs import SweepContext
from duchenne.search.selection import NothingToSelect, Selection, select

__all__ = ["NothingToSelect", "Selection", "SweepContext", "select"]
