"""The looks of every figure, in one place: colours, type, header and footer, and files that are the same every time.

Figures are made with matplotlib's object-oriented interface; the global state of pyplot is never touched.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea
from matplotlib.textpath import text_to_path

from duchenne_jobs.config import BASELINE_NAMES, MODEL_NAMES

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

    from duchenne.figures.source import SweepData

# Okabe and Ito's palette, which people with any common colour blindness tell apart.
BLUE: Final = "#0072B2"
ORANGE: Final = "#E69F00"
GREEN: Final = "#009E73"
VERMILION: Final = "#D55E00"
SKY: Final = "#56B4E9"
PURPLE: Final = "#CC79A7"

INK: Final = "#1b1f24"
MUTED: Final = "#656d76"
FAINT: Final = "#b9bfc7"
GRID: Final = "#e7eaee"
WASH: Final = "#eaf3f9"

LINES: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
METHOD_COLOURS: Final = {
    "monet": BLUE,
    "mrnn": VERMILION,
    "vmnc": GREEN,
    "vmns": SKY,
    "logistic_regression": PURPLE,
    "classifier_chain": ORANGE,
    "chain_ensemble": "#7f7f7f",
}
"""A method has the same colour in every figure."""


AROUND_UNIFORM: Final = LinearSegmentedColormap.from_list("around-uniform", ["#f3d3a0", "#ffffff", BLUE])

METRIC_NAMES: Final = {
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "auc_macro": "macro AUC",
    "accuracy": "accuracy",
    "subset_accuracy": "subset accuracy",
    "log_loss": "log-loss (nats)",
}

DPI: Final = 160
WIDTH: Final = 9.0
"""Of every figure, in inches."""

MARGIN: Final = 0.22
"""Left and right of everything, and above the title, in inches."""

FOOTER: Final = 0.42
"""Height of the line below everything, in inches."""

_RC: Final[dict[RcKeyType, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "#ffffff",
    "svg.fonttype": "path",
    "svg.hashsalt": "duchenne",
}

_TITLE_POINTS, _SUBTITLE_POINTS, _FOOTER_POINTS = 12.5, 9.0, 7.5

_POSITIONS: Final[tuple[Literal["original", "active"], ...]] = ("original", "active")

Parameters = ParamSpec("Parameters")


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Decorator: draws with this module's settings and leaves the caller's as they were; the layout is then final."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with _settings():
            figure = draw(*args, **kwargs)
            _fix_layout(figure)
            return figure

    return drawn


def _fix_layout(figure: Figure) -> None:
    """Lays the figure out, once, and rounds what comes out.

    The constraint solver's last digits differ from run to run, and would show in the names of clip paths in an SVG.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        for which in _POSITIONS:
            left, bottom, width, height = axes.get_position(original=which == "original").bounds
            axes.set_position((round(left, 5), round(bottom, 5), round(width, 5), round(height, 5)), which=which)


