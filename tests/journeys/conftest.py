"""Stories that rest on the rows are told twice: on SQLite and on a real PostgreSQL."""

from collections.abc import Callable

import pytest

from tests.conftest import new_postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"


def pytest_configure(config: pytest.Config) -> None:
    for told in (
        "both_databases: told on SQLite and on PostgreSQL; without it on SQLite alone",
        "on_postgresql: told on PostgreSQL alone",
    ):
        config.addinivalue_line("markers", told)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which databases a story is told on; those of one database are told in a row."""
    if "new_database" in metafunc.fixturenames:
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        told = [SQLITE] if "on_postgresql" not in marks else [POSTGRESQL]
        if "both_databases" in marks:
            told = [SQLITE, POSTGRESQL]
        metafunc.parametrize("new_database", told, indirect=True, scope="module")


@pytest.fixture(scope="module")
def new_database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes a DATABASE_URL that no other house has; empty for the file in its home."""
    if request.param == SQLITE:
        return lambda: ""
    server: str = request.getfixturevalue("postgres_url")
    return lambda: new_postgres(server)
