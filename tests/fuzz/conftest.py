"""Odd input for everything that takes input: the same in every run, more of it with `make fuzz`."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How many times the usual number of examples is tried.
TIMES = int(os.environ.get("FUZZ", "0"))

settings.register_profile(
    "drawqueue",
    # Without FUZZ always the same examples: a commit fails for what is in it.
    derandomize=not TIMES,
    max_examples=60 * max(1, TIMES),
    database=None,
    deadline=None,
    print_blob=True,
    # A house is made once for all examples of a test, and has no state that they share.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("drawqueue")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """One database is enough where odd input never reaches it."""
    return f"sqlite:///{tmp_path / 'rows.sqlite3'}"
