"""Odd input for everything that takes input: the same in every run, more of it with `make fuzz`."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from tests.conftest import PSYCOPG, new_postgres

# How many times the usual number of examples is tried.
TIMES = int(os.environ.get("FUZZ", "0"))

settings.register_profile(
    "drawqueue",
    # Without FUZZ always the same examples: a commit fails for what is in it.
    derandomize=not TIMES,
    max_examples=40 * max(1, TIMES),
    database=None,
    deadline=None,
    print_blob=True,
    # A house is made once for all examples of a test, and has no state that they share.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("drawqueue")


def some(share: float) -> Any:
    """A share of the usual number of examples, for those that cost more."""
    return settings(max_examples=max(1, int(settings.default.max_examples * share)))


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, which is enough where odd input never reaches it; PostgreSQL where a test says so."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'rows.sqlite3'}"
    made = make_url(new_postgres(request.getfixturevalue("postgres_url")))
    return made.set(drivername=PSYCOPG).render_as_string(hide_password=False)
