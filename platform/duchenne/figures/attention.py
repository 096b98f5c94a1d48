"""Where attention lies on faces, and where its guidance lets it look (Tallec 2023, fig. 3.5, 3.7 and 3.9).

Shapes: N faces, L cross-attention layers, n heads, Q queries (one a task, or one for all), T tasks, P priors, H x W
pixels, h x w patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from duchenne.figures.overlays import GAMMA, HEAT, half_area, overlap, overlay
from duchenne.figures.source import FloatArray, NoData, SweepData
from duchenne.figures.style import (
    FAINT,
    FOOTER,
    GREEN,
    INK,
    MARGIN,
    MUTED,
    WIDTH,
    method_name,
    new_figure,
    percent,
    plural,
    shortened,
    styled,
)
from duchenne_jobs.config import RunConfig
from duchenne_jobs.evaluation.attention import AttentionSample

if TYPE_CHECKING:
    from duchenne_jobs.config import GuidanceTerm
    from duchenne_jobs.data import Dataset

SHOWN_FACES, SHOWN_QUERIES, SHOWN_HEADS = 4, 12, 12
LAYER = 0
"""The first cross-attention layer, as in fig. 3.5 and 3.9."""

GAP = 0.06
"""Between two tiles, in inches."""

LEFT, TOP, RIGHT = 0.22, 0.36, 0.55
"""What names and the colour bar take beside the tiles, in inches."""

LARGEST = 1.9
"""Side of a tile at most, in inches."""


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of an attention sample.

    Attributes:
        images: (H, W, 3) uint8 RGB of each.
        landmarks: (P, 2) pixels of each, NaN where there are none; empty in a set without.
        parsing: (H, W) uint8 class ids of each; empty in a set without.
        parsing_classes: names of the ids.
    """

    images: tuple[NDArray[np.uint8], ...]
    landmarks: tuple[NDArray[np.float32], ...] = ()
    parsing: tuple[NDArray[np.uint8], ...] = ()
    parsing_classes: tuple[str, ...] = ()


@styled
def attention_by_task(data: SweepData) -> Figure:
    """Attention of each task on some held-out faces, mean over the heads of the first cross-attention layer.

    Raises:
        NoData: no evaluation that ended kept its attention, or the faces can't be read.
    """
    sample, method = _sample(data)
    faces = _faces(data, sample, SHOWN_FACES)
    of_heads = np.asarray(sample.attention[: len(faces.images), LAYER], dtype=np.float64)  # (N, n, Q, h, w)
    mean = of_heads.mean(axis=1)[:, :SHOWN_QUERIES]
    names = _query_names(sample)
    areas = [half_area(mean[:, query]) for query in range(mean.shape[1])]
    narrowest = int(np.argmin(areas))
    title = (
        f"{method_name(method)} looks most narrowly for {names[narrowest]}: half of its attention lies on "
        f"{percent(areas[narrowest])} of the patches"
    )
    subtitle = (
        f"Mean over {plural(of_heads.shape[1], 'head')} of cross-attention layer 1 of {sample.attention.shape[1]}, "
        f"resized from {_grid(sample)} patches; colour: multiples of even attention. Held-out faces; a green frame: "
        f"the AU is labelled present.{_left_out(sample.attention.shape[3], SHOWN_QUERIES, 'task')}"
    )
    figure, tiles = _tiles(data, title, subtitle, mean.shape[:2])
    highest = _highest(mean)
    for row, face in enumerate(faces.images):
        for query, axes in enumerate(tiles[row]):
            axes.imshow(overlay(face, mean[row, query], highest), aspect="equal")
            present = mean.shape[1] > 1 and sample.labels[row, query] == 1
            _frame(axes, GREEN if present else FAINT, 1.8 if present else 0.6)
            if row == 0:
                axes.set_title(shortened(names[query], 10), fontsize=8.5, loc="center")
        tiles[row][0].set_ylabel(_face_name(sample, row), fontsize=7.5, color=MUTED)
    _colour_bar(figure, tiles, highest * mean.shape[-2] * mean.shape[-1])
    return figure


