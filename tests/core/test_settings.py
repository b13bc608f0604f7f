"""Which names of the environment are settings, what they take, and what is told of others."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from core import catalog, settings
from core.cli import app
from core.settings import SECTIONS, faults

SECRET = "GrEeN5eKr3T"

# What a setting takes that takes not any word.
VALUES = {
    "DRAWQUEUE_REMOTE_LIMITS": "kie=2/5",
    "DRAWQUEUE_TEXT_DEVICE": "cpu",
    "DRAWQUEUE_REUSE": "false",
    "DRAWQUEUE_PREVIEWS": "0",
    "DATABASE_URL": "postgresql://host/database",
    "REDIS_URL": "rediss://host/1",
    "DRAWQUEUE_DEVICE": "cuda:1",
    "DRAWQUEUE_CLASSIFIER_DEVICE": "cpu",
    "DRAWQUEUE_CLASSIFIER_THRESHOLD": "0.8",
    "DRAWQUEUE_PUBLIC_URL": "https://draw.example.org",
    "DISCORD_API_URL": "http://host:1/api",
    "DISCORD_GATEWAY_URL": "wss://host/gateway",
    "DRAWQUEUE_REGISTER": "anybody",
    "DISCORD_CLIENT_ID": "17",
    "DISCORD_AUTHORIZE_URL": "http://host:1/authorize",
    "TELEGRAM_LOGIN_URL": "http://host:1",
    "TELEGRAM_API_URL": "http://host:1/bot",
    "TELEGRAM_FILE_URL": "http://[::1]:1/file",
    "DRAWQUEUE_MODERATORS": "discord:1, web:user:local,discord:role:2",
    "DRAWQUEUE_REPORTS": "discord:channel:5",
}


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of settings that is read beside the environment."""
    path = tmp_path / ".env"
    for section in SECTIONS:
        monkeypatch.setitem(section.model_config, "env_file", str(path))
    return path


