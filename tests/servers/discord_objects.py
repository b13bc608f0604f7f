"""The things a Discord has: files, channels, guilds, messages and interactions."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.servers.discord_errors import Json

V2 = 1 << 15
EPHEMERAL = 1 << 6
LOADING = 1 << 7
PERMS = {
    "MANAGE_CHANNELS": 1 << 4,
    "ADD_REACTIONS": 1 << 6,
    "VIEW_CHANNEL": 1 << 10,
    "SEND_MESSAGES": 1 << 11,
    "MANAGE_MESSAGES": 1 << 13,
    "EMBED_LINKS": 1 << 14,
    "ATTACH_FILES": 1 << 15,
    "READ_MESSAGE_HISTORY": 1 << 16,
    "MENTION_EVERYONE": 1 << 17,
    "USE_EXTERNAL_EMOJIS": 1 << 18,
    "USE_APPLICATION_COMMANDS": 1 << 31,
    "SEND_MESSAGES_IN_THREADS": 1 << 38,
}
BASE_PERMS = sum(v for k, v in PERMS.items() if k not in ("MANAGE_CHANNELS", "MANAGE_MESSAGES"))
THREADS = (10, 11, 12)
NO_PINGS: Json = {"users": [], "roles": [], "everyone": False}


@dataclass
class Upload:
    """One file of a multipart request."""

    filename: str
    data: bytes
    content_type: str


def guess_type(filename: str) -> str | None:
    """The content type a file's name suggests."""
    ends = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
    ends |= {"gif": "image/gif", "mp4": "video/mp4", "txt": "text/plain; charset=utf-8"}
    return ends.get(filename.rsplit(".", 1)[-1].lower())


@dataclass
class Channel:
    """A channel, thread or direct message."""

    id: str
    name: str
    type: int = 0
    guild_id: str | None = None
    nsfw: bool = False
    parent_id: str | None = None
    deny: set[str] = field(default_factory=set)
    recipient: str | None = None


@dataclass
class Guild:
    """A server; bot_in is false where only a user installed the app, or the bot was removed."""

    id: str
    name: str
    members: list[str] = field(default_factory=list)
    roles: list[Json] = field(default_factory=list)
    bot_in: bool = True
    attachment_size_limit: int | None = None
    locale: str = "en-US"


@dataclass
class Message:
    """A message with all of its versions."""

    id: str
    channel_id: str
    author: str
    created: float
    type: int = 0
    flags: int = 0
    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)
    pings: Json = field(default_factory=lambda: dict(NO_PINGS))
    edited: float | None = None
    interaction: str | None = None
    ephemeral_for: str | None = None
    reference: Json | None = None
    deleted: bool = False
    versions: list[Json] = field(default_factory=list)


@dataclass
class Interaction:
    """An interaction and what became of it."""

    id: str
    token: str
    type: int
    payload: Json
    created: float
    user_id: str
    channel_id: str
    size_limit: int
    acked: float | None = None
    ack_type: int | None = None
    ack_data: Json = field(default_factory=dict)
    original: str | None = None
    followups: list[str] = field(default_factory=list)
    source: str | None = None
    late: list[Json] = field(default_factory=list)
    limited_followups: bool = False
    option_type: int = 3
    # The submissions of the modal that it was answered with.
    submitted: list[str] = field(default_factory=list)
