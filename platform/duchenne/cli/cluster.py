"""Verbs about clusters: what a sweep would create there, and creating it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duchenne.cli.mistakes import DONE, FAILED
from duchenne.cli.options import Json, SweepFile, print_json

if TYPE_CHECKING:
    from duchenne.clusters.config import KubernetesCluster
    from duchenne.spec import Sweep

ClusterName = Annotated[
    str | None, typer.Option("--cluster", help="A cluster of the clusters file; the sweep's own without it.")
]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster-file", help="The clusters file; default ~/.config/duchenne/clusters.yaml.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(manifests)
    app.command()(submit)
    app.command()(watch)
    app.command()(logs)


def manifests(
    path: SweepFile, cluster: ClusterName = None, cluster_file: ClusterFile = None, as_json: Json = False
) -> None:
    """Print the Kubernetes objects that `submit` would create; touches nothing."""
    from duchenne.clusters.kubernetes import manifests as make_manifests
    from duchenne.clusters.kubernetes.manifests import notes
    from duchenne.spec import load_sweep

    sweep = load_sweep(path)
    place = _kubernetes(sweep, cluster, cluster_file)
    items = make_manifests(sweep, place)
    for note in notes(sweep, place):
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json(items)
        return
    typer.echo(_as_yaml(items), nl=False)


def submit(path: SweepFile, cluster: ClusterName = None, cluster_file: ClusterFile = None) -> None:
    """Send a sweep to a cluster; it starts when the queue has room."""
    from duchenne.clusters.kubernetes.submit import submit as submit_sweep
    from duchenne.spec import load_sweep

    sweep = load_sweep(path)
    place = _kubernetes(sweep, cluster, cluster_file)
    sweep_id = submit_sweep(sweep, place)
    typer.echo(f"sweep: {sweep_id}")
    typer.echo(f"next: duchenne watch {sweep_id}" + (f" --cluster {cluster}" if cluster else ""))


def watch(
    sweep_id: Annotated[str, typer.Argument(metavar="ID", help="The sweep's id, as `submit` printed it.")],
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
) -> None:
    """Follow a sweep on a cluster until it ends, with the reason while it waits."""
    from duchenne.clusters.file import load_clusters
    from duchenne.clusters.kubernetes.api import Api
    from duchenne.clusters.kubernetes.watching import watch as watch_sweep

    last = None
    for last in watch_sweep(sweep_id, Api.connect(load_clusters(cluster_file).kubernetes(cluster))):
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        typer.echo(f"{now} {last.state}" + (f": {last.detail}" if last.detail else ""))
    raise typer.Exit(FAILED if last is not None and last.state == "failed" else DONE)


def logs(
    sweep_id: Annotated[str, typer.Argument(metavar="ID", help="The sweep's id, as `submit` printed it.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the driver ends.")] = False,
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
) -> None:
    """Print the log of a sweep's driver on a cluster."""
    from duchenne.clusters.file import load_clusters
    from duchenne.clusters.kubernetes.api import Api
    from duchenne.clusters.kubernetes.watching import logs as log_lines

    for line in log_lines(sweep_id, Api.connect(load_clusters(cluster_file).kubernetes(cluster)), follow):
        typer.echo(line)


def _kubernetes(sweep: Sweep, name: str | None, file: Path | None) -> KubernetesCluster:
    """The cluster that is named by the command or the sweep; a plain one where no file describes any."""
    from duchenne.clusters.config import KubernetesCluster
    from duchenne.clusters.file import LOCAL, load_clusters

    clusters = load_clusters(file)
    chosen = name or (sweep.cluster if sweep.cluster != LOCAL else None)
    if chosen is None and not clusters.by_name:
        typer.echo(f"note: {clusters.source} describes no cluster: namespace, image and nodes are defaults", err=True)
        return KubernetesCluster()
    return clusters.kubernetes(chosen)


def _as_yaml(items: list[dict[str, Any]]) -> str:
    """YAML documents, with the spec in its ConfigMap as lines that a person can read."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Its own class: a representer of SafeDumper would be everyone's."""

        def ignore_aliases(self, data: object) -> bool:
            """Objects repeat labels; references between them would only puzzle a reader."""
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    return str(yaml.dump_all(items, Dumper=Dumper, sort_keys=False, allow_unicode=True))