@styled
def attention_by_head(data: SweepData) -> Figure:
    """Attention of each head of the first cross-attention layer on one held-out face, task by task.

    Raises:
        NoData: no evaluation that ended kept its attention, or the faces can't be read.
    """
    sample, method = _sample(data)
    faces = _faces(data, sample, 1)
    of_heads = np.asarray(sample.attention[0, LAYER, :SHOWN_HEADS], dtype=np.float64).swapaxes(0, 1)  # (Q, n, h, w)
    if of_heads.shape[1] < 2:
        raise NoData("a comparison of heads needs two, but the attention has one")
    queries = _shown_queries(sample)
    shown = of_heads[queries]
    names = _query_names(sample)
    title = f"Two heads of {method_name(method)} have {percent(overlap(of_heads))} of their attention in common"
    subtitle = (
        f"Cross-attention layer 1 of {sample.attention.shape[1]} on {_face_name(sample, 0)}, resized from "
        f"{_grid(sample)} patches; colour: multiples of even attention. Below a head's number: the prior that guides "
        f"it. Green: AUs labelled present."
        f"{_left_out(of_heads.shape[0], len(queries), 'task')}"
        f"{_left_out(sample.attention.shape[2], SHOWN_HEADS, 'head')}"
    )
    figure, tiles = _tiles(data, title, subtitle, shown.shape[:2])
    highest = _highest(shown)
    guides = _guides(sample, of_heads.shape[1])
    for row, query in enumerate(queries):
        for head, axes in enumerate(tiles[row]):
            axes.imshow(overlay(faces.images[0], shown[row, head], highest), aspect="equal")
            _frame(axes, FAINT, 0.6)
            if row == 0:
                axes.set_title(f"{head + 1}\n{guides[head]}", fontsize=7.5, loc="center", weight="normal")
        present = shown.shape[0] > 1 and sample.labels[0, query] == 1
        label = tiles[row][0].set_ylabel(shortened(names[query], 10), fontsize=8)
        label.set(color=GREEN if present else MUTED, weight="bold" if present else "normal")
    _colour_bar(figure, tiles, highest * shown.shape[-2] * shown.shape[-1])
    return figure


@styled
def priors(data: SweepData) -> Figure:
    """The priors that guidance can take on some held-out faces: mono, multi, face parsing.

    Raises:
        NoData: no evaluation that ended kept its attention, or its dataset has neither landmarks nor face parsing.
    """
    sample, _ = _sample(data)
    faces = _faces(data, sample, len(sample.subjects))
    grid: tuple[int, int] = (sample.attention.shape[-2], sample.attention.shape[-1])
    rows = prior_rows(faces, grid)
    if not rows:
        raise NoData("the dataset has neither landmarks nor face-parsing maps, of which priors are made")
    areas = ", ".join(f"{percent(half_area(np.stack(row.maps)))} ({row.name})" for row in rows)
    subtitle = (
        f"Priors on the {_grid(sample)} patches of the attention, resized; each tile has its own scale. Mono: all "
        "landmarks of each face; multi: each AU of table 3.2, and parsing: the share of each class, both on the first "
        "face."
    )
    title = f"Half of a prior lies on {areas} of the patches"
    figure, tiles = _tiles(data, title, subtitle, (len(rows), max(len(row.maps) for row in rows)), gap=0.3)
    for line, row in zip(tiles, rows, strict=True):
        for axes, face, weights, name in zip(line, row.faces, row.maps, row.names, strict=False):
            axes.imshow(overlay(face, weights, max(float(weights.max()), 1e-12)), aspect="equal")
            axes.set_title(shortened(name, 11), fontsize=7.5, loc="center", weight="normal")
            _frame(axes, FAINT, 0.6)
        for axes in line[len(row.maps) :]:
            axes.set_axis_off()
        line[0].set_ylabel(row.name, fontsize=8.5, color=INK)
    return figure


@dataclass(frozen=True, eq=False)
class PriorRow:
    """One line of the figure of priors: a kind of prior, and a face, map and name for each tile."""

    name: str
    faces: tuple[NDArray[np.uint8], ...]
    maps: tuple[FloatArray, ...]
    names: tuple[str, ...]


