"""`duchenne data`: bring datasets in, check them, look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from duchenne.cli.options import Json, print_json

app = typer.Typer(help="Datasets: ingest, verify, show.", no_args_is_help=True, rich_markup_mode=None)

Uri = Annotated[str, typer.Argument(metavar="URI", help="Folder or s3:// prefix of the dataset.")]


@app.command()
def ingest(
    name: Annotated[str, typer.Argument(metavar="{yeast,toy}", help="The kind of dataset.")],
    places: Annotated[
        list[str], typer.Argument(metavar="[SRC] DST", help="Raw folder where the kind has one, and destination.")
    ],
    count: Annotated[int | None, typer.Option(help="toy: rows.")] = None,
    tasks: Annotated[int | None, typer.Option(help="toy: tasks.")] = None,
    seed: Annotated[int | None, typer.Option(help="toy: seed of the rows.")] = None,
) -> None:
    """Turn a raw dataset into Arrow shards. yeast (inside river's wheel) and toy (drawn) need no SRC."""
    from duchenne.cli.progress import bar
    from duchenne_jobs.data import ingest as ingest_dataset

    if len(places) > 2:
        raise typer.BadParameter(f"[SRC] DST must be one or two places, but got {len(places)}; quote paths with spaces")
    options = {key: value for key, value in (("count", count), ("tasks", tasks), ("seed", seed)) if value is not None}
    source = places[0] if len(places) == 2 else None
    with bar(f"ingesting {name}", unit="rows") as advance:
        dataset = ingest_dataset(name, source, places[-1], progress=advance, **options)
    typer.echo(f"{dataset.uri}: {dataset.row_count} rows, {len(dataset.tasks)} tasks, {dataset.digest}")


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
