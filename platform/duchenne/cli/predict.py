"""Verbs that use the networks behind an entry: predictions of new pictures, and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duchenne.cli.options import HOME, Home, resolve

if TYPE_CHECKING:
    from duchenne.records import Entry
    from duchenne_jobs.prediction.networks import Ensemble

EntryId = Annotated[str, typer.Argument(metavar="ENTRY", help="The entry's id, SWEEP.METHOD.")]
Fold = Annotated[int | None, typer.Option("--fold", help="Take the networks of this fold only.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Take the networks of this seed only.")]
Threshold = Annotated[
    str,
    typer.Option(
        "--threshold",
        help="Probability from which a task is decided to be there: a number, or `inner` for the thresholds chosen on "
        "inner validation folds, task by task, mean over the folds.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(predict)
    app.command()(export)


def predict(
    entry_id: EntryId,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A video, a folder of images, or a dataset's URI.")],
    out: Annotated[Path, typer.Option("--out", help="The CSV file to write.")],
    overlay: Annotated[
        Path | None, typer.Option("--overlay", help="Also draw: a video file for a video, else a folder of images.")
    ] = None,
    threshold: Threshold = "0.5",
    fold: Fold = None,
    seed: Seed = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            help="`haar`, an ONNX file, or `none` where pictures are faces already; default: as at ingest.",
        ),
    ] = None,
    parser: Annotated[
        Path | None, typer.Option("--parser", help="A face parsing model in ONNX, for networks that look at one.")
    ] = None,
    home: Home = HOME,
) -> None:
    """Predict every row of a video, a folder or a dataset by an entry's networks: one line a row, tasks by name."""
    from duchenne.cli.progress import bar
    from duchenne.records import open_home
    from duchenne_jobs.data import materialise
    from duchenne_jobs.prediction.predict import open_source, predict_source
    from duchenne_jobs.prediction.sources import DatasetSource

    folder = resolve(home)
    with open_home(folder) as store:
        entry = store.get_entry(entry_id)
    ensemble = _ensemble(entry, folder, fold, seed)
    rows = open_source(materialise(source, folder), ensemble, detector, parser)
    if isinstance(rows, DatasetSource) and rows.digest == entry.dataset_digest:
        typer.echo(
            "note: these networks were trained on rows of this dataset; its entry's numbers are held out", err=True
        )
    with bar(f"predicting {source}", unit="rows") as advance:
        done = predict_source(
            ensemble,
            rows,
            out,
            _thresholds(entry, ensemble, threshold),
            overlay,
            lambda count, total: advance(count, count + 1 if total is None else total),
        )
    without = f", {done.rows - done.seen} without a face" if done.seen < done.rows else ""
    typer.echo(f"{out}: {done.rows} rows{without}, mean of {len(ensemble.members)} networks")


def export(
    entry_id: EntryId,
    kind: Annotated[str, typer.Option("--format", help="`onnx` or `safetensors`.")] = "onnx",
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; default ENTRY.FORMAT, here.")] = None,
    threshold: Threshold = "0.5",
    fold: Fold = None,
    seed: Seed = None,
    home: Home = HOME,
) -> None:
    """Write an entry's networks as an ONNX graph, or their weights as safetensors, for use elsewhere."""
    import json

    from duchenne.records import open_home
    from duchenne_jobs.prediction.export import FORMATS
    from duchenne_jobs.prediction.export import export as write

    known = next((one for one in FORMATS if one == kind), None)
    if known is None:
        raise typer.BadParameter(f"--format must be {' or '.join(FORMATS)}, but got {kind!r}")
    folder = resolve(home)
    with open_home(folder) as store:
        entry = store.get_entry(entry_id)
    ensemble = _ensemble(entry, folder, fold, seed)
    thresholds = json.dumps(_thresholds(entry, ensemble, threshold).tolist())
    facts = {"entry": entry.id, "dataset_digest": entry.dataset_digest, "thresholds": thresholds}
    target = out or Path(f"{entry.id}.{known}")
    done = write(ensemble, known, target, facts)
    typer.echo(f"{target}: mean of {len(ensemble.members)} networks, marginals {', '.join(done.methods)}")
    if done.difference is not None:
        typer.echo(f"inputs {', '.join(done.inputs)}; onnxruntime differs from predict by {done.difference:.1e}")


def _ensemble(entry: Entry, home: Path, fold: int | None, seed: int | None) -> Ensemble:
    """The networks of an entry."""
    import torch

    from duchenne.boards.networks import networks_of
    from duchenne_jobs.prediction.networks import load_ensemble

    return load_ensemble(
        networks_of(entry, home, fold, seed), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )


def _thresholds(entry: Entry, ensemble: Ensemble, wanted: str) -> Any:
    """(T,) decision thresholds."""
    import numpy as np

    from duchenne.boards.columns import recorded_thresholds
    from duchenne_jobs.prediction import PredictionError

    tasks = len(ensemble.data.tasks)
    if wanted == "inner":
        recorded = recorded_thresholds(entry.per_fold)
        if not recorded:
            raise PredictionError(f"--threshold inner: {entry.id} has no inner thresholds on record; give a number")
        return np.mean(list(recorded.values()), axis=0)
    try:
        value = float(wanted)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise PredictionError(f"--threshold must be a number in [0, 1] or inner, but got {wanted!r}")
    return np.full(tasks, value)