def prior_rows(faces: Faces, grid: tuple[int, int]) -> list[PriorRow]:
    """The priors of faces on an (h, w) grid: the mono-prior of each, and the others of the first (fig. 3.7)."""
    import torch

    from duchenne_jobs.config.action_units import MULTI_PRIORS
    from duchenne_jobs.config.guidance import INFORMATIVE_CLASSES
    from duchenne_jobs.models.priors import ClassShares, au_centres, mono_centres, prior_heatmap

    rows: list[PriorRow] = []
    found = [place for place, points in enumerate(faces.landmarks) if np.isfinite(points).all()]
    if found:
        images = tuple(faces.images[place] for place in found)
        landmarks = [torch.from_numpy(faces.landmarks[place])[None].double() for place in found]
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        mono = [prior_heatmap(mono_centres(points), size, grid) for points, size in zip(landmarks, sizes, strict=True)]
        names = tuple(f"face {place + 1}" for place in found)
        rows.append(PriorRow("mono", images, tuple(one[0, 0].numpy() for one in mono), names))
        if landmarks[0].shape[1] in (49, 68):
            multi = prior_heatmap(au_centres(landmarks[0], MULTI_PRIORS), sizes[0], grid)[0].numpy()
            rows.append(PriorRow("multi", (images[0],) * len(multi), tuple(multi), MULTI_PRIORS))
    if faces.parsing:
        named = tuple(name for name in INFORMATIVE_CLASSES if name in faces.parsing_classes)
        shares = ClassShares(named, faces.parsing_classes)
        maps = shares(torch.from_numpy(faces.parsing[0])[None], grid)[0].double().numpy()
        rows.append(PriorRow("parsing", (faces.images[0],) * len(maps), tuple(maps), shares.names))
    return rows


def _sample(data: SweepData) -> tuple[AttentionSample, str]:
    """The attention of the first run that kept it, and whose it is."""
    found = data.attention()
    if found is None:
        raise NoData("no evaluation that has ended kept its attention (only networks with cross-attention have one)")
    return found


def _faces(data: SweepData, sample: AttentionSample, count: int) -> Faces:
    """The first `count` faces of the sample, from the sweep's dataset."""
    from duchenne_jobs.data import DatasetError, open_dataset

    try:
        dataset = open_dataset(data.record.dataset_uri)
        if dataset.digest != data.record.dataset_digest:
            raise NoData(f"{dataset.uri} has changed since the sweep, so that its rows may be others")
        return _read_faces(dataset, sample, count)
    except (DatasetError, ValueError) as error:
        raise NoData(f"the faces can't be read: {error}") from error


def _read_faces(dataset: Dataset, sample: AttentionSample, count: int) -> Faces:
    """
    Raises:
        NoData: a row is not there.
        ValueError: an image can't be decoded.
    """
    from duchenne_jobs.data.faces.decoding import decode_face, decode_parsing, pixel_size

    manifest = dataset.manifest
    columns = [name for name in ("sequence", "frame", "image", "landmarks", "parsing") if name in manifest.columns]
    images, landmarks, parsing = [], [], []
    for place in range(min(count, len(sample.subjects))):
        table = dataset.rows(columns, subjects=[str(sample.subjects[place])])
        matches = np.ones(table.num_rows, dtype=bool)
        for column, value in (("sequence", sample.sequences[place]), ("frame", sample.frames[place])):
            if column in columns:
                matches &= np.asarray(table[column].to_pylist()) == value
        if not matches.any():
            raise NoData(f"{dataset.uri} has no row {_face_name(sample, place)}")
        row = table.slice(int(matches.argmax()), 1).to_pylist()[0]
        size = pixel_size(row["image"])
        images.append(decode_face(row["image"], size)[0].permute(1, 2, 0).numpy())
        if row.get("landmarks") is not None:
            landmarks.append(np.asarray(row["landmarks"], dtype=np.float32).reshape(-1, 2))
        if row.get("parsing") is not None:
            parsing.append(decode_parsing(row["parsing"], size).numpy())
    whole = len(images)
    return Faces(
        tuple(images),
        tuple(landmarks) if len(landmarks) == whole else (),
        tuple(parsing) if len(parsing) == whole else (),
        manifest.parsing_classes or (),
    )


