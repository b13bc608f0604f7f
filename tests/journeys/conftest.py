"""Stories that rest on the rows are told twice: on SQLite and on a real PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import new_postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"


def pytest_configure(config: pytest.Config) -> None:
    for told in (
        "both_databases: told on SQLite and on PostgreSQL (slow=True: there in `make slow`); "
        "without it on SQLite alone",
        "on_postgresql: told on PostgreSQL alone",
    ):
        config.addinivalue_line("markers", told)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which databases a story is told on; those of one database are told in a row."""
    if "new_database" in metafunc.fixturenames:
        marks = {mark.name: mark for mark in metafunc.definition.iter_markers()}
        told: list[Any] = [SQLITE] if "on_postgresql" not in marks else [POSTGRESQL]
        if both := marks.get("both_databases"):
            late = [pytest.mark.slow] if both.kwargs.get("slow") else []
            told = [SQLITE, pytest.param(POSTGRESQL, marks=late)]
        metafunc.parametrize("new_database", told, indirect=True, scope="module")


@pytest.fixture(scope="module")
def new_database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes a DATABASE_URL that no other house has; empty for the file in its home."""
    if request.param == SQLITE:
        return lambda: ""
    server: str = request.getfixturevalue("postgres_url")
    return lambda: new_postgres(server)
