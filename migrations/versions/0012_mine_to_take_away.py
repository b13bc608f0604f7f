"""Forgetting a person, reports of pictures, and exports."""

import sqlalchemy as sa
from alembic import op

from core.database import Moment

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "generations", sa.Column("removed", sa.String(16), nullable=False, server_default="")
    )
    op.create_table(
        "leavers",
        sa.Column("person", sa.String(80), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("newest", sa.Integer(), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("asked", Moment, nullable=False),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_leavers")),
    )
    op.create_table(
        "reports",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("reporter", sa.String(80), nullable=False),
        sa.Column("reporter_name", sa.String(128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.Column("decision", sa.String(16)),
        sa.Column("decided_by", sa.String(80), nullable=False, server_default=""),
        sa.Column("decided_name", sa.String(128), nullable=False, server_default=""),
        sa.Column("decided", Moment),
        sa.Column("words", sa.Text(), nullable=False, server_default=""),
        sa.Column("fingerprint", sa.String(64)),
        sa.PrimaryKeyConstraint("generation", "reporter", name=op.f("pk_reports")),
    )
    op.create_index(op.f("ix_reports_fingerprint"), "reports", ["fingerprint"])
    op.create_index(op.f("ix_reports_decision"), "reports", ["decision"])
    op.create_table(
        "notices",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(96), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("shown_version", sa.Integer(), nullable=False),
        sa.Column("shown_media", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("message", sa.String(64)),
        sa.Column("editor", sa.String(64)),
        sa.Column("editor_until", Moment),
        sa.Column("undeliverable", sa.Text()),
        sa.PrimaryKeyConstraint("generation", "place", name=op.f("pk_notices")),
    )
    op.create_table(
        "exports",
        sa.Column("person", sa.String(80), nullable=False),
        sa.Column("asked", Moment, nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("files", sa.JSON()),
        sa.Column("left_out", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("fault", sa.Text(), nullable=False, server_default=""),
        sa.Column("builder", sa.String(64), nullable=False),
        sa.Column("builder_until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_exports")),
    )


def downgrade() -> None:
    for name in ("exports", "notices", "reports", "leavers"):
        op.drop_table(name)
    op.drop_column("generations", "removed")
