"""Where networks look for each task: attribution maps on faces (Tallec 2023, eq. 2.41 and fig. 2.11).

Shapes: T tasks, H and W pixels of the face, h and w of the maps (those of the face, or of a layer's features).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from duchenne.figures.source import FloatArray, NoData
from duchenne.figures.style import INK, method_name, new_figure, plural, shortened, styled

TILE = 0.9
"""Height of a face, in inches."""

PERCENTILE = 99.0
"""Of the absolute values of a map, which its strongest colour stands for: one bright pixel must not hide the rest."""


@styled
def attribution(face: FloatArray, maps: Mapping[str, FloatArray], tasks: Sequence[str], footer: str) -> Figure:
    """A row a method, a column a task: the map's strength over the face.

    Args:
        face: (H, W, 3) in [0, 1]: an image, or the mean of aligned ones.
        maps: method -> (T, h, w), from `duchenne_jobs.models.attribution.attribution_maps`, a mean over images or one.
        footer: where the numbers come from.

    Raises:
        NoData: no maps, or none whose T is that of `tasks`.
    """
    fitting = {method: values for method, values in maps.items() if values.ndim == 3 and len(values) == len(tasks)}
    if not fitting:
        raise NoData(f"attribution needs a (T, h, w) map of each of {plural(len(tasks), 'task')} for a method")
    spread = {method: similarity(values) for method, values in fitting.items()}
    most = min(spread, key=lambda method: spread[method])
    title = f"{method_name(most)} tells the places of tasks apart best: two of its maps correlate by {spread[most]:.2f}"
    subtitle = (
        "Absolute attribution, the mean over channels of the gradient of a task's probability (eq. 2.41), over the "
        "face; each map on its own scale. Beside each method: mean correlation between the maps of two tasks."
    )
    figure = new_figure(footer, title, subtitle, 0.3 + TILE * 1.1 * len(fitting))
    panels = figure.subplots(len(fitting), len(tasks), squeeze=False)
    height, width = face.shape[:2]
    for row, (method, values) in enumerate(fitting.items()):
        for column, name in enumerate(tasks):
            axes, strength = panels[row, column], np.abs(values[column])
            axes.imshow(face, extent=(0, width, height, 0))
            top = max(float(np.percentile(strength, PERCENTILE)), np.finfo(np.float64).tiny)
            share = np.clip(strength / top, 0, 1)
            axes.imshow(share, extent=(0, width, height, 0), cmap="inferno", vmin=0, vmax=1, alpha=0.75 * share)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(shortened(name, 10), loc="center", fontsize=8, color=INK)
        label = f"{method_name(method)} {spread[method]:.2f}"
        panels[row, 0].text(-0.06, 0.5, label, transform=panels[row, 0].transAxes, ha="right", va="center", rotation=90)
    return figure


def similarity(maps: FloatArray) -> float:
    """Mean correlation between the absolute maps (T, h, w) of two tasks; 1 where every task looks at the same place."""
    flat = np.abs(maps).reshape(len(maps), -1)
    varied = flat[flat.std(axis=1) > 0]
    if len(varied) < 2:
        return 1.0
    correlations = np.corrcoef(varied)
    return float(correlations[np.triu_indices(len(varied), k=1)].mean())
