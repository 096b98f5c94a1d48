"""The thesis' numbers beside ours, from the records of the sweeps under `jobs/sweeps/thesis`.

Belongs here: matching published rows with entries, and the page that shows both. Does not belong here: what is
published (`duchenne.boards.published`) or how a number is made (the sweeps, the boards).
"""

from duchenne.reproduction.lines import Line, ReproducedTable, reproduced_tables
from duchenne.reproduction.page import write_page

__all__ = ["Line", "ReproducedTable", "reproduced_tables", "write_page"]
