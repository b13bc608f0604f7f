"""`drawqueue doctor` says what is wrong and what to do, and never hangs."""

import os
import subprocess
import sys
from pathlib import Path

from migrations import migrate
from tests.conftest import ROOT


def doctor(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core.cli", "doctor"], cwd=ROOT, capture_output=True, text=True,
        timeout=90, env={**os.environ, "DRAWQUEUE_HOME": str(home), **environment},
    )  # fmt: skip


def test_all_is_well(tmp_path: Path, redis_url: str) -> None:
    migrate(f"sqlite:///{tmp_path / 'drawqueue.sqlite3'}")
    told = doctor(tmp_path, REDIS_URL=redis_url, DRAWQUEUE_MODEL="pattern")
    assert told.returncode == 0, told.stdout
    assert "✗" not in told.stdout and "worker" in told.stdout


def test_what_is_wrong_is_told_in_words(tmp_path: Path) -> None:
    told = doctor(
        tmp_path,
        REDIS_URL="redis://127.0.0.1:1/0",
        DRAWQUEUE_MODEL="pattern",
        DRAWQUEUE_WEB_HOST="0.0.0.0",
        TELEGRAM_TOKEN="123:SECRET",
        TELEGRAM_API_URL="http://127.0.0.1:1/bot",
        DISCORD_TOKEN="SECRET",
        DISCORD_API_URL="http://127.0.0.1:1/api/v10",
    )
    assert told.returncode == 1
    for words in ("drawqueue migrate", "REDIS_URL", "DRAWQUEUE_WEB_KEY", "TELEGRAM_API_URL",
                  "DISCORD_API_URL"):  # fmt: skip
        assert words in told.stdout, told.stdout
    assert "SECRET" not in told.stdout + told.stderr and "Traceback" not in told.stdout


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    told = doctor(tmp_path, DRAWQUEUE_WEB_PORT="eighty")
    assert told.returncode == 2 and "DRAWQUEUE_WEB_PORT" in told.stdout
    assert "Traceback" not in told.stderr
