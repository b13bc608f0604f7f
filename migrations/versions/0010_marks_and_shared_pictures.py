"""Favourites and tags, and pictures that are shared by a link."""

import sqlalchemy as sa
from alembic import op

from core.database import Moment

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "marks",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("generation", "place", "tag", name=op.f("pk_marks")),
    )
    op.create_table(
        "shared",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("prompt", sa.Boolean(), nullable=False),
        sa.Column("until", Moment, nullable=False),
        sa.PrimaryKeyConstraint("generation", "place", name=op.f("pk_shared")),
    )


def downgrade() -> None:
    op.drop_table("shared")
    op.drop_table("marks")
