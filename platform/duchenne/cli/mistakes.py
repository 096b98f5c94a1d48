"""What an exception means to the person who typed the command: one message and an exit code."""

from __future__ import annotations

DONE = 0
FAILED = 1
WRONG_INPUT = 2
OUT_OF_BUDGET = 3


def explain(error: Exception) -> tuple[str, int]:
    """(message, exit code) of an exception that reached the command line."""
    from duchenne.plan.teams import TeamBudgetSpent
    from duchenne.records.errors import LockHeldError, NotFoundError, RecordsConflictError, RecordsError
    from duchenne.search.errors import SearchBroken
    from duchenne.spec import SpecError

    if isinstance(error, SpecError):
        return str(error), WRONG_INPUT
    if isinstance(error, NotFoundError | RecordsConflictError):
        return f"error: {error}", WRONG_INPUT
    if isinstance(error, LockHeldError | RecordsError | SearchBroken):
        return f"error: {error}", FAILED
    if isinstance(error, TeamBudgetSpent):
        return f"error: {error}", OUT_OF_BUDGET
    if isinstance(error, _data_errors()):
        return f"error: {error}", WRONG_INPUT
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"error: {error.strerror or error}{where}", FAILED
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"error: {type(error).__name__}: {first_line} (--debug shows where)", FAILED


def _data_errors() -> tuple[type[Exception], ...]:
    from duchenne.clusters.errors import ClusterError
    from duchenne.clusters.local import TooSmall
    from duchenne.monitoring.errors import MonitoringError
    from duchenne.notifications.webhooks import WebhookError
    from duchenne.plan.least import BudgetRefused
    from duchenne.search.warm_start import WarmStartRefused
    from duchenne_jobs.data import DatasetError, FoldError, LeakError

    return (
        BudgetRefused,
        ClusterError,
        DatasetError,
        FoldError,
        LeakError,
        MonitoringError,
        TooSmall,
        WarmStartRefused,
        WebhookError,
    )
