"""The pools and what feeds them: workers, GPUs, queues, faces a second, the cache, S3."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from duchenne.monitoring import catalogue as metrics
from duchenne.monitoring.catalogue import Metric
from duchenne.monitoring.dashboards.panels import WINDOW, board, lines
from duchenne.monitoring.queries import SWEEP, rate

UID: Final = "duchenne-pool"


def dashboard() -> Dashboard:
    """Pool and stream."""
    used = f"{rate(metrics.BUSY, SWEEP, WINDOW, 'sweep')} / {_sum(metrics.WORKERS, 'sweep')}"
    return (
        board(UID, "Duchenne: pool and stream", "What the drivers of running sweeps say.", sweeps=True)
        .with_panel(lines("Workers", "none", (_sum(metrics.WORKERS, "sweep", "state"), "{{sweep}} {{state}}"), width=8))
        .with_panel(lines("GPUs", "none", (_sum(metrics.GPUS, "sweep", "state"), "{{sweep}} {{state}}"), width=8))
        .with_panel(lines("Share of the workers at work", "percentunit", (used, "{{sweep}}"), width=8))
        .with_panel(
            lines("Segments that wait", "none", (_sum(metrics.QUEUE, "sweep", "phase"), "{{sweep}} {{phase}}"), width=8)
        )
        .with_panel(
            lines(
                "Segments that run", "none", (_sum(metrics.RUNNING, "sweep", "phase"), "{{sweep}} {{phase}}"), width=8
            )
        )
        .with_panel(
            lines(
                "Leases that lapsed, queues that answer",
                "none",
                (_sum(metrics.LAPSED, "sweep"), "{{sweep}} lapsed"),
                (_sum(metrics.UP, "sweep"), "{{sweep}} answers"),
                width=8,
            )
        )
        .with_panel(lines("Faces", "none", (rate(metrics.IMAGES, SWEEP, WINDOW, "sweep"), "{{sweep}}/s")))
        .with_panel(
            lines(
                "Steps that wait for faces",
                "none",
                (rate(metrics.WAIT, SWEEP, WINDOW, "sweep"), "{{sweep}} workers waiting"),
                (rate(metrics.STALLS, SWEEP, WINDOW, "sweep"), "{{sweep}} stalls/s"),
                description="Workers waiting: seconds of waiting a second. A stall is a wait of more than a second.",
            )
        )
        .with_panel(
            lines("Cache", "none", (rate(metrics.CACHE, SWEEP, WINDOW, "sweep", "result"), "{{sweep}} {{result}}/s"))
        )
        .with_panel(
            lines(
                "S3",
                "none",
                (rate(metrics.S3_ATTEMPTS, SWEEP, WINDOW, "sweep"), "{{sweep}} attempts/s"),
                (rate(metrics.S3_ERRORS, SWEEP, WINDOW, "sweep", "kind"), "{{sweep}} {{kind}}/s"),
            )
        )
        .with_panel(
            lines(
                "Since an epoch was filed",
                "s",
                (f"time() - max by (sweep) ({metrics.DRIVER_PROGRESS.name}{{{SWEEP}}})", "{{sweep}}"),
                width=24,
            )
        )
    )


def _sum(metric: Metric, *by: str) -> str:
    return f"sum by ({', '.join(by)}) ({metric.name}{{{SWEEP}}})"