@contextmanager
def _settings() -> Iterator[None]:
    """This module's settings over matplotlib's own defaults: a user's matplotlibrc must not change a figure."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with matplotlib.rc_context(_RC):
            yield


def new_figure(data: SweepData | str, title: str, subtitle: str, plot_height: float) -> Figure:
    """An empty figure with its header and footer.

    Args:
        data: the sweep that the footer names; or the footer itself, where numbers of several sweeps meet.
        title: what is seen; `subtitle`: how to read it, with units.
        plot_height: inches between the header and the footer.
    """
    titles = _wrapped(title, _TITLE_POINTS, "bold")
    subtitles = _wrapped(subtitle, _SUBTITLE_POINTS, "normal")
    header = MARGIN + 0.25 * len(titles) + 0.175 * len(subtitles) + 0.1
    height = header + plot_height + FOOTER
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    top = height - MARGIN
    for line in titles:
        figure.text(MARGIN / WIDTH, top / height, line, fontsize=_TITLE_POINTS, weight="bold", va="top")
        top -= 0.25
    for line in subtitles:
        figure.text(MARGIN / WIDTH, top / height, line, fontsize=_SUBTITLE_POINTS, color=MUTED, va="top")
        top -= 0.175
    footer = data if isinstance(data, str) else footer_text(data)
    figure.text(MARGIN / WIDTH, 0.15 / height, footer, fontsize=_FOOTER_POINTS, color=MUTED, va="bottom")
    figure.set_layout_engine(
        "constrained",
        rect=(MARGIN / WIDTH, FOOTER / height, 1 - 2 * MARGIN / WIDTH, plot_height / height),
        w_pad=0.04,
        h_pad=0.04,
        wspace=0.04,
        hspace=0.06,
    )
    return figure


def _wrapped(text: str, points: float, weight: str) -> list[str]:
    """Lines that fit the figure's width."""
    font = FontProperties(weight=weight, size=points)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        inches = text_to_path.get_text_width_height_descent(longer, font, ismath=False)[0] / 72
        if lines and inches <= WIDTH - 2 * MARGIN:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def footer_text(data: SweepData) -> str:
    """Where the numbers come from: sweep, data, folds, seeds."""
    folds = data.sweep.folds
    digest = data.record.dataset_digest
    shown = "unknown" if digest is None else digest.removeprefix("sha256:")[:12]
    return (
        f"sweep {data.record.id}   ·   dataset {shown}   ·   "
        f"{folds.outer_count} test folds, {folds.inner_count} inner folds each   ·   {seeds_text(data.sweep.seeds)}"
    )


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 0`, `seeds 0, 1, 2`, or how many there are."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) <= 6:
        return "seeds " + ", ".join(map(str, seeds))
    return f"{len(seeds)} seeds, {min(seeds)} to {max(seeds)}"


def method_name(method: str) -> str:
    """As it is written in a figure: `MONET`, `Classifier chain`; a variant as its sweep calls it."""
    if method in MODEL_NAMES:
        return method.upper().replace("_", " ")
    return method.replace("_", " ").capitalize() if method in BASELINE_NAMES else method


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """Method -> its colour; variants that a sweep named itself take those that are left, in their order."""
    known = {method: METHOD_COLOURS[method] for method in methods if method in METHOD_COLOURS}
    left = [colour for colour in LINES if colour not in known.values()] or [INK]
    others = [method for method in methods if method not in known]
    return known | {method: left[place % len(left)] for place, method in enumerate(others)}


def capitalised(text: str) -> str:
    """`macro F1` -> `Macro F1`."""
    return text[:1].upper() + text[1:]


def percent(share: float, digits: int = 0) -> str:
    """`12 %`."""
    return f"{100 * share:.{digits}f} %"


def shortened(text: str, length: int) -> str:
    """At most `length` characters; what is left out shows as an ellipsis."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 trial`, `3 trials`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], height: float, points: float = 8.0) -> None:
    """Names lines at the right edge, each at its own height or as near to it as its neighbours allow.

    Args:
        labels: (y in data units, text, colour) of each line; the limits of y must be set.
        height: of the axes, in inches.
    """
    low, high = axes.get_ylim()
    gap = points * 1.3 / 72 / height
    ordered = sorted(((y - low) / (high - low), text, colour) for y, text, colour in labels)  # axes may be upside down
    wanted = np.array([place for place, _, _ in ordered])
    for place, (_, text, colour) in zip(spread(wanted, gap), ordered, strict=True):
        axes.text(
            1.015, place, text, transform=axes.transAxes, fontsize=points, color=colour, va="center", clip_on=False
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places at least `gap` apart, in the order of `wanted` (ascending) and as near to it as can be.

    The nearest in the sense of least squares: neighbours that collide form a block around their mean.
    """
    blocks: list[tuple[float, int]] = []  # (mean of wanted minus its offset in the block's row, members)
    for position, place in enumerate(wanted):
        mean, size = float(place) - position * gap, 1
        while blocks and blocks[-1][0] >= mean:
            before, members = blocks.pop()
            mean, size = (before * members + mean * size) / (members + size), members + size
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    return np.array([mean + position * gap for position, mean in enumerate(flat)])


def colour_key(axes: Axes, names: Sequence[tuple[str, str]]) -> None:
    """Names, each behind a square of its colour, in one row above the axes: a legend without a box."""
    children: list[Artist] = []
    for name, colour in names:
        square = TextArea("■", textprops={"color": colour, "size": 10})
        children.append(HPacker(children=[square, TextArea(name, textprops={"color": INK, "size": 9})], pad=0, sep=4))
    axes.add_artist(
        AnchoredOffsetbox(
            "lower left",
            child=HPacker(children=children, pad=0, sep=16),
            frameon=False,
            bbox_to_anchor=(0, 1.0),
            bbox_transform=axes.transAxes,
            pad=0.2,
            borderpad=0,
        )
    )


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write `OUT/NAME.png` and `OUT/NAME.svg`; the same figure gives the same bytes.

    Raises:
        OSError: the folder can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    with _settings():  # ticks are made when they are drawn
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=DPI, metadata=metadata)
            path = out / f"{name}.{suffix}"
            path.write_bytes(buffer.getvalue())
            paths.append(path)
    return paths
