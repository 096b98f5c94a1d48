"""Guidance that does not fit: the network of a trial, or a dataset of which this disk tells something.

The rules themselves stand in `duchenne_jobs.config.guidance_fit`; here they are asked of every trial that may be drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from duchenne.spec.errors import Fault, Path
from duchenne.spec.trials import overlaid, possible_trials
from duchenne_jobs.config import ModelConfig
from duchenne_jobs.config.guidance_fit import LANDMARK_SCHEMES, Misfit, data_misfits, model_misfits
from duchenne_jobs.data.builtin import builtin_tasks, parse_builtin
from duchenne_jobs.data.faces.parse import CLASS_ORDERS
from duchenne_jobs.data.manifest import Manifest

if TYPE_CHECKING:
    from duchenne.spec.sweep import Sweep

_READ = ("model.guidance", "model.name", "model.labels", "model.attention", "model.encoder")


def guidance_faults(sweep: Sweep) -> Iterator[Fault]:
    """Terms that the network of a trial can't follow, or that a builtin dataset can't serve."""
    yield from _faults(sweep, model_misfits)
    yield from _comparator_faults(sweep)
    builtin = parse_builtin(sweep.data.uri)
    if builtin is not None:
        tasks = builtin_tasks(sweep.data.uri) or ()
        points, classes = (LANDMARK_SCHEMES[0], CLASS_ORDERS["bisenet"]) if builtin[0] == "faces" else (None, ())
        yield from _faults(sweep, lambda model: data_misfits(model.guidance, tasks, points, classes))


def guidance_file_faults(sweep: Sweep, manifest: Manifest) -> Iterator[Fault]:
    """Terms whose landmarks, face parsing or AUs the manifest does not list."""
    points = None if manifest.landmark_scheme is None else manifest.landmark_scheme.points
    classes = manifest.parsing_classes or ()
    yield from _faults(sweep, lambda model: data_misfits(model.guidance, manifest.tasks, points, classes))


def _comparator_faults(sweep: Sweep) -> Iterator[Fault]:
    """Terms of the configuration that is searched around, where a comparator can't follow them."""
    for position, comparator in enumerate(sweep.comparators):
        if comparator.is_baseline or any(path in comparator.changes for path in ("model", "model.guidance")):
            continue
        varied = overlaid(sweep.base, comparator.changes)
        misfit = None if varied is None else next(model_misfits(varied.model), None)
        if varied is None or misfit is None:
            continue
        name, place = varied.model.name, ("comparators", position)
        hint = f"write {{name: plain, change: {{model.name: {name}, model.guidance: []}}}} instead"
        yield Fault(place, f"the comparator takes model.guidance: {misfit.rule}", name, hint)


def _faults(sweep: Sweep, misfits: Callable[[ModelConfig], Iterator[Misfit]]) -> Iterator[Fault]:
    """Each misfit once, at the place of its term in the file."""
    seen: set[Path] = set()
    for config, drawn in possible_trials(sweep, _READ):
        terms = _place(drawn)
        for misfit in misfits(config.model):
            place = (*terms, *misfit.path)
            if place not in seen:
                yield Fault(place, misfit.rule, misfit.value, misfit.hint)
            seen.add(place)


def _place(drawn: Mapping[str, Path]) -> Path:
    """Where in the file a trial has its terms from."""
    if "model" in drawn:
        return (*drawn["model"], "guidance")
    return drawn.get("model.guidance", ("model", "guidance"))
