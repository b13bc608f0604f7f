"""What people and chats want where nothing is said, their presets, and how a picture used them."""

import sqlalchemy as sa
from alembic import op

from core.database import Moment

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tastes",
        sa.Column("who", sa.String(96), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.Column("changed", Moment, nullable=False),
        sa.PrimaryKeyConstraint("who", "name", name=op.f("pk_tastes")),
    )
    op.create_table(
        "presets",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("given", sa.JSON(), nullable=False),
        sa.Column("created", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presets")),
        sa.UniqueConstraint("owner", "key", name=op.f("uq_presets_owner_key")),
    )
    op.create_table(
        "shares",
        sa.Column("place", sa.String(96), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("preset", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("place", "key", name=op.f("pk_shares")),
    )
    op.create_index(op.f("ix_shares_preset"), "shares", ["preset"])
    op.add_column(
        "generations", sa.Column("manner", sa.JSON(), nullable=False, server_default="{}")
    )


def downgrade() -> None:
    op.drop_column("generations", "manner")
    op.drop_table("shares")
    op.drop_table("presets")
    op.drop_table("tastes")
