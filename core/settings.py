"""Every setting, one frozen class per concern, read once from the environment or `.env`.

The names people already know stand alone (`DISCORD_TOKEN`, `REDIS_URL`, …); the rest begin
with `DRAWQUEUE_`. `.env.example` is written from these declarations (`drawqueue settings`).
"""

import hmac
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The settings of one concern."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True,
        # A database's address holds its password.
        hide_input_in_errors=True,
    )  # fmt: skip

    @field_validator("*", mode="before")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        if isinstance(value, str) and any(c < " " or "\ud800" <= c <= "\udfff" for c in value):
            raise ValueError("must be one line of text in UTF-8")
        return value


def _home(folder: Path) -> Path:
    if set("?%") & set(str(folder.absolute())):
        raise ValueError("must be a folder without ? and % in its name and in those above it")
    return folder


# What follows imports its library when there is something to check: most homes leave these empty.


def _driven(url: str) -> str:
    """The address with the driver that ships."""
    for short in ("postgres://", "postgresql://"):
        if url.startswith(short):
            return "postgresql+psycopg://" + url.removeprefix(short)
    return url


def _database_url(url: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        kind = make_url(_driven(url) or "sqlite://").get_dialect()
        kind.import_dbapi()
        known = kind.name in ("sqlite", "postgresql") and not kind.is_async
    except (ArgumentError, ValueError, ImportError):
        known = False
    if not known:
        raise ValueError(
            "must be such as postgresql://user:password@host:5432/name or sqlite:///path, "
            "where the driver for it is installed"
        )
    return url


def _redis_url(url: str) -> str:
    from redis import ConnectionPool

    try:
        if url:
            ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, AttributeError):
        raise ValueError("must be such as redis://:password@host:6379/0") from None
    return url


def _media_url(url: str) -> str:
    from fsspec import get_filesystem_class
    from fsspec.core import split_protocol

    try:
        get_filesystem_class(split_protocol(url)[0] or "file")
    except (ValueError, ImportError):
        raise ValueError(
            "must be a folder, or such as s3://bucket/path where the library for it is installed"
        ) from None
    return url


# Where the web process takes Telegram's updates in, below DRAWQUEUE_PUBLIC_URL.
HOOK = "/webhook/telegram"


class Storage(Settings):
    """Where rows, jobs and pictures are kept."""

    home: Annotated[Path, AfterValidator(_home)] = Field(
        Path("home"),
        alias="DRAWQUEUE_HOME",
        description="Folder of everything that `drawqueue up` keeps.",
    )
    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        "",
        alias="DATABASE_URL",
        description="PostgreSQL or SQLite; empty: a SQLite file in the home folder.",
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(
        "",
        alias="REDIS_URL",
        description="Redis or Valkey; empty: `drawqueue up` starts its own in the home folder.",
    )
    media_url: Annotated[str, AfterValidator(_media_url)] = Field(
        "",
        alias="DRAWQUEUE_MEDIA_URL",
        description="Where pictures are kept: a folder or `s3://bucket/path`; empty: home/media.",
    )
    keep_days: int = Field(
        0,
        alias="DRAWQUEUE_KEEP_DAYS",
        ge=0,
        description="Days after which a finished picture is forgotten, with its request and its "
        "buttons; 0: never.",
    )
    keep_job_minutes: int = Field(
        60,
        alias="DRAWQUEUE_KEEP_JOB_MINUTES",
        ge=1,
        description="Minutes that a finished job stays in rq-dashboard; failed ones stay a day.",
    )

    @property
    def database(self) -> str:
        if not self.database_url:
            return f"sqlite:///{self.home.resolve() / 'drawqueue.sqlite3'}"
        return _driven(self.database_url)

    @property
    def redis(self) -> str:
        return self.redis_url or f"unix://{self.home.resolve() / 'valkey.sock'}?db=0"

    @property
    def media(self) -> str:
        return self.media_url or str(self.home.resolve() / "media")


class Drawing(Settings):
    """What draws, and how."""

    model: str = Field(
        "",
        alias="DRAWQUEUE_MODEL",
        description="Model folders or hub ids, comma-separated, the first is the default; "
        "empty: the starter model. `pattern` draws test patterns without a model.",
    )
    device: str = Field(
        "",
        alias="DRAWQUEUE_DEVICE",
        description="`cuda:0`, `mps` or `cpu`; empty: the first GPU, else the CPU.",
    )
    threads: int = Field(
        0,
        alias="DRAWQUEUE_THREADS",
        ge=0,
        le=1024,
        description="CPU threads of a worker without a GPU; 0: as many as there are cores.",
    )
    job_timeout: int = Field(
        600,
        alias="DRAWQUEUE_JOB_TIMEOUT",
        ge=1,
        le=86_400,
        description="Seconds after which a drawing is given up.",
    )
    model_memory_gb: float = Field(
        0,
        alias="DRAWQUEUE_MODEL_MEMORY_GB",
        ge=0,
        allow_inf_nan=False,
        description="Memory for warm models, in GB; 0: 80 % of the device's.",
    )


