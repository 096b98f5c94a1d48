"""Ranks of a board: computed when its standings change, never when somebody looks."""

from __future__ import annotations

import numpy as np

from duchenne.boards import Bootstrap, tie_groups
from duchenne.records import RecordStore
from duchenne.records.standings import RankedEntry

_EMPTY = np.empty(0)


def rank_board(store: RecordStore, board: str, best: int) -> bool:
    """Compute the ranks of a board; False where it changed meanwhile and another call must rank it.

    Args:
        best: how many entries of a cohort are ranked: all pairs among them are compared at once.
    """
    version, cohorts = store.ranking_input(board, best)
    ranks: dict[str, tuple[int, int]] = {}
    for rows in cohorts.values():
        members = {row.entry: _bootstrap(row) for row in rows}
        sizes = {len(member.samples) for member in members.values()}
        if len(sizes) == 1:
            found = tie_groups(members)
            ranks |= {entry: (interval.rank_low, interval.rank_high) for entry, interval in found.items()}
    return store.save_ranks(board, version, ranks)


def _bootstrap(row: RankedEntry) -> Bootstrap:
    # `tie_groups` compares resamples; of the bounds it asks only whether there are any.
    bound = row.f1 if row.has_interval else None
    return Bootstrap(row.f1, bound, bound, np.frombuffer(row.resamples, dtype="<f8"), (), _EMPTY, _EMPTY, _EMPTY)
