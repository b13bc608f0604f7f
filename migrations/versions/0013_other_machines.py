"""Where a drawing stands in line, what other machines call it, what was written, its cost."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "generations", sa.Column("line", sa.String(16), nullable=False, server_default="draw")
    )
    op.add_column("generations", sa.Column("task", sa.JSON()))
    op.add_column("generations", sa.Column("text", sa.Text()))
    op.add_column("generations", sa.Column("cost", sa.Float(), nullable=False, server_default="0"))
    paid = sa.text("cost > 0")
    op.create_index(
        "ix_generations_paid", "generations", ["created"], postgresql_where=paid, sqlite_where=paid
    )
    op.add_column("usage", sa.Column("cost", sa.Float(), nullable=False, server_default="0"))
    op.add_column("usage", sa.Column("copied_cost", sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("copied_cost", "cost"):
        op.drop_column("usage", name)
    op.drop_index("ix_generations_paid", "generations")
    for name in ("cost", "text", "task", "line"):
        op.drop_column("generations", name)
