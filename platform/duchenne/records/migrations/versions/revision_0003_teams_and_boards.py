"""Teams, tokens and boards as the server shows them; the audit knows whose line it is.

Entries that were recorded before get no standing here: the server registers them when it starts, from their files.

Revises 0002.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FILTERED_BY = ["team", "method", "status", "kind", "cost_usd", "created_at", "on_frontier"]
_SORTED_BY = ("f1_mean", "f1_deflated", "auc", "cost_usd", "gpu_hours", "trials", "created_at")


def upgrade() -> None:
    _teams()
    _boards()
    with op.batch_alter_table("event") as batch:
        batch.add_column(sa.Column("team", sa.Text()))
    op.create_index(op.f("ix_event_team_id"), "event", ["team", "id"])
    # A bound time of the migration, not CURRENT_TIMESTAMP: SQLite would store it in another form than the records do.
    now = datetime.now(UTC)
    if op.get_bind().dialect.name == "sqlite":
        now = now.replace(tzinfo=None)
    sweep = sa.table("sweep", sa.column("team", sa.Text()))
    team = sa.table("team", sa.column("name", sa.Text()), sa.column("created_at", sa.DateTime(timezone=True)))
    for (name,) in op.get_bind().execute(sa.select(sweep.c.team).distinct()).all():
        op.get_bind().execute(sa.insert(team).values(name=name, created_at=now))


def _teams() -> None:
    op.create_table(
        "team",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("usd_per_month", sa.Double()),
        sa.Column("gpu_hours_per_month", sa.Double()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_team")),
    )
    op.create_table(
        "member",
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["team"], ["team.name"], name=op.f("fk_member_team_team")),
        sa.PrimaryKeyConstraint("team", "who", name=op.f("pk_member")),
    )
    op.create_index(op.f("ix_member_who"), "member", ["who"])
    op.create_table(
        "token",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("team", sa.Text()),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(["team"], ["team.name"], name=op.f("fk_token_team_team")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_team"), "token", ["team"])
    op.create_table(
        "idempotency",
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"])


def _boards() -> None:
    op.create_table(
        "board",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("team", sa.Text()),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("ranked_version", sa.Integer(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_board")),
    )
    op.create_index(op.f("ix_board_team"), "board", ["team"])
    op.create_table(
        "standing",
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("board_name", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("sweep", sa.Text()),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("method", "label", "kind", "status")),
        sa.Column("reason", sa.Text()),
        sa.Column("cohort", sa.Text()),
        *_numbers("f1_mean", "ci_low", "ci_high", "f1_deflated"),
        sa.Column("rank_low", sa.Integer()),
        sa.Column("rank_high", sa.Integer()),
        *_numbers("auc", "f1_micro", "subset_accuracy", "log_loss", "accuracy", "f1_pooled", "auc_pooled"),
        *_numbers("calibration_error", "f1_inner_threshold", "f1_oracle", "cost_usd", "gpu_hours"),
        *(sa.Column(name, sa.Integer()) for name in ("trials", "seeds", "subjects")),
        sa.Column("on_frontier", sa.Boolean(), nullable=False),
        sa.Column("tasks", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["board"], ["board.id"], name=op.f("fk_standing_board_board")),
        sa.ForeignKeyConstraint(["sweep"], ["sweep.id"], name=op.f("fk_standing_sweep_sweep")),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_standing")),
    )
    for column in _SORTED_BY:
        name = op.f(f"ix_standing_board_{column}_entry")
        op.create_index(name, "standing", ["board", column, "entry"], postgresql_include=_FILTERED_BY)
    for columns in (
        ("board", "team", "f1_mean"),
        ("board", "method", "f1_mean"),
        ("board", "on_frontier"),
        ("team", "board_name"),
        ("sweep",),
    ):
        op.create_index(op.f(f"ix_standing_{'_'.join(columns)}"), "standing", list(columns))
    op.create_table(
        "resamples",
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("f1", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["standing.entry"], name=op.f("fk_resamples_entry_standing")),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_resamples")),
    )
    op.create_table(
        "external_entry",
        sa.Column("entry", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("description", "upload_digest", "uploaded_by", "dataset_digest", "folds_digest")
        ),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("metrics", "per_fold", "predictions")),
        sa.ForeignKeyConstraint(["entry"], ["standing.entry"], name=op.f("fk_external_entry_entry_standing")),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_external_entry")),
    )
    op.create_table(
        "truth",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("dataset_digest", "folds_digest", "path", "digest")),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("dataset_digest", "folds_digest", name=op.f("pk_truth")),
    )


def _numbers(*names: str) -> list["sa.Column[float]"]:
    return [sa.Column(name, sa.Double()) for name in names]
