"""Whose a generation is, what the policy counts, linked accounts, and requests asked about."""

import sqlalchemy as sa
from alembic import op

from core.database import Moment

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("generations") as table:
        table.add_column(sa.Column("person", sa.String(80), nullable=False, server_default=""))
        table.add_column(sa.Column("chat", sa.String(96), nullable=False, server_default=""))
        table.add_column(sa.Column("class_name", sa.String(32), nullable=False, server_default=""))
        table.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("charged", sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("due", Moment()))
        table.drop_index("ix_generations_platform_asker_id")
        table.create_index("ix_generations_person_id", ["person", "id"])
        table.create_index("ix_generations_person_state", ["person", "state"])
        table.create_index("ix_generations_chat_state", ["chat", "state"])
    op.execute("UPDATE generations SET person = platform || ':' || asker")
    # A poster sends cards that no message shows: not those of before it could.
    op.execute(
        "UPDATE generations SET undeliverable = 'from before' WHERE message IS NULL "
        "AND state IN ('done', 'failed', 'cancelled')"
    )
    with op.batch_alter_table("people") as table:
        table.add_column(sa.Column("person", sa.String(80)))
        table.add_column(sa.Column("chosen", sa.String(32)))
        table.add_column(sa.Column("granted", sa.String(32)))
        table.create_index("ix_people_person", ["person"])
    op.create_table(
        "links",
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("platform", sa.String(16), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("until", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_links")),
    )
    op.create_table(
        "usage",
        sa.Column("who", sa.String(96), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("last", Moment()),
        sa.Column("copied_jobs", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("copied_seconds", sa.Float(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("who", "day", name=op.f("pk_usage")),
    )
    op.create_table(
        "proposals",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("platform", sa.String(16), nullable=False),
        sa.Column("event", sa.String(128), nullable=False),
        sa.Column("asker", sa.String(64), nullable=False),
        sa.Column("given", sa.JSON(), nullable=False),
        sa.Column("address", sa.JSON(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("answer", sa.String(8)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposals")),
        sa.UniqueConstraint("platform", "event", name=op.f("uq_proposals_platform_event")),
    )


def downgrade() -> None:
    for name in ("proposals", "usage", "links"):
        op.drop_table(name)
    with op.batch_alter_table("people") as table:
        table.drop_index("ix_people_person")
        for name in ("granted", "chosen", "person"):
            table.drop_column(name)
    with op.batch_alter_table("generations") as table:
        for name in ("chat_state", "person_state", "person_id"):
            table.drop_index(f"ix_generations_{name}")
        table.create_index("ix_generations_platform_asker_id", ["platform", "asker", "id"])
        for name in ("due", "charged", "priority", "class_name", "chat", "person"):
            table.drop_column(name)
