"""Every metric by name: the one list that collectors, dashboards, rules and `docs/metrics.md` are held against.

A metric has one source. `driver`: the process of `duchenne run`, which speaks for its pool and workers. `records`:
whoever reads the database, for all sweeps. `server`: the requests that this process answered. Units are base units;
money is in US dollars.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["gauge", "counter", "histogram"]
Source: TypeAlias = Literal["driver", "records", "server"]


@dataclass(frozen=True)
class Metric:
    """One metric family.

    Attributes:
        name: as Prometheus shows it; a histogram's without `_bucket`, `_sum` and `_count`.
        help: one line.
        labels: in the order in which values are given.
    """

    name: str
    kind: Kind
    source: Source
    help: str
    labels: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The name that prometheus-client wants: a counter's without `_total`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name


_SWEEP: Final = ("sweep", "team")


def _driver(name: str, kind: Kind, text: str, *labels: str) -> Metric:
    return Metric(f"duchenne_{name}", kind, "driver", text, (*_SWEEP, *labels))


def _sweep(name: str, text: str, *labels: str, kind: Kind = "gauge") -> Metric:
    return Metric(f"duchenne_sweep_{name}", kind, "records", text, (*_SWEEP, *labels))


def _records(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"duchenne_{name}", "gauge", "records", text, labels)


# The driver, its pool, and the processes of its workers.
UP: Final = _driver("pool_up", "gauge", "1 if the pool's queue answered this scrape, else 0 and nothing else is told.")
WORKERS: Final = _driver(
    "pool_workers",
    "gauge",
    "Workers by state: `busy` holds a segment, `idle` waits for one, `starting` has not asked yet.",
    "state",
)
GPUS: Final = _driver("pool_gpus", "gauge", "GPUs held by workers that are `busy` or `idle`.", "state")
QUEUE: Final = _driver("pool_queue_segments", "gauge", "Segments of fold jobs that wait for a worker.", "phase")
RUNNING: Final = _driver("pool_running_segments", "gauge", "Segments of fold jobs in a worker's hands.", "phase")
BUSY: Final = _driver("pool_busy_seconds_total", "counter", "Worker-seconds spent under leases.")
LAPSED: Final = _driver(
    "pool_leases_lapsed_total", "counter", "Leases that ran out under a worker that went on, and were taken anew."
)
JOB_SECONDS: Final = _driver(
    "fold_job_duration_seconds", "histogram", "Worker-seconds of the attempt that ended a fold job for good.", "phase"
)
JOBS_ENDED: Final = _driver(
    "fold_jobs_ended_total",
    "counter",
    "Fold jobs that ended for good since the driver began, by how.",
    "phase",
    "outcome",
)
RETRIES: Final = _driver(
    "fold_job_retries_total",
    "counter",
    "Segments run again since the job raised (`code`), its worker or node went away (`eviction`), or another's death "
    "restarted its group (`group`).",
    "cause",
)
EPOCHS: Final = _driver("epochs_total", "counter", "Epochs filed.", "phase")
DRIVER_PROGRESS: Final = _driver(
    "driver_last_progress_timestamp_seconds", "gauge", "Unix time when an epoch was filed last, or the pool began."
)
IMAGES: Final = _driver("stream_images_total", "counter", "Faces that workers were given in batches.")
WAIT: Final = _driver("stream_wait_seconds_total", "counter", "Seconds that steps waited for their batches of faces.")
STALLS: Final = _driver("stream_stalls_total", "counter", "Steps that waited for more than a second.")
CACHE: Final = _driver(
    "cache_requests_total", "counter", "Shards and decoded pixels asked of the local cache: `hit`, `miss`.", "result"
)
S3_ATTEMPTS: Final = _driver(
    "s3_attempts_total", "counter", "Attempts to move a shard, or a part of one, to or from S3."
)
S3_ERRORS: Final = _driver(
    "s3_errors_total",
    "counter",
    "Attempts that failed: `denied` (403, throttling too), `server` (5xx, 429), `connection`, `other`.",
    "kind",
)

# The records, for the sweeps that are active or ended not long ago.
STATE: Final = _sweep("state", "1 for the state that the sweep is in, 0 for the others.", "state")
TRIALS: Final = _sweep("trials", "Trials by state.", "state")
FOLD_JOBS: Final = _sweep("fold_jobs", "Fold jobs by phase and state.", "phase", "state")
ATTEMPTS: Final = _sweep("attempts_total", "Attempts of fold jobs by how they ended.", "outcome", kind="counter")
SPENT_USD: Final = _sweep("spent_usd", "Settled leases, in dollars.")
SPENT_GPU: Final = _sweep("spent_gpu_seconds", "Settled leases, in GPU-seconds.")
SPENT_WALL: Final = _sweep("spent_wall_seconds", "Settled leases, in seconds of wall time.")
RESERVED_USD: Final = _sweep("reserved_usd", "Open leases, in dollars.")
RESERVED_GPU: Final = _sweep("reserved_gpu_seconds", "Open leases, in GPU-seconds.")
RESERVED_WALL: Final = _sweep("reserved_wall_seconds", "Open leases, in seconds of wall time.")
BUDGET_USD: Final = _sweep("budget_usd", "The sweep's limit in dollars.")
BUDGET_GPU: Final = _sweep("budget_gpu_seconds", "The sweep's limit in GPU-seconds.")
BUDGET_WALL: Final = _sweep("budget_wall_seconds", "The sweep's limit in seconds of wall time.")
USED: Final = _sweep("budget_used_ratio", "(spent + reserved) / limit, for each limit that is set.", "limit")
OPEN_LEASES: Final = _sweep("open_leases", "Leases that are not settled.")
EXPIRIES: Final = _sweep(
    "lease_expiries_total", "Leases that ran out unsettled: their holders vanished.", kind="counter"
)
UNDELIVERED: Final = _sweep("notification_failures_total", "Notifications that were not delivered.", kind="counter")
PROGRESS: Final = _sweep(
    "last_progress_timestamp_seconds", "Unix time of the last epoch, ended fold job, or driver's start."
)
MONTH_SPENT_USD: Final = _records("team_month_spent_usd", "Leases settled in this month (UTC), in dollars.", "team")
MONTH_SPENT_GPU: Final = _records("team_month_spent_gpu_seconds", "The same in GPU-seconds.", "team")
MONTH_RESERVED_USD: Final = _records("team_month_reserved_usd", "Open leases of the team, in dollars.", "team")
MONTH_RESERVED_GPU: Final = _records("team_month_reserved_gpu_seconds", "The same in GPU-seconds.", "team")
MONTH_BUDGET_USD: Final = _records("team_month_budget_usd", "The team's limit of a month in dollars.", "team")
MONTH_BUDGET_GPU: Final = _records("team_month_budget_gpu_seconds", "The same in GPU-seconds.", "team")
SWEEPS: Final = _records("sweeps", "All sweeps on record, by state.", "state")
LEFT_OUT: Final = _records("sweeps_left_out", "Sweeps and teams without series of their own, since there are too many.")
ENTRIES: Final = _records("entries", "Entries of all boards.")
RECORDS_UP: Final = _records("records_up", "1 if the records could be read for this scrape, else 0.")
RECORDS_SECONDS: Final = _records("records_read_seconds", "How long the reading took.")

# What this server answered.
REQUESTS: Final = Metric(
    "duchenne_http_request_duration_seconds",
    "histogram",
    "server",
    "Time to answer, by method, route template and class of status (`2xx`); for an event stream, to its first byte.",
    ("method", "route", "status"),
)
IN_PROGRESS: Final = Metric(
    "duchenne_http_requests_in_progress", "gauge", "server", "Requests whose answer is not complete."
)

METRICS: Final[tuple[Metric, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order of this file."""
