"""What came out of an ingest of people: faces found, labels known, and how often each task is positive for whom.

S subjects, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duchenne_jobs.data.dataset import Dataset
from duchenne_jobs.data.errors import DatasetError
from duchenne_jobs.data.schema import UNKNOWN, matrix

_SHOWN_SUBJECTS = 60  # more names than these fit neither a screen nor a figure


@dataclass(frozen=True)
class SubjectReport:
    """Rows of one subject. `frequencies` (T) are positives among known labels, None where no label is known."""

    subject: str
    frames: int
    faces_not_found: int
    unknown_labels: int
    frequencies: tuple[float | None, ...]


@dataclass(frozen=True)
class FaceReport:
    """A dataset of faces in numbers. `not_parsed` is None where it has no parsing maps.

    Attributes:
        unknown_labels: values of `labels` that are -1.
        per_subject: S reports, sorted by subject.
    """

    name: str
    digest: str
    tasks: tuple[str, ...]
    frames: int
    faces_not_found: int
    not_parsed: int | None
    unknown_labels: int
    per_subject: tuple[SubjectReport, ...]

    def lines(self) -> Iterator[str]:
        """The report as text."""
        labels = self.frames * len(self.tasks)
        yield f"{self.name}: {len(self.per_subject)} subjects, {self.frames} frames, {self.digest}"
        yield f"faces not found: {self.faces_not_found} ({_share(self.faces_not_found, self.frames)} of frames)"
        if self.not_parsed is not None:
            yield f"faces without a parsing map: {self.not_parsed}"
        yield f"unknown labels: {self.unknown_labels} ({_share(self.unknown_labels, labels)} of {labels})"
        yield "share of positives among known labels, in %:"
        width = max(7, *(len(one.subject) for one in self.per_subject[:_SHOWN_SUBJECTS]))
        cells = [max(5, len(task)) for task in self.tasks]
        names = " ".join(task.rjust(cell) for task, cell in zip(self.tasks, cells, strict=True))
        yield f"{'subject'.ljust(width)} {'frames':>7} {'no face':>7} {'unknown':>7} {names}"
        for one in self.per_subject[:_SHOWN_SUBJECTS]:
            shares = " ".join(_percent(f).rjust(cell) for f, cell in zip(one.frequencies, cells, strict=True))
            counts = f"{one.frames:>7} {one.faces_not_found:>7} {one.unknown_labels:>7}"
            yield f"{one.subject.ljust(width)} {counts} {shares}"
        if len(self.per_subject) > _SHOWN_SUBJECTS:
            yield f"and {len(self.per_subject) - _SHOWN_SUBJECTS} more subjects"


def face_report(dataset: Dataset) -> FaceReport:
    """Read labels and which images are null, and count.

    Raises:
        DatasetError: no image column, or a shard is missing or damaged.
    """
    manifest = dataset.manifest
    if "image" not in manifest.columns:
        raise DatasetError(f"{dataset.uri} has no image column, so there are no faces to report on")
    has_maps = "parsing" in manifest.columns
    table = dataset.rows(["subject", "image", "labels", *(["parsing"] if has_maps else [])])
    labels = matrix(table, "labels")  # (N, T)
    lost = table["image"].is_null().to_numpy()
    encoded = table["subject"].combine_chunks().dictionary_encode()
    subjects, codes = np.array(encoded.dictionary.to_pylist()), encoded.indices.to_numpy()
    return FaceReport(
        name=manifest.name,
        digest=dataset.digest,
        tasks=dataset.tasks,
        frames=table.num_rows,
        faces_not_found=int(lost.sum()),
        not_parsed=int((table["parsing"].is_null().to_numpy() & ~lost).sum()) if has_maps else None,
        unknown_labels=int((labels == UNKNOWN).sum()),
        per_subject=tuple(_subject_reports(subjects, codes, labels, lost)),
    )


def save_report_figure(report: FaceReport, path: str | Path) -> Path:
    """Draw the frequency of each task for each subject as a grid of colours, and save it, PNG by default."""
    from matplotlib.figure import Figure

    count = len(report.per_subject)
    values = np.array([[np.nan if f is None else 100 * f for f in one.frequencies] for one in report.per_subject])
    named = count <= _SHOWN_SUBJECTS
    height = 1.8 + 0.22 * min(count, _SHOWN_SUBJECTS)
    figure = Figure(figsize=(2.6 + 0.5 * max(8, len(report.tasks)), height), layout="constrained")
    axes = figure.subplots()
    highest = max(1.0, float(np.nanmax(values, initial=0)))
    colours = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=highest)
    axes.set_xticks(range(len(report.tasks)), report.tasks, rotation=45 if len(report.tasks) > 8 else 0, ha="center")
    axes.set_yticks(range(count) if named else [], [one.subject for one in report.per_subject] if named else [])
    axes.tick_params(labelsize=8, length=0)
    axes.set_ylabel("subject" if named else f"{count} subjects")
    if named:
        for (row, column), value in np.ndenumerate(values):
            dark = np.isnan(value) or value < 0.6 * highest
            text = "-" if np.isnan(value) else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_facecolor("#666666")  # no label is known
    bar = figure.colorbar(colours)
    bar.set_label("positives, % of known", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    axes.set_title(
        f"{report.name}: {count} subjects, {report.frames:,} frames, {report.faces_not_found:,} without a face, "
        f"{report.unknown_labels:,} unknown labels",
        loc="left",
        fontsize=9,
    )
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target


def _subject_reports(subjects: Any, codes: Any, labels: Any, lost: Any) -> Iterator[SubjectReport]:
    count = len(subjects)
    frames = np.bincount(codes, minlength=count)
    missing = np.bincount(codes, weights=lost, minlength=count).astype(int)
    tasks = labels.shape[1]
    positive, unknown = np.zeros((count, tasks), int), np.zeros((count, tasks), int)
    np.add.at(positive, codes, labels == 1)
    np.add.at(unknown, codes, labels == UNKNOWN)
    for index in np.argsort(subjects):
        known = frames[index] - unknown[index]
        yield SubjectReport(
            subject=str(subjects[index]),
            frames=int(frames[index]),
            faces_not_found=int(missing[index]),
            unknown_labels=int(unknown[index].sum()),
            frequencies=tuple(float(p / k) if k else None for p, k in zip(positive[index], known, strict=True)),
        )


def _percent(frequency: float | None) -> str:
    return "-" if frequency is None else f"{100 * frequency:.1f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
