"""Leases and entries: what it cost and what came out.

Revises 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lease",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("resource", sa.JSON(), nullable=False),
        sa.Column("reserved_nano_usd", sa.BigInteger()),
        sa.Column("reserved_gpu_ms", sa.BigInteger()),
        sa.Column("reserved_wall_ms", sa.BigInteger()),
        sa.Column("spent_nano_usd", sa.BigInteger()),
        sa.Column("spent_gpu_ms", sa.BigInteger()),
        sa.Column("spent_wall_ms", sa.BigInteger()),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True)),
        sa.Column("wasted", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_lease_sweep_sweep")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
    )
    op.create_index(op.f("ix_lease_sweep_settled_at"), "lease", ["sweep", "settled_at"])
    op.create_table(
        "entry",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("verified", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("per_fold", sa.JSON(), nullable=False),
        sa.Column("predictions", sa.JSON(), nullable=False),
        sa.Column("dataset_digest", sa.Text(), nullable=False),
        sa.Column("folds_digest", sa.Text(), nullable=False),
        sa.Column("cost_usd", sa.Double()),
        sa.Column("gpu_hours", sa.Double()),
        sa.Column("trials", sa.Integer()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_entry_sweep_sweep")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entry")),
        sa.UniqueConstraint("sweep", "method", name=op.f("uq_entry_sweep_method")),
    )
    op.create_index(op.f("ix_entry_board"), "entry", ["board"])
