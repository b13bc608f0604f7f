"""Who holds which stored picture, which requests are the same, questions with pictures."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BATCH = 1000


def upgrade() -> None:
    files = op.create_table(
        "files",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", "generation", name=op.f("pk_files")),
    )
    op.create_index("ix_files_generation", "files", ["generation"])
    with op.batch_alter_table("generations") as table:
        table.add_column(sa.Column("fingerprint", sa.String(64)))
        table.create_index("ix_generations_fingerprint", ["fingerprint"])
    with op.batch_alter_table("proposals") as table:
        table.add_column(
            sa.Column("command", sa.String(16), nullable=False, server_default="imagine")
        )
        table.add_column(sa.Column("pictures", sa.JSON(), nullable=False, server_default="[]"))
    generations = sa.table("generations", sa.column("id"), sa.column("results", sa.JSON()))
    connection, last = op.get_bind(), 0
    while rows := connection.execute(
        sa.select(generations)
        .where(generations.c.id > last)
        .order_by(generations.c.id)
        .limit(_BATCH)
    ).all():
        last = rows[-1].id
        held = [
            {"key": str(result["key"]), "generation": row.id}
            for row in rows
            for result in row.results
        ]
        if held:
            connection.execute(sa.insert(files), held)


def downgrade() -> None:
    with op.batch_alter_table("generations") as table:
        table.drop_index("ix_generations_fingerprint")
        table.drop_column("fingerprint")
    with op.batch_alter_table("proposals") as table:
        table.drop_column("pictures")
        table.drop_column("command")
    op.drop_index("ix_files_generation", table_name="files")
    op.drop_table("files")
