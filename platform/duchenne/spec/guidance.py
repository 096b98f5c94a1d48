"""Guidance that does not fit: the network of a trial, or a dataset of which this disk tells something.

The rules themselves stand in `duchenne_jobs.config.guidance_fit`; here they are asked of every trial that may be drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING

from duchenne.spec.errors import Fault, Path
from duchenne.spec.space import MAX_COMBINATIONS, ends
from duchenne.spec.trials import overlay
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
        try:
            model = overlay(sweep.base, comparator.changes).model
        except (ValueError, TypeError):
            continue  # the comparators' own rules say what is wrong with it
        for misfit in model_misfits(model):
            hint = f"write {{name: plain, change: {{model.name: {model.name}, model.guidance: []}}}} instead"
            yield Fault(
                ("comparators", position), f"the comparator takes model.guidance: {misfit.rule}", model.name, hint
            )
            break


def _faults(sweep: Sweep, misfits: Callable[[ModelConfig], Iterator[Misfit]]) -> Iterator[Fault]:
    """Each misfit once, at the place of its term in the file."""
    seen: set[Path] = set()
    for model, guidance_place in _models(sweep):
        for misfit in misfits(model):
            place = (*guidance_place, *misfit.path)
            if place not in seen:
                yield Fault(place, misfit.rule, misfit.value, misfit.hint)
            seen.add(place)


def _models(sweep: Sweep) -> Iterator[tuple[ModelConfig, Path]]:
    """The models that trials may have, as far as guidance is concerned, and where in the file theirs stands.

    At most MAX_COMBINATIONS of them: a network asks again when it is built.
    """
    space = sweep.search.space
    drawn = [path for path in space if path == "model" or path.startswith(_READ)]
    for count, chosen in enumerate(product(*(ends(space[path]) for path in drawn))):
        if count == MAX_COMBINATIONS:
            return
        place: Path = ("model", "guidance")
        for path, (within, _) in zip(drawn, chosen, strict=True):
            if path in ("model", "model.guidance"):
                place = ("search", "space", path, *within, *(("guidance",) if path == "model" else ()))
        try:
            yield (
                overlay(sweep.base, {path: value for path, (_, value) in zip(drawn, chosen, strict=True)}).model,
                place,
            )
        except (ValueError, TypeError):
            continue  # the space's own rules say what is wrong with this draw
