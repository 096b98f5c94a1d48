"""Running totals of the leases of each sweep, computed from those that there are, and which leases nobody reported on.

Leases that ran out before keep what was presumed of them: their holders are gone.

Revises 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_UNITS = ("nano_usd", "gpu_ms", "wall_ms")


def upgrade() -> None:
    with op.batch_alter_table("lease") as batch:
        batch.add_column(sa.Column("presumed", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "account",
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("open_leases", sa.Integer(), nullable=False),
        *(sa.Column(f"{side}_{unit}", sa.BigInteger()) for side in ("reserved", "spent", "wasted") for unit in _UNITS),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_account_sweep_sweep")),
        sa.PrimaryKeyConstraint("sweep", name=op.f("pk_account")),
    )
    op.create_table(
        "account_month",
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        *(sa.Column(f"spent_{unit}", sa.BigInteger()) for unit in _UNITS),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_account_month_sweep_sweep")),
        sa.PrimaryKeyConstraint("sweep", "month", name=op.f("pk_account_month")),
    )
    _add_up()


def _add_up() -> None:
    """One pass over the leases. A unit is NULL where no lease counts it, and 0 where none that does is on that side."""
    reserved = [
        f"CASE WHEN COUNT(reserved_{unit}) > 0 "
        f"THEN COALESCE(SUM(reserved_{unit}) FILTER (WHERE settled_at IS NULL), 0) END"
        for unit in _UNITS
    ]
    spent = [f"SUM(spent_{unit}) FILTER (WHERE settled_at IS NOT NULL)" for unit in _UNITS]
    wasted = [f"SUM(spent_{unit}) FILTER (WHERE settled_at IS NOT NULL AND wasted)" for unit in _UNITS]
    op.execute(
        f"INSERT INTO account SELECT sweep, COUNT(*) FILTER (WHERE settled_at IS NULL), "  # noqa: S608 - own names alone
        f"{', '.join(reserved + spent + wasted)} FROM lease GROUP BY sweep"
    )
    sqlite = op.get_bind().dialect.name == "sqlite"
    month = "strftime('%Y-%m', settled_at)" if sqlite else "to_char(settled_at AT TIME ZONE 'UTC', 'YYYY-MM')"
    sums = ", ".join(f"SUM(spent_{unit})" for unit in _UNITS)
    op.execute(
        f"INSERT INTO account_month SELECT sweep, {month}, {sums} "  # noqa: S608
        f"FROM lease WHERE settled_at IS NOT NULL GROUP BY 1, 2"
    )