class Web(Settings):
    """The web chat and the JSON interface."""

    host: str = Field(
        "127.0.0.1", alias="DRAWQUEUE_WEB_HOST", description="Address the web chat listens on."
    )
    port: int = Field(
        8080, alias="DRAWQUEUE_WEB_PORT", ge=0, le=65535, description="Port of the web chat."
    )
    key: SecretStr = Field(
        SecretStr(""),
        alias="DRAWQUEUE_WEB_KEY",
        description="Key the web chat asks for; required when it listens beyond this machine.",
    )
    public_url: str = Field(
        "",
        alias="DRAWQUEUE_PUBLIC_URL",
        description="Address at which people reach the web chat, for links in messages.",
    )


class Dashboard(Settings):
    """rq-dashboard."""

    host: str = Field(
        "127.0.0.1",
        alias="DRAWQUEUE_DASHBOARD_HOST",
        description="Address rq-dashboard listens on.",
    )
    port: int = Field(
        9181,
        alias="DRAWQUEUE_DASHBOARD_PORT",
        ge=0,
        le=65535,
        description="Port of rq-dashboard.",
    )
    user: str = Field(
        "operator", alias="DRAWQUEUE_DASHBOARD_USER", description="User name of rq-dashboard."
    )
    password: SecretStr = Field(
        SecretStr(""),
        alias="DRAWQUEUE_DASHBOARD_PASSWORD",
        description="Its password; empty: `drawqueue up` makes one and keeps it in the home.",
    )


class Discord(Settings):
    """The Discord bot."""

    token: SecretStr = Field(
        SecretStr(""), alias="DISCORD_TOKEN", description="Bot token; empty: no Discord bot."
    )
    api_url: str = Field(
        "",
        alias="DISCORD_API_URL",
        description="HTTP proxy in place of Discord's API, such as http://host:port/api/v10.",
    )
    gateway_url: str = Field(
        "",
        alias="DISCORD_GATEWAY_URL",
        description="Gateway proxy in place of Discord's, such as ws://host:port/gateway.",
    )


class Telegram(Settings):
    """The Telegram bot."""

    token: SecretStr = Field(
        SecretStr(""), alias="TELEGRAM_TOKEN", description="Bot token; empty: no Telegram bot."
    )
    api_url: str = Field(
        "https://api.telegram.org/bot",
        alias="TELEGRAM_API_URL",
        description="Bot API server, such as http://host:port/bot.",
    )
    file_url: str = Field(
        "https://api.telegram.org/file/bot",
        alias="TELEGRAM_FILE_URL",
        description="File server of the Bot API, such as http://host:port/file/bot.",
    )
    webhook: bool = Field(
        False,
        alias="TELEGRAM_WEBHOOK",
        description="Whether Telegram sends updates to the web process at DRAWQUEUE_PUBLIC_URL; "
        "otherwise the bot fetches them.",
    )

    @property
    def hook_secret(self) -> str:
        """What proves that an update comes from Telegram; it follows from the token."""
        return hmac.new(self.token.get_secret_value().encode(), b"webhook", "sha256").hexdigest()


class Chat(Settings):
    """Manners, in every chat."""

    mention_after: int = Field(
        60,
        alias="DRAWQUEUE_MENTION_AFTER",
        ge=0,
        description="Seconds of waiting after which the asker is mentioned once; 0: never.",
    )
    moderators: str = Field(
        "",
        alias="DRAWQUEUE_MODERATORS",
        description="Who may do everything in every chat, comma-separated: people as platform:id "
        "(discord:123,telegram:456) or Discord roles (discord:role:789).",
    )
    policy: Path = Field(
        Path("policy.toml"),
        alias="DRAWQUEUE_POLICY",
        description="File of classes, limits and lists (policy.example.toml); "
        "without one everybody is equal.",
    )


SECTIONS: tuple[type[BaseSettings], ...] = (
    Storage,
    Drawing,
    Web,
    Dashboard,
    Discord,
    Telegram,
    Chat,
)


Section = TypeVar("Section", bound=BaseSettings)


@cache
def _read(section: type[BaseSettings]) -> BaseSettings:
    return section()


def read(section: type[Section]) -> Section:
    """The settings of one concern, read on first use.

    Raises pydantic's ValidationError for a value of the wrong kind; `drawqueue` words it.
    """
    settings = _read(section)
    assert isinstance(settings, section)
    return settings
