"""The sweeps under jobs/sweeps/thesis stand for the rows of the published tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.boards.published import PublishedTable, published_tables
from duchenne.reproduction.lines import board_of
from duchenne.spec import load_sweep

SWEEPS = Path(__file__).parents[2] / "jobs" / "sweeps" / "thesis"
BOARDS = {load_sweep(path).board: load_sweep(path) for path in sorted(SWEEPS.glob("table_*.yaml"))}
OWN = {"vmnc", "vmns", "mrnn", "monet", "mtts", "mttc"}


@pytest.mark.parametrize(
    "table",
    [table for table in published_tables() if board_of(table) in BOARDS],
    ids=lambda table: f"{table.table}-{table.dataset}",
)
def test_each_row_of_ours_is_a_method_of_the_sweep(table: PublishedTable) -> None:
    sweep = BOARDS[board_of(table)]
    methods = {sweep.model.name, *(comparator.name for comparator in sweep.comparators)}
    others = {"DRML", "EAC-Net", "DSIN", "JAA-Net", "LP-Net", "CMS", "ARL", "SRERL", "JAANET", "HMP-PS", "SEV-Net"}
    wanted = {row.key for row in table.rows if row.method not in {*others, "FAUwT", "UGN-B"}}
    assert wanted <= methods


def test_every_table_has_a_sweep() -> None:
    missing = {board_of(table) for table in published_tables() if table.table not in ("since", "4.2")} - set(BOARDS)
    assert not missing
