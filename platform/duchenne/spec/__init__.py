"""The sweep file: its models, its loader, and what a trial makes of it.

Belongs here: what a user may write and how it is refused. Does not belong here: what a sweep costs (`duchenne.plan`)
or how it runs. Imports neither torch nor Ray, so that `duchenne validate` answers at once.
"""

from duchenne.spec.comparators import COMPARATOR_NAMES, Comparator
from duchenne.spec.datasets import notes
from duchenne.spec.errors import Problem, SpecError
from duchenne.spec.loading import load_sweep, load_sweep_text
from duchenne.spec.search import Asha, Choice, Fifo, Grid, LogUniform, MedianStopping, RandInt, Uniform, rungs
from duchenne.spec.sweep import Sweep
from duchenne.spec.trials import apply, overlay

__all__ = [
    "COMPARATOR_NAMES",
    "Asha",
    "Choice",
    "Comparator",
    "Fifo",
    "Grid",
    "LogUniform",
    "MedianStopping",
    "Problem",
    "RandInt",
    "SpecError",
    "Sweep",
    "Uniform",
    "apply",
    "load_sweep",
    "load_sweep_text",
    "notes",
    "overlay",
    "rungs",
]
