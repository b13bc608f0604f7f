"""Forgetting a person."""

import sqlalchemy as sa
from alembic import op

from core.database import Moment

revision = "0012"
down_revision = "0009"
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


def downgrade() -> None:
    op.drop_table("leavers")
    op.drop_column("generations", "removed")
