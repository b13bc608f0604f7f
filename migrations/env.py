"""Alembic's entry: one connection, one transaction, and one migrator at a time."""

from alembic import context
from sqlalchemy import text

from core.database import Database, metadata
from core.settings import Storage, read

LOCK = 0x44726177  # any number that is only ours, for pg_advisory_xact_lock


def run() -> None:
    """Migrate the database of the settings, or the one handed over in the configuration."""
    url = context.config.attributes.get("url") or read(Storage).database
    database = Database(url)
    # BEGIN IMMEDIATE (SQLite) and the lock (PostgreSQL) let three processes start together.
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        context.configure(
            connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True
        )
        with context.begin_transaction():
            context.run_migrations()
    database.close()


run()