def test_only_the_documented_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HOME` and `USER` are everybody's, and `PORT` or `TOKEN` some other program's."""
    before = [section() for section in SECTIONS]
    names = {name for section in SECTIONS for name in section.model_fields}
    documented = {str(f.alias) for section in SECTIONS for f in section.model_fields.values()}
    assert {"home", "user", "port", "token"} <= names
    for name in names - {alias.lower() for alias in documented}:
        monkeypatch.setenv(name.upper(), "17")
    assert [section() for section in SECTIONS] == before


def test_a_documented_name_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in SECTIONS:
        for name, field in section.model_fields.items():
            default = field.get_default()
            value = "17" if isinstance(default, int) and not isinstance(default, bool) else "true"
            if str(field.alias).endswith("_URL"):
                value = "http://host"
            monkeypatch.setenv(str(field.alias), VALUES.get(str(field.alias), value))
            assert getattr(section(), name) != default, field.alias
            monkeypatch.delenv(str(field.alias))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DATABASE_URL", "foo", "postgresql://name:password@host/database"),
        ("DATABASE_URL", "mysql://ann:SECRET@host/x", "postgresql://name:password@host/database"),
        ("REDIS_URL", "bar", "redis://host:6379/0"),
        ("DRAWQUEUE_DEVICE", "toaster", "must be cpu, mps, cuda or"),
        ("DRAWQUEUE_WEB_HOST", "999.1.1.1", "must be an address or name of this machine"),
        ("DRAWQUEUE_WEB_HOST", "http://localhost", "must be an address or name of this machine"),
        ("DRAWQUEUE_WEB_PORT", "eighty", "must be a whole number."),
        ("DRAWQUEUE_DASHBOARD_PORT", "65536", "must be at most 65535."),
        ("DRAWQUEUE_MODEL_MEMORY_GB", "much", "must be a number."),
        ("DRAWQUEUE_PUBLIC_URL", "example", "https://draw.example.org"),
        ("DISCORD_GATEWAY_URL", "http://host", "ws://host:8081/gateway"),
        ("TELEGRAM_WEBHOOK", "maybe", "must be 1 or 0"),
        ("DRAWQUEUE_MODERATORS", "joe,discord:abc,discord:5", "and not “joe”, “discord:abc”."),
        ("DRAWQUEUE_MODERATORS", "discord:guild:5", "“discord:guild:5”"),
        (
            "DRAWQUEUE_REPORTS",
            "discord:channel:5, discord:guild:5, joe",
            "and not “discord:guild:5”, “joe”.",
        ),
    ],
)
def test_a_wrong_value_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    (told,) = faults()
    assert told.startswith(f"{name} must ") and words in told and told.endswith(".")
    assert "SECRET" not in told


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "DRAWQUEUE_WEBPORT=8099",
            "no setting DRAWQUEUE_WEBPORT. Did you mean DRAWQUEUE_WEB_PORT",
        ),
        ("drawqueue_port=8099", "Did you mean DRAWQUEUE_WEB_PORT?"),
        ("DISCORDTOKEN=x", "no setting DISCORDTOKEN. Did you mean DISCORD_TOKEN?"),
        ("DRAWQUEUE_XYZZY=x", "no setting DRAWQUEUE_XYZZY; .env.example has them all."),
    ],
)
def test_a_misspelt_name_is_told(env_file: Path, line: str, words: str) -> None:
    env_file.write_text(f"{line}\n")
    (told,) = faults()
    assert words in told


def test_the_names_of_others_are_theirs(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("POSTGRES_PASSWORD=x\nHF_HOME=/x\nDISCORD_TOKEN=x\nDISCORD_BOT_TOKEN=x\n")
    monkeypatch.setenv("DRAWQUEUE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("REDIS_URI", "x")
    assert faults() == []
    monkeypatch.setenv("DRAWQUEUE_DEVISE", "cpu")
    assert faults() == ["There is no setting DRAWQUEUE_DEVISE. Did you mean DRAWQUEUE_DEVICE?"]


def test_a_file_that_is_no_utf8_is_told_by_its_line(env_file: Path) -> None:
    env_file.write_bytes("DRAWQUEUE_THREADS=1\nDRAWQUEUE_HOME=café\n".encode("latin-1"))
    assert faults() == [".env, line 2: not UTF-8. Save the file as UTF-8."]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "DATABASE_URL",
            f"postgresql://bob:{SECRET}@host:port/db",
            "must be written like postgresql",
        ),
        ("DATABASE_URL", f"mysql://bob:{SECRET}@host/db", "must be written like postgresql"),
        ("DATABASE_URL", f"postgresql+asyncpg://bob:{SECRET}@h/db", "its driver be installed"),
        ("REDIS_URL", f"http://:{SECRET}@host", "must be written like redis"),
        ("REDIS_URL", f"redis://:{SECRET}@host:port/0", "must be written like redis"),
        ("REDIS_URL", f"redis://:{SECRET}@host?nothing=1", "must be written like redis"),
        ("DRAWQUEUE_MEDIA_URL", f"nothing://{SECRET}@host", "must be a folder"),
        ("DISCORD_TOKEN", f"{SECRET}\nnext", "must be one line of text"),
        ("DRAWQUEUE_WEB_KEY", f"{SECRET}\udcff", "must be one line of text"),
        ("DRAWQUEUE_WEB_PORT", SECRET, "must be a whole number"),
        ("DRAWQUEUE_JOB_TIMEOUT", "9" * 30, "must be at most 86400"),
        ("DRAWQUEUE_THREADS", "1e999", "must be a whole number"),
        ("DRAWQUEUE_MODEL_MEMORY_GB", "nan", "must be a number"),
        ("DRAWQUEUE_HOME", "what?", "without ? and %"),
        ("DRAWQUEUE_HOME", "x" * 5000, "name is too long"),
    ],
)
def test_a_mistake_is_told_by_name_and_meaning(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == 2 and not told.stderr, told.output
    assert f"{name}" in told.output and words in told.output
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
    assert told.exit_code == 2 and "Save the file as UTF-8" in told.output
    assert SECRET not in told.output


def test_a_fault_of_the_settings_shows_no_secret() -> None:
    with pytest.raises(ValueError) as fault:
        settings.Storage(DATABASE_URL=f"postgresql://bob:{SECRET}@host:port/db")
    assert SECRET not in str(fault.value)


def test_a_model_whose_name_is_no_files_is_on_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_MODEL", "x" * 5000)
    assert list(catalog.models()) == ["x" * 5000]


HTTPS = {"DRAWQUEUE_PUBLIC_URL": "https://draw.example.org"}
BEYOND = {"DRAWQUEUE_WEB_HOST": "0.0.0.0"}
DISCORD = {"DISCORD_CLIENT_ID": "15", "DISCORD_CLIENT_SECRET": SECRET}
TELEGRAM = {"TELEGRAM_TOKEN": f"123:{SECRET}", "TELEGRAM_CLIENT_SECRET": SECRET}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ""),
        (DISCORD, ""),
        (DISCORD | TELEGRAM | BEYOND | HTTPS, ""),
        (BEYOND | {"DRAWQUEUE_WEB_KEY": SECRET}, ""),
        (BEYOND | HTTPS | {"DRAWQUEUE_REGISTER": "anybody"}, ""),
        (BEYOND, "set DRAWQUEUE_WEB_KEY"),
        (BEYOND | HTTPS, "set DRAWQUEUE_WEB_KEY"),
        ({"DISCORD_CLIENT_ID": "15"}, "both DISCORD_CLIENT_ID and DISCORD_CLIENT_SECRET"),
        ({"DISCORD_CLIENT_SECRET": SECRET}, "both DISCORD_CLIENT_ID and DISCORD_CLIENT_SECRET"),
        ({"TELEGRAM_CLIENT_SECRET": SECRET}, "needs its TELEGRAM_TOKEN"),
        (BEYOND | DISCORD | TELEGRAM, "with Discord and Telegram beyond this machine needs DRAWQ"),
        (TELEGRAM | {"DRAWQUEUE_PUBLIC_URL": "http://draw.example.org"}, "to be the https address"),
        (BEYOND | {"DRAWQUEUE_REGISTER": "anybody"}, "passwords would be read on the way"),
    ],
)
def test_how_people_sign_in_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], words: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings._read.cache_clear()
    told = " ".join(settings.read(settings.Web).faults)
    assert words in told and bool(words) == bool(told) and SECRET not in told


def test_who_may_make_an_account_is_one_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAWQUEUE_REGISTER", "friends")
    assert faults() == ["DRAWQUEUE_REGISTER must be inside, anybody or nobody."]
