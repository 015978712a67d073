"""Sessions, revoked keys, the database's identity, and what has to happen outside."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    installation = op.create_table(
        "installation",
        sa.Column("only", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(32), nullable=False),
    )
    op.bulk_insert(installation, [{"only": 1, "id": uuid4().hex}])
    op.add_column("api_keys", sa.Column("revoked_at", sa.DateTime(timezone=True)))
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_hash"], ["api_keys.key_hash"]),
    )
    op.create_table(
        "outside_tasks",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
    )
    with op.batch_alter_table("export_jobs") as jobs:
        jobs.add_column(
            sa.Column("remote", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        jobs.add_column(
            sa.Column("progress_at_start", sa.Double(), nullable=False, server_default="0")
        )
        jobs.add_column(sa.Column("warnings", sa.JSON(), nullable=False, server_default="[]"))
    op.execute("UPDATE export_jobs SET remote = (modal_call_id IS NOT NULL)")


def downgrade() -> None:
    with op.batch_alter_table("export_jobs") as jobs:
        jobs.drop_column("warnings")
        jobs.drop_column("progress_at_start")
        jobs.drop_column("remote")
    op.drop_table("outside_tasks")
    op.drop_table("sessions")
    op.drop_column("api_keys", "revoked_at")
    op.drop_table("installation")
