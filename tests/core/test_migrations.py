"""Migrations make exactly the tables that are declared, on both databases."""

import subprocess
import sys

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from core.database import Database, metadata
from migrations import migrate
from tests.tables import ROOT


def test_the_migrated_schema_equals_the_tables(database_url: str) -> None:
    migrate(database_url)
    database = Database(database_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    database.close()
    assert [d for d in differences if "alembic_version" not in str(d)] == []


def test_three_processes_may_migrate_at_once(database_url: str) -> None:
    code = f"from migrations import migrate; migrate({database_url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
