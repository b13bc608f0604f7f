"""Models, LoRAs, VAEs and upscalers that moderators add, hide and choose."""

import sqlalchemy as sa
from alembic import op

from core.database import Moment

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "offered",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("source", sa.String(500), nullable=False, server_default=""),
        sa.Column("added_by", sa.String(80), nullable=False),
        sa.Column("added", Moment, nullable=False),
        sa.Column("hidden", sa.Boolean(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(200), nullable=False, server_default=""),
        sa.Column("picture", sa.String(200), nullable=False, server_default=""),
        sa.Column("facts", sa.JSON(none_as_null=True)),
        sa.Column("fault", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_offered")),
    )


def downgrade() -> None:
    op.drop_table("offered")
