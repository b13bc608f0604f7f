"""Which names are settings; those that need mending are told by name, and no secret is shown."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core import catalog, settings
from core.cli import app
from core.supervisor import listening

SECRET = "GrEeN5eKr3T"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DATABASE_URL", f"postgresql://bob:{SECRET}@host:port/db", "must be such as postgresql"),
        ("DATABASE_URL", f"mysql://bob:{SECRET}@host/db", "must be such as postgresql"),
        ("DATABASE_URL", f"postgresql+asyncpg://bob:{SECRET}@h/db", "driver for it is installed"),
        ("REDIS_URL", f"http://:{SECRET}@host", "must be such as redis"),
        ("REDIS_URL", f"redis://:{SECRET}@host:port/0", "must be such as redis"),
        ("REDIS_URL", f"redis://:{SECRET}@host?nothing=1", "must be such as redis"),
        ("DRAWQUEUE_MEDIA_URL", f"nothing://{SECRET}@host", "must be a folder"),
        ("DISCORD_TOKEN", f"{SECRET}\nnext", "must be one line of text"),
        ("DRAWQUEUE_WEB_KEY", f"{SECRET}\udcff", "must be one line of text"),
        ("DRAWQUEUE_WEB_PORT", SECRET, "should be a valid integer"),
        ("DRAWQUEUE_JOB_TIMEOUT", "9" * 30, "should be less than or equal to 86400"),
        ("DRAWQUEUE_THREADS", "1e999", "should be a valid integer"),
        ("DRAWQUEUE_MODEL_MEMORY_GB", "nan", "should be"),
        ("DRAWQUEUE_HOME", "what?", "without ? and %"),
        ("DRAWQUEUE_HOME", "/dev/null/x", "cannot be made (Not a directory)"),
        ("DRAWQUEUE_HOME", "x" * 5000, "cannot be made (File name too long)"),
    ],
)
def test_a_mistake_is_told_by_name_and_meaning(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == 2 and not told.stderr, told.output
    assert f"{name}: " in told.output and words in told.output
    assert SECRET not in told.output and "Value error" not in told.output


def test_a_database_that_is_well_addressed_is_left_alone() -> None:
    for url in ("postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg://u@h/d"):
        assert settings.Storage(DATABASE_URL=url).database == "postgresql+psycopg://u@h/d"
    assert settings.Storage(DATABASE_URL="sqlite:///x").database == "sqlite:///x"


@pytest.mark.parametrize(
    "body", [f"DISCORD_TOKEN={SECRET}\xff".encode("latin-1"), b"\xff\xfeD\x00"]
)
def test_an_env_file_that_is_no_text_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    (tmp_path / ".env").write_bytes(body)
    for section in settings.SECTIONS:
        monkeypatch.setitem(section.model_config, "env_file", str(tmp_path / ".env"))
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == 2 and "text file in UTF-8" in told.output
    assert SECRET not in told.output


def test_a_fault_of_the_settings_shows_no_secret() -> None:
    with pytest.raises(ValueError) as fault:
        settings.Storage(DATABASE_URL=f"postgresql://bob:{SECRET}@host:port/db")
    assert SECRET not in str(fault.value)


def test_a_model_whose_name_is_no_files_is_on_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "x" * 5000)
    assert list(catalog.models()) == ["x" * 5000]


def test_an_address_that_nobody_can_listen_on_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "192.0.2.1", "é" * 99):
            with pytest.raises(OSError, match=f"port {port}: the port is taken, or"):
                listening(host, port)


def test_only_the_documented_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HOME` and `USER` are everybody's, and `PORT` or `TOKEN` some other program's."""
    before = [section() for section in settings.SECTIONS]
    names = {name for section in settings.SECTIONS for name in section.model_fields}
    documented = {
        str(f.alias) for section in settings.SECTIONS for f in section.model_fields.values()
    }
    assert {"home", "user", "port", "token"} <= names
    for name in names - {alias.lower() for alias in documented}:
        monkeypatch.setenv(name.upper(), "17")
    assert [section() for section in settings.SECTIONS] == before


def test_a_documented_name_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in settings.SECTIONS:
        for name, field in section.model_fields.items():
            default = field.get_default()
            value = "17" if isinstance(default, int) and not isinstance(default, bool) else "true"
            value = {"DATABASE_URL": "sqlite:///x", "REDIS_URL": "redis://x"}.get(
                str(field.alias), value
            )
            monkeypatch.setenv(str(field.alias), value)
            assert getattr(section(), name) != default, field.alias
            monkeypatch.delenv(str(field.alias))
