"""A short `make chaos` on each database; a seed that ever found a fault stays here."""

from pathlib import Path

import pytest

from tests.chaos import story


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("seed", "database"), [
    (101, "sqlite"), pytest.param(102, "postgresql", marks=pytest.mark.slow),
])  # fmt: skip
def test_plugs_are_pulled_and_nothing_is_lost_doubled_or_stuck(
    seed: int, database: str, tmp_path: Path
) -> None:
    told = story(tmp_path, seed, requests=24, kills=7, database=database)
    print(told)
    assert told["faults"] == []
    # What was killed and who was there to ask: else nothing was shown.
    assert sum(told["killed"].values()) >= 7 and told["rows"].get("done", 0) >= 8
