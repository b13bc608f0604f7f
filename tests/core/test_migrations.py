"""Migrations make exactly the tables that are declared, on both databases."""

import json
import subprocess
import sys

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from core.database import SEARCH, WORDS, Database, generations, metadata
from migrations import migrate
from tests.tables import ROOT


def test_the_migrated_schema_equals_the_tables(database_url: str) -> None:
    migrate(database_url)
    database = Database(database_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
        # What SQLite keeps beside the tables for SEARCH is compared as it is written.
        beside = [] if database.engine.dialect.name == "postgresql" else [*SEARCH]
        written = text("SELECT sql FROM sqlite_master WHERE name = :name")
        searches = [connection.execute(written, {"name": name}).scalar() for name in beside]
    database.close()
    known = ("alembic_version", *(f"Table('{name}" for name in beside))
    assert [d for d in differences if not any(name in str(d) for name in known)] == []
    assert searches == [SEARCH[name] for name in beside]


def test_the_words_of_rows_of_before_are_found(database_url: str) -> None:
    migrate(database_url, "0006")
    database = Database(database_url)
    row = {
        "id": 1, "event": "e", "state": "done", "prompt": "an odd\0 light\\u0000house",
        "moment": "2026-11-01 00:00:00+00:00",
    }  # fmt: skip
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO generations (id, platform, event, asker, asker_name, address, "
                "request, state, attempt, restarts, version, enqueued, results, created, "
                "shown_version, shown_media, mentioned, person) VALUES (:id, 'web', :event, 'ann', "
                "'', '{}', :request, :state, 1, 0, 1, 0, '[]', :moment, 0, 0, 0, 'web:ann')"
            ),
            {**row, "request": json.dumps({"prompt": row["prompt"]})},
        )
    migrate(database_url)
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            words = text(f"SELECT {WORDS} FROM generations")
            assert "'odd'" in connection.execute(words).scalar_one()
            kept = connection.execute(select(generations.c.request)).scalar_one()
            assert kept == {"prompt": "an odd light\\u0000house"}, "only the NUL is gone"
        else:
            found = text("SELECT rowid FROM prompts WHERE prompts MATCH 'odd'")
            assert connection.execute(found).scalars().all() == [1]
    database.close()


def test_three_processes_may_migrate_at_once(database_url: str) -> None:
    code = f"from migrations import migrate; migrate({database_url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
