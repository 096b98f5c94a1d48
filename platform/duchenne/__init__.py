"""The control plane: sweep files, plans, search, fold pool, records, leaderboards and the command line.

Belongs here: what decides, schedules, records and shows. Does not belong here: anything that touches a row or a tensor
(package `duchenne_jobs`).

    import duchenne
    end = duchenne.run("sweep.yaml")
    duchenne.results(end.id)          # pandas.DataFrame
    duchenne.leaderboard(end.board)   # pandas.DataFrame
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duchenne.notebook import leaderboard, results, resume, run, sweeps

__all__ = ["leaderboard", "results", "resume", "run", "sweeps"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command line's light verbs must not wait for pandas, torch or Ray."""
    if name in __all__:
        from duchenne import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
