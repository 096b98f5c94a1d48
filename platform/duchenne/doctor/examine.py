"""All checks, in the order in which a sweep meets what they look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from duchenne.doctor.finding import Finding


def examine(
    home: Path, clusters_file: Path | None = None, cluster: str | None = None, data: str | None = None
) -> Iterator[Finding]:
    """Look at this machine, its services and its clusters.

    Args:
        home: folder of records, datasets, checkpoints and predictions.
        clusters_file: the clusters file; None takes the default one, which need not exist.
        cluster: the only cluster to look at; None looks at all of the file.
        data: `s3://BUCKET/PREFIX` that sweeps shall read; None looks at the configured endpoint alone.
    """
    from duchenne.doctor.clusters import cluster_findings
    from duchenne.doctor.machine import machine_findings
    from duchenne.doctor.services import records_finding, storage_finding

    yield from machine_findings(home)
    yield records_finding(home)
    yield storage_finding(data)
    yield from cluster_findings(clusters_file, cluster)
