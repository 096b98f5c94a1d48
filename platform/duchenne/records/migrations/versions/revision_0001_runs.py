"""Sweeps, trials, fold jobs, attempts, results and events: what was asked and what ran."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweep",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("spec_text", sa.Text(), nullable=False),
        sa.Column("spec_digest", sa.Text(), nullable=False),
        sa.Column("dataset_uri", sa.Text(), nullable=False),
        sa.Column("dataset_digest", sa.Text()),
        sa.Column("folds_digest", sa.Text()),
        sa.Column("code_revision", sa.Text()),
        sa.Column("image", sa.Text()),
        sa.Column("budget_usd", sa.Double()),
        sa.Column("budget_gpu_seconds", sa.Double()),
        sa.Column("budget_wall_seconds", sa.Double()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text()),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("lock_token", sa.Text()),
        sa.Column("lock_holder", sa.Text()),
        sa.Column("lock_since", sa.DateTime(timezone=True)),
        sa.Column("lock_expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep")),
    )
    op.create_index(op.f("ix_sweep_board"), "sweep", ["board"])
    op.create_index(op.f("ix_sweep_created_at"), "sweep", ["created_at"])
    op.create_table(
        "trial",
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("value", sa.Double()),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_trial_sweep_sweep")),
        sa.PrimaryKeyConstraint("sweep", "number", name=op.f("pk_trial")),
    )
    op.create_table(
        "fold_job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("fold", sa.Integer(), nullable=False),
        sa.Column("inner", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("predictions", sa.Text()),
        sa.Column("predictions_digest", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_fold_job_sweep_sweep")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fold_job")),
        sa.UniqueConstraint("sweep", "trial", "phase", "method", "fold", "inner", "seed", name="uq_fold_job_key"),
    )
    op.create_index(op.f("ix_fold_job_sweep_state"), "fold_job", ["sweep", "state"])
    op.create_table(
        "attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fold_job", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("outcome", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("seconds", sa.Double()),
        sa.Column("epochs", sa.Integer()),
        sa.ForeignKeyConstraint(["fold_job"], ["fold_job.id"], name=op.f("fk_attempt_fold_job_fold_job")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
        sa.UniqueConstraint("fold_job", "number", name=op.f("uq_attempt_fold_job_number")),
    )
    op.create_table(
        "result",
        sa.Column("fold_job", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["fold_job"], ["fold_job.id"], name=op.f("fk_result_fold_job_fold_job")),
        sa.PrimaryKeyConstraint("fold_job", "epoch", name=op.f("pk_result")),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sweep", sa.Text()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_event_sweep_sweep")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_sweep_at"), "event", ["sweep", "at"])
