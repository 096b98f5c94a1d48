"""The leaderboard: what entries reach, how sure that is, and which of them can be told apart.

Belongs here: statistics over recorded predictions, and the ranking. Does not belong here: computing predictions
(`duchenne_jobs.evaluation`), recording entries (`duchenne.records`) or printing (`duchenne.cli`).

Importing this package loads numpy, and neither torch, Ray, pandas nor SciPy.
"""

from duchenne.boards.board import BoardRow, rank
from duchenne.boards.counts import CountsError, EntryCounts, FoldCounts, count_predictions, read_counts
from duchenne.boards.report import EntryReport, Estimate, MetricReport, report_entry
from duchenne.boards.statistics import (
    Bootstrap,
    Difference,
    RankInterval,
    bootstrap_f1,
    paired_difference,
    tie_groups,
)
from duchenne.boards.verify import Verification, verify

__all__ = [
    "BoardRow",
    "Bootstrap",
    "CountsError",
    "Difference",
    "EntryCounts",
    "EntryReport",
    "Estimate",
    "FoldCounts",
    "MetricReport",
    "RankInterval",
    "Verification",
    "bootstrap_f1",
    "count_predictions",
    "paired_difference",
    "rank",
    "read_counts",
    "report_entry",
    "tie_groups",
    "verify",
]
