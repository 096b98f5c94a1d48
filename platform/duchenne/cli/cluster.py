"""Verbs about clusters: what a sweep would create there, creating it, and following it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duchenne.cli.mistakes import DONE, FAILED, OUT_OF_BUDGET
from duchenne.cli.options import HOME, Home, Json, SweepFile, SweepId, print_json, resolve

if TYPE_CHECKING:
    from duchenne.clusters.port import Port, Status
    from duchenne.spec import Sweep

ClusterName = Annotated[str | None, typer.Option("--cluster", help="A cluster of the clusters file, or `local`.")]
ClusterFile = Annotated[
    Path | None, typer.Option("--cluster-file", help="The clusters file; default ~/.config/duchenne/clusters.yaml.")
]
Code = Annotated[
    Path | None,
    typer.Option("--code", help="A checkout to run on a Ray cluster, in place of what is installed there."),
]
ENDS = {"failed": FAILED, "stopped": FAILED, "exhausted": OUT_OF_BUDGET}


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(manifests)
    app.command()(submit)
    app.command()(watch)
    app.command()(logs)


def manifests(
    path: SweepFile,
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Print what `submit` would create: Kubernetes objects, a Ray job, a process. Touches nothing."""
    from duchenne.clusters.kubernetes.cluster import KubernetesPort
    from duchenne.spec import load_sweep

    sweep = load_sweep(path)
    port = _planned(sweep, cluster, cluster_file, resolve(home))
    items = port.preview(sweep)
    for note in port.notes(sweep) if isinstance(port, KubernetesPort) else []:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json(items)
        return
    typer.echo(_as_yaml(items), nl=False)


def submit(
    path: SweepFile,
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
    code: Code = None,
    home: Home = HOME,
) -> None:
    """Send a sweep to a cluster; on Kubernetes it starts when the queue has room."""
    from duchenne.clusters.file import LOCAL, load_clusters
    from duchenne.clusters.opening import open_cluster
    from duchenne.spec import load_sweep

    sweep = load_sweep(path)
    clusters = load_clusters(cluster_file)
    chosen = clusters.chosen(cluster or (sweep.cluster if sweep.cluster != LOCAL else None))
    sweep_id = open_cluster(clusters.get(chosen), resolve(home), code).submit(sweep)
    typer.echo(f"sweep: {sweep_id}")
    typer.echo(f"next: duchenne watch {sweep_id} --cluster {chosen}")


def watch(
    sweep_id: SweepId,
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
    home: Home = HOME,
    as_json: Json = False,
) -> None:
    """Follow a sweep until it ends, with the reason while it waits."""
    statuses = named_port(cluster, cluster_file, home).watch(sweep_id)
    last = _print_as_json(statuses) if as_json else _print_lines(statuses)
    raise typer.Exit(ENDS.get(last, DONE))


def logs(
    sweep_id: SweepId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the driver ends.")] = False,
    cluster: ClusterName = None,
    cluster_file: ClusterFile = None,
    home: Home = HOME,
) -> None:
    """Print the log of a sweep's driver."""
    for line in named_port(cluster, cluster_file, home).logs(sweep_id, follow):
        typer.echo(line)


def named_port(cluster: str | None, cluster_file: Path | None, home: Path) -> Port:
    """The port of the cluster that a command names, else of the default one."""
    from duchenne.clusters.file import load_clusters
    from duchenne.clusters.opening import open_cluster

    clusters = load_clusters(cluster_file)
    return open_cluster(clusters.get(clusters.chosen(cluster)), resolve(home))


def _planned(sweep: Sweep, name: str | None, file: Path | None, home: Path) -> Port:
    """The cluster that is named by the command or the sweep; a plain Kubernetes one where no file describes any."""
    from duchenne.clusters.config import KubernetesCluster
    from duchenne.clusters.file import LOCAL, load_clusters
    from duchenne.clusters.opening import open_cluster

    clusters = load_clusters(file)
    chosen = name or (sweep.cluster if sweep.cluster != LOCAL else None)
    if chosen is None and not clusters.by_name:
        typer.echo(f"note: {clusters.source} describes no cluster: namespace, image and nodes are defaults", err=True)
        return open_cluster(KubernetesCluster(), home)
    return open_cluster(clusters.get(clusters.chosen(chosen)), home)


def _print_lines(statuses: Iterable[Status]) -> str:
    """A line a status; returns the last state."""
    state = ""
    for status in statuses:
        state = status.state
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        typer.echo(f"{now} {state}" + (f": {status.detail}" if status.detail else ""))
        sys.stdout.flush()
    return state


def _print_as_json(statuses: Iterable[Status]) -> str:
    """One JSON list, an item a status, each as it comes; returns the last state."""
    state = ""
    for status in statuses:
        item = {"at": datetime.now(UTC).isoformat(), "state": status.state, "detail": status.detail}
        typer.echo(("," if state else "[") + json.dumps(item))
        sys.stdout.flush()
        state = status.state
    typer.echo("]" if state else "[]")
    return state


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
