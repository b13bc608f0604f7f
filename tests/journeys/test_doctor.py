"""`drawqueue doctor` and `up` say what is wrong and what to do, before anything starts or hangs."""

import os
import pty
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from core import catalog, settings
from core.cli import _media_fault, _safety
from migrations import migrate
from tests import checkers
from tests.conftest import ROOT

KEY = "open sesame"


def drawqueue(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core.cli", *words], cwd=ROOT, capture_output=True, text=True,
        timeout=90, env={**os.environ, **environment},
    )  # fmt: skip


def doctor(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return drawqueue("doctor", DRAWQUEUE_HOME=str(home), **environment)


def test_all_is_well(tmp_path: Path, redis_url: str) -> None:
    migrate(f"sqlite:///{tmp_path / 'drawqueue.sqlite3'}")
    told = doctor(tmp_path, REDIS_URL=redis_url, DRAWQUEUE_MODEL="pattern")
    assert told.returncode == 0, told.stdout
    assert "✗" not in told.stdout and "worker" in told.stdout
    assert "✓ database\n" in told.stdout and "✓ home\n" in told.stdout


def test_what_looks_at_pictures_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(**environment: str) -> tuple[str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings._read.cache_clear()
        catalog.models.cache_clear()
        return _safety()

    own = checkers.with_own_check(tmp_path / "own")
    assert told(DRAWQUEUE_MODEL=own) == ("safety: the safety checker of own", "")
    _, note = told(DRAWQUEUE_MODEL=f"pattern,{own},somebody/sdxl")
    assert "own brings its own check; sdxl is checked if it brings" in note
    assert "nothing looks at what pattern draws. DRAWQUEUE_CLASSIFIER in .env" in note
    named = checkers.classifier(tmp_path / "classifier")
    assert told(DRAWQUEUE_CLASSIFIER=named)[0] == f"safety: {named} looks at every picture"


def test_a_classifier_that_cannot_mark_is_told(tmp_path: Path) -> None:
    named = checkers.classifier(tmp_path / "classifier")
    told = doctor(
        tmp_path, DRAWQUEUE_MODEL="pattern", DRAWQUEUE_CLASSIFIER=named,
        DRAWQUEUE_CLASSIFIER_LABELS="cats",
    )  # fmt: skip
    assert told.returncode == 1 and "✗ safety: " in told.stdout, told.stdout
    assert "none of its labels marks (normal, nsfw)" in told.stdout
    assert "Every picture counts as marked." in told.stdout and "Traceback" not in told.stdout


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    told = doctor(tmp_path / "not" / "yet", DRAWQUEUE_MODEL="pattern")
    assert told.returncode == 0, told.stdout
    assert "– database: not there yet; `drawqueue up` makes it" in told.stdout
    assert "– Redis: the embedded one runs only while `drawqueue up` does" in told.stdout
    assert "– discord: not set up" in told.stdout and "– telegram: not set up" in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    told = doctor(
        tmp_path / "file" / "home",
        DATABASE_URL="postgresql://ann:SECRET@127.0.0.1:1/x",
        REDIS_URL="redis://127.0.0.1:1/0",
        DRAWQUEUE_MEDIA_URL="/proc/pictures",
        DRAWQUEUE_MODEL=f"patern,{tmp_path}/nowhere,{tmp_path}/empty,kie",
        DRAWQUEUE_FAILOVER="patern, kei",
        DRAWQUEUE_TEXT_MODEL="opnai",
        DRAWQUEUE_DEVICE="cuda:77",
        DRAWQUEUE_WEB_HOST="0.0.0.0",
        TELEGRAM_TOKEN="123:SECRET",
        TELEGRAM_API_URL="http://127.0.0.1:1/bot",
        DISCORD_TOKEN="SECRET",
        DISCORD_API_URL="http://127.0.0.1:1/api/v10",
    )
    assert told.returncode == 1
    for words in ("file is a file", "DATABASE_URL", "REDIS_URL", "cannot write to /proc/pictures",
                  "no folder patern. Did you mean pattern?", "no folder " + str(tmp_path),
                  "empty is no model's folder", "torch finds no cuda:77", "DRAWQUEUE_WEB_KEY",
                  "TELEGRAM_API_URL", "DISCORD_API_URL", "remote: kie.ai needs its key",
                  "failover: DRAWQUEUE_FAILOVER: kei is not on offer. Did you mean kie?",
                  "DRAWQUEUE_TEXT_MODEL: There is no folder opnai. Did you mean openai?",
                  "nothing describes pictures; DRAWQUEUE_CAPTIONER"):  # fmt: skip
        assert words in told.stdout, told.stdout
    assert "SECRET" not in told.stdout + told.stderr and "Traceback" not in told.stdout


def test_a_storage_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fsspec reaches may be one; a file is written there and removed."""
    for url, fault in (
        ("memory://pictures", ""),
        ("ftp://ann:SECRET@127.0.0.1:1/y", "nothing can be written there"),
    ):
        monkeypatch.setenv("DRAWQUEUE_MEDIA_URL", url)
        settings._read.cache_clear()
        told = _media_fault()
        assert fault in told and bool(told) == bool(fault) and "SECRET" not in told


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    told = doctor(tmp_path, DRAWQUEUE_WEB_PORT="eighty")
    assert told.returncode == 2 and "DRAWQUEUE_WEB_PORT" in told.stdout
    assert "Traceback" not in told.stderr


def test_a_file_of_settings_that_is_no_utf8_is_a_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("DRAWQUEUE_HOME=caf\xe9\n".encode("latin-1"))
    told = subprocess.run(
        [sys.executable, "-m", "core.cli", "up"], cwd=tmp_path, capture_output=True, text=True,
        timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert told.returncode == 2 and ".env, line 1: not UTF-8" in told.stdout
    assert not told.stderr and [one.name for one in tmp_path.iterdir()] == [".env"]


def test_a_database_that_is_away_is_a_line_at_migrating(tmp_path: Path) -> None:
    told = drawqueue("migrate", DATABASE_URL="postgresql://ann:SECRET@127.0.0.1:1/x")
    assert told.returncode == 1
    assert told.stderr == "The database cannot be reached (OperationalError); check DATABASE_URL.\n"


@pytest.mark.parametrize(
    ("home", "environment", "words"),
    [
        ("", {}, "--home"),
        ("file", {}, "file is a file"),
        ("file/home", {}, "file is a file"),
        ("/proc/x", {}, "cannot write to /proc/x"),
        ("home", {"DRAWQUEUE_MODEL": "patern"}, "Did you mean pattern?"),
        pytest.param(
            "home",
            {"DRAWQUEUE_DEVICE": "cuda:77"},
            "torch finds no cuda:77",
            marks=pytest.mark.slow,
        ),
        ("home", {"DRAWQUEUE_WEB_HOST": "0.0.0.0"}, "set DRAWQUEUE_WEB_KEY"),
        ("home", {"REDIS_URL": "redis://127.0.0.1:1/0"}, "check REDIS_URL"),
        ("home", {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "check DATABASE_URL"),
    ],
)
def test_nothing_starts_where_it_could_not_work(
    tmp_path: Path, home: str, environment: dict[str, str], words: str
) -> None:
    (tmp_path / "file").touch()
    where = str(tmp_path / home) if home else ""
    told = drawqueue("up", "--home", where, **{"DRAWQUEUE_MODEL": "pattern", **environment})
    assert told.returncode in (1, 2)
    assert words in told.stdout + told.stderr
    assert "Traceback" not in told.stderr and "listening" not in told.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_port_in_use_is_one_line_and_nothing_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = drawqueue(
            "up", "--home", str(tmp_path), "--port", str(port), DRAWQUEUE_MODEL="pattern"
        )
    assert told.returncode == 1 and not told.stderr
    assert told.stdout == f"Port {port} is in use by another program. Choose another with --port.\n"
    assert not (tmp_path / "valkey").exists()


OPEN = {"DRAWQUEUE_WEB_HOST": "0.0.0.0", "DRAWQUEUE_WEB_KEY": KEY, "DRAWQUEUE_MODEL": "pattern"}


def test_a_terminal_is_told_the_address_with_the_key(tmp_path: Path) -> None:
    own, terminal = pty.openpty()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "core.cli", "up", "--home", str(tmp_path), "--port", str(port)],
        cwd=ROOT, env={**os.environ, **OPEN}, stdin=subprocess.DEVNULL, stdout=terminal,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(terminal)
    try:
        said, end = "", time.monotonic() + 60
        while "Ctrl-C" not in said and time.monotonic() < end:
            said += os.read(own, 4096).decode()
        address = f"http://127.0.0.1:{port}/?key=open%20sesame"
        assert address in said
        with httpx.Client(follow_redirects=True) as browser:
            assert "Tell me what to draw" in browser.get(address).text
    finally:
        process.terminate()
        process.wait(30)
        os.close(own)