def _query_names(sample: AttentionSample) -> list[str]:
    return [str(task) for task in sample.tasks] if sample.attention.shape[3] > 1 else ["all tasks"]


def _shown_queries(sample: AttentionSample) -> list[int]:
    """Tasks to show of the first face: those that are present go before the others, both in their order."""
    queries = sample.attention.shape[3]
    if queries == 1:
        return [0]
    order = sorted(range(queries), key=lambda query: sample.labels[0, query] != 1)
    return sorted(order[:SHOWN_QUERIES])


def _guides(sample: AttentionSample, heads: int) -> list[str]:
    """The names of the priors that guide each head of the first layer."""
    model = RunConfig.model_validate_json(sample.config).model
    names: list[list[str]] = [[] for _ in range(heads)]
    for term in model.guidance:
        if term.kind in ("head_to_prior", "soft_prior") and LAYER in term.on_layers(model.attention.cross_layers):
            for head, assigned in enumerate(_assigned(term, model.attention.heads)[:heads]):
                names[head] += assigned
    return ["+".join(found) if found else "free" for found in names] if any(names) else [""] * heads


def _assigned(term: GuidanceTerm, heads: int) -> list[list[str]]:
    return [[term.names[prior] for prior in row] for row in term.assigned(heads)]


def _face_name(sample: AttentionSample, place: int) -> str:
    parts = (sample.subjects[place], sample.sequences[place], sample.frames[place])
    return "/".join(str(part) for part in parts if str(part))


def _grid(sample: AttentionSample) -> str:
    return f"{sample.attention.shape[-2]} x {sample.attention.shape[-1]}"


def _left_out(there: int, shown: int, what: str) -> str:
    return f" {plural(there - shown, what)} more not shown." if there > shown else ""


def _highest(weights: FloatArray) -> float:
    """What is drawn strongest: the 99.5th percentile, so that one patch does not pale the others; never below even."""
    even = 1.0 / float(weights.shape[-2] * weights.shape[-1])
    return max(float(np.quantile(weights, 0.995)), even)


def _tiles(
    data: SweepData, title: str, subtitle: str, shape: tuple[int, ...], gap: float = GAP
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with (rows, columns) square tiles, `gap` inches between rows.

    The places are computed: a constraint solver takes seconds for a hundred tiles.
    """
    rows, columns = shape
    side = min(LARGEST, (WIDTH - 2 * MARGIN - LEFT - RIGHT) / columns - GAP)
    height = TOP + rows * (side + gap)
    figure = new_figure(data, title, subtitle, height)
    figure.set_layout_engine("none")
    whole = figure.get_figheight()
    tiles = []
    for row in range(rows):
        bottom = FOOTER + height - TOP - (row + 1) * (side + gap) + gap
        line = []
        for column in range(columns):
            left = MARGIN + LEFT + column * (side + GAP)
            axes = figure.add_axes((left / WIDTH, bottom / whole, side / WIDTH, side / whole))
            axes.grid(visible=False)
            axes.set_xticks([])
            axes.set_yticks([])
            line.append(axes)
        tiles.append(line)
    return figure, tiles


def _frame(axes: Axes, colour: str, width: float) -> None:
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=width)


def _colour_bar(figure: Figure, tiles: list[list[Axes]], highest: float) -> None:
    """`highest`: what the strongest colour stands for, in multiples of even attention."""
    first, last = tiles[0][-1].get_position(), tiles[-1][-1].get_position()
    height = min(first.y1 - last.y0, 2.0 / figure.get_figheight())
    strip = figure.add_axes((first.x1 + 0.12 / WIDTH, first.y1 - height, 0.09 / WIDTH, height))
    strip.grid(visible=False)
    bar = figure.colorbar(ScalarMappable(norm=PowerNorm(GAMMA, 0.0, highest), cmap=HEAT), cax=strip)
    bar.outline.set_visible(False)
    bar.set_label("times even attention", color=MUTED)
