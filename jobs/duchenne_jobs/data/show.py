"""What `duchenne data show` tells about a dataset: a summary and a figure of its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from duchenne_jobs.data.dataset import Dataset


@dataclass(frozen=True)
class TaskSummary:
    """Labels of one task. `frequency` is positive / (positive + negative), None where no label is known."""

    name: str
    positive: int
    negative: int
    unknown: int
    frequency: float | None


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset in numbers. `bytes` is the size of its shards; `null_images` is None where there is no image column."""

    uri: str
    name: str
    digest: str
    licence: str
    consent: str
    columns: tuple[str, ...]
    rows: int
    subjects: int
    shards: int
    bytes: int
    features: int | None
    null_images: int | None
    tasks: tuple[TaskSummary, ...]


def summary(dataset: Dataset) -> DatasetSummary:
    """Read the labels (and checksums) of a dataset and count.

    Raises:
        DatasetError: a shard is missing or damaged.
    """
    manifest = dataset.manifest
    tasks = []
    for task, counts in dataset.label_counts().items():
        known = counts[0] + counts[1]
        tasks.append(TaskSummary(task, counts[1], counts[0], counts[-1], counts[1] / known if known else None))
    has_images = "image" in manifest.columns
    return DatasetSummary(
        uri=dataset.uri,
        name=manifest.name,
        digest=dataset.digest,
        licence=manifest.licence,
        consent=manifest.consent,
        columns=manifest.columns,
        rows=dataset.row_count,
        subjects=len(dataset.subjects),
        shards=len(manifest.shards),
        bytes=sum(shard.bytes for shard in manifest.shards),
        features=len(manifest.feature_names) if manifest.feature_names else None,
        null_images=dataset.rows(["image"])["image"].null_count if has_images else None,
        tasks=tuple(tasks),
    )


def save_label_figure(dataset: Dataset, path: str | Path) -> Path:
    """Draw the labels of each task as stacked bars (positive, negative, unknown) and save them, PNG by default.

    Raises:
        DatasetError: a shard is missing or damaged.
    """
    from matplotlib.figure import Figure

    facts = summary(dataset)
    names = [task.name for task in facts.tasks]
    figure = Figure(figsize=(7.0, 1.4 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots()
    left = [0] * len(names)
    layers = {
        "positive": ([task.positive for task in facts.tasks], "#0072b2"),
        "negative": ([task.negative for task in facts.tasks], "#c9d3da"),
        "unknown": ([task.unknown for task in facts.tasks], "#e69f00"),
    }
    for label, (counts, colour) in layers.items():
        if any(counts):
            axes.barh(names, counts, left=left, color=colour, label=label, height=0.75)
            left = [start + count for start, count in zip(left, counts, strict=True)]
    for row, task in enumerate(facts.tasks):
        share = "no label" if task.frequency is None else f"{task.frequency:.1%}"
        axes.text(facts.rows * 1.01, row, share, va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, facts.rows * 1.1)
    axes.set_xlabel("rows (right: share of positives among known labels)")
    axes.set_title(f"{facts.name}: {facts.rows:,} rows of {facts.subjects:,} subjects", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target
