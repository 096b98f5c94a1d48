"""`duchenne data`: bring datasets in, check them, look at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duchenne.cli.options import HOME, Home, Json, print_json, resolve

if TYPE_CHECKING:
    from duchenne_jobs.data import Dataset

app = typer.Typer(
    help="Datasets: ingest, draw, verify, show, list, forget.", no_args_is_help=True, rich_markup_mode=None
)

Uri = Annotated[str, typer.Argument(metavar="URI", help="Folder or s3:// prefix of the dataset.")]


@app.command()
def ingest(
    name: Annotated[str, typer.Argument(metavar="{disfa,bp4d,celeba,rafdb,yeast,toy}", help="The kind of dataset.")],
    places: Annotated[
        list[str], typer.Argument(metavar="[SRC] DST", help="Raw folder where the kind has one, and destination.")
    ],
    size: Annotated[int | None, typer.Option(help="Faces: side of the crop in pixels; 224.")] = None,
    enlarge: Annotated[
        float | None, typer.Option(help="Faces: side of the crop over that of the face, brows to chin; 1.3.")
    ] = None,
    landmarks: Annotated[
        str | None, typer.Option(help="disfa, bp4d: folder with one .npy or .csv of 68 or 49 points a sequence.")
    ] = None,
    detector: Annotated[str | None, typer.Option(help="Faces: align by `haar` or a model.onnx instead.")] = None,
    parsing: Annotated[str | None, typer.Option(help="Faces: folder of PNG maps, a model.onnx, or `none`.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the parsing ids: `bisenet`, `celebamask-hq`, or a file, one a line.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help="disfa: `left` or `right`.")] = None,
    every: Annotated[int | None, typer.Option(help="disfa, bp4d: take every N-th frame.")] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="toy: how many; disfa: 8 or 12; celeba: all, gender, ..., or attributes with commas."),
    ] = None,
    count: Annotated[int | None, typer.Option(help="toy: rows.")] = None,
    seed: Annotated[int | None, typer.Option(help="toy: seed of the rows.")] = None,
    licence: Annotated[str | None, typer.Option(help="Terms of use for the manifest, instead of our summary.")] = None,
    consent: Annotated[str | None, typer.Option(help="What the recorded people agreed to, for the manifest.")] = None,
    workers: Annotated[int | None, typer.Option(help="Faces: sequences cut at once; one a CPU.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Faces: cut on Ray (RAY_ADDRESS, or started here).")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Faces: picture of label frequencies; DST-report.png.")
    ] = None,
) -> None:
    """Turn a raw dataset into Arrow shards. yeast (inside river's wheel) and toy (drawn) need no SRC."""
    from duchenne.cli.progress import bar
    from duchenne_jobs.data import ingest as ingest_dataset

    if len(places) > 2:
        raise typer.BadParameter(f"[SRC] DST must be one or two places, but got {len(places)}; quote paths with spaces")
    given = {"size": size, "enlarge": enlarge, "landmarks": landmarks, "detector": detector, "parsing": parsing}
    given |= {"classes": classes, "camera": camera, "every": every, "count": count, "seed": seed}
    given |= {"tasks": _whole_number(tasks) if name == "toy" else tasks}
    with bar(f"ingesting {name}", unit="rows") as advance:
        dataset = ingest_dataset(
            name,
            places[0] if len(places) == 2 else None,
            places[-1],
            progress=advance,
            workers=workers,
            executor="ray" if ray else "processes",
            licence=licence,
            consent=consent,
            note=lambda line: typer.echo(f"note: {line}", err=True),
            **{key: value for key, value in given.items() if value is not None},
        )
    typer.echo(f"{dataset.uri}: {dataset.row_count} rows, {len(dataset.tasks)} tasks, {dataset.digest}")
    if "image" in dataset.manifest.columns:
        _report(dataset, report)


def _whole_number(text: str | None) -> int | None:
    if text is None or text.lstrip("-").isdecimal():
        return None if text is None else int(text)
    raise typer.BadParameter(f"--tasks of toy is a whole number, but got {text!r}")


def _report(dataset: Dataset, picture: Path | None) -> None:
    """Print what came out, and draw it."""
    from duchenne_jobs.data import face_report, save_report_figure

    seen = face_report(dataset)
    for line in seen.lines():
        typer.echo(line)
    typer.echo(f"figure: {save_report_figure(seen, picture or _report_picture(dataset.uri))}")


def _report_picture(uri: str) -> Path:
    """Beside a local dataset; in the current folder for a bucket."""
    return Path(f"{uri if '://' not in uri else uri.rsplit('/', 1)[-1]}-report.png")


@app.command()
def synth(
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New folder for the raw dataset.")],
    like: Annotated[str, typer.Option(metavar="{disfa,bp4d}", help="The dataset whose raw format is written.")],
    subjects: Annotated[int | None, typer.Option(help="How many people; all 27 or 41 if not given.")] = None,
    frames: Annotated[int, typer.Option(help="Frames of each of them.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Height and width of a picture.")] = 256,
    noise: Annotated[float, typer.Option(metavar="RATE", help="Share of labels that a coder got wrong.")] = 0.0,
    contact_sheet: Annotated[Path | None, typer.Option(metavar="PNG", help="Also draw what each AU does.")] = None,
) -> None:
    """Draw faces that do not exist, in exactly the raw folder format of a dataset, for `data ingest` to read."""
    from duchenne.cli.progress import bar
    from duchenne_jobs.data.synth.contact import save_unit_sheet
    from duchenne_jobs.data.synth.options import SynthOptions
    from duchenne_jobs.data.synth.raw import synthesise

    options = SynthOptions(like, subjects, frames, seed, size, noise)
    with bar(f"drawing faces like {like}", unit="faces") as advance:
        folder = synthesise(options, destination, progress=advance)
    faces = options.subject_count * options.frames
    typer.echo(f"{folder}: {faces} faces of {options.subject_count} subjects like {like}")
    if contact_sheet is not None:
        typer.echo(f"contact sheet: {save_unit_sheet(like, seed, contact_sheet)}")


@app.command()
def verify(uri: Uri) -> None:
    """Check every shard against the manifest: bytes, checksums, schema, labels, subjects."""
    from duchenne.cli.progress import bar
    from duchenne_jobs.data import open_dataset

    dataset = open_dataset(uri)
    with bar(f"verifying {uri}", unit="bytes") as advance:
        dataset.verify(advance)
    typer.echo(
        f"{dataset.uri}: ok, {dataset.row_count} rows in {len(dataset.manifest.shards)} shards, {dataset.digest}"
    )


@app.command(name="show")
def show_dataset(
    uri: Uri,
    out: Annotated[Path | None, typer.Option("--out", help="Also draw label frequencies into this PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a dataset holds: rows, subjects, tasks, label frequencies, licence."""
    from dataclasses import asdict

    from duchenne_jobs.data import open_dataset, save_contact_sheet, save_label_figure, summary

    dataset = open_dataset(uri)
    seen = summary(dataset)
    if as_json:
        print_json(asdict(seen))
    else:
        from duchenne.cli.tables import dataset_tables, show

        for part in dataset_tables(seen):
            show(part)
    if out is not None:
        drawn = [save_label_figure(dataset, out)]
        if "image" in dataset.manifest.columns:
            drawn.append(save_contact_sheet(dataset, out.with_stem(f"{out.stem}-faces")))
        for path in drawn:
            typer.echo(f"figure: {path}", err=as_json)


@app.command(name="ls")
def list_datasets(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder or s3:// prefix to look under.")],
    as_json: Json = False,
) -> None:
    """List the datasets at or under a folder or prefix."""
    from dataclasses import asdict

    from duchenne_jobs.data import find_datasets

    found = find_datasets(place)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        typer.echo(f"no dataset under {place}", err=True)
    for one in found:
        what = one.error or f"{one.name}, {one.rows} rows, {one.subjects} subjects, {one.tasks} tasks, {one.digest}"
        typer.echo(f"{one.uri}: {what}")


@app.command()
def forget(
    uri: Uri,
    subject: Annotated[str, typer.Option("--subject", metavar="ID", help="Who is to be forgotten.")],
    home: Home = HOME,
) -> None:
    """Rewrite a dataset without one subject, purge caches, and mark and name the results that used it."""
    from duchenne.cli.progress import bar
    from duchenne_jobs.data import forget_subject, open_dataset

    before = open_dataset(uri)
    past = tuple(event.previous_digest for event in before.manifest.events)
    if past:  # once more, lest a run that was killed did not come to it
        _withdraw(past, before.digest, resolve(home))
    with bar(f"forgetting a subject of {uri}", unit="bytes") as advance:
        done = forget_subject(uri, subject, advance)
    _report_picture(done.uri).unlink(missing_ok=True)  # the picture of the ingest's report names every subject
    typer.echo(f"{done.uri}: {done.rows} rows forgotten, {done.purged} cached files purged, {done.digest}")
    for line in _withdraw(done.previous_digests, done.digest, resolve(home)):
        typer.echo(line)
    typer.echo("not reached: caches of other machines, copies, backups and old versions of the objects in a bucket")


def _withdraw(digests: tuple[str, ...], replaced_by: str, home: Path) -> list[str]:
    """Mark what used the old data in the records of the home, if it has any; one line for each sweep and entry."""
    from getpass import getuser

    from duchenne.records import open_home
    from duchenne.records.store import SQLITE_NAME

    if not (home / SQLITE_NAME).is_file():
        return [f"no records in {home}: results elsewhere that used {digests[-1]} are not marked"]
    lines = []
    with open_home(home) as store:
        for digest in digests:
            for sweep in store.withdraw_dataset(digest, replaced_by=replaced_by, actor=getuser()):
                entries = [entry.id for entry in store.entries(sweep=sweep.id)]
                lines.append(f"marked: sweep {sweep.id} used the old data; entries: {', '.join(entries) or 'none'}")
    return lines or [f"no result in {home} used the old data"]
