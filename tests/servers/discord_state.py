"""What a Discord server remembers and refuses: state and rules, no network."""

from __future__ import annotations

import io
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from PIL import Image

Json = dict[str, Any]

EPOCH_MS = 1420070400000
V2 = 1 << 15
EPHEMERAL = 1 << 6
LOADING = 1 << 7
SETTABLE_FLAGS = (1 << 2) | EPHEMERAL | (1 << 12) | V2
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


class ApiError(Exception):
    """An answer other than success, as the platform words it."""

    def __init__(self, status: int, code: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"message": message, "code": code, **extra}


def unknown(what: str) -> ApiError:
    """The 404 of a named kind of thing."""
    codes = {"Channel": 10003, "Guild": 10004, "Message": 10008, "User": 10013, "Member": 10007}
    codes |= {"Webhook": 10015, "Interaction": 10062, "application command": 10063}
    return ApiError(404, codes[what], f"Unknown {what}")


class Problems:
    """Collects the nested errors of an Invalid Form Body."""

    def __init__(self) -> None:
        self.tree: Json = {}

    def add(self, path: str, code: str, message: str) -> None:
        """Note one error at a dotted path."""
        node = self.tree
        for part in path.split("."):
            node = node.setdefault(part, {})
        node.setdefault("_errors", []).append({"code": code, "message": message})

    def length(self, path: str, value: Any, low: int, high: int) -> None:
        """A string must be low to high characters long."""
        if not isinstance(value, str):
            code = "BASE_TYPE_REQUIRED" if value is None else "STRING_TYPE_CONVERT"
            self.add(path, code, "This field is required")
        elif len(value) < low and not value:
            self.add(path, "BASE_TYPE_REQUIRED", "This field is required")
        elif not low <= len(value) <= high:
            if low:
                message = f"Must be between {low} and {high} in length."
                self.add(path, "BASE_TYPE_BAD_LENGTH", message)
            else:
                message = f"Must be {high} or fewer in length."
                self.add(path, "BASE_TYPE_MAX_LENGTH", message)

    def count(self, path: str, value: list[Any], low: int, high: int) -> None:
        """A list must have low to high entries."""
        if not low <= len(value) <= high:
            message = f"Must be between {low} and {high} in length."
            self.add(path, "BASE_TYPE_BAD_LENGTH", message)

    def done(self) -> None:
        """Refuse if anything was noted."""
        if self.tree:
            raise ApiError(400, 50035, "Invalid Form Body", errors=self.tree)


def invalid(path: str, code: str, message: str) -> ApiError:
    """A form error at one place."""
    problems = Problems()
    problems.add(path, code, message)
    return ApiError(400, 50035, "Invalid Form Body", errors=problems.tree)


# --- application commands -----------------------------------------------------------------


def _text_size(node: Json) -> int:
    total = len(node.get("name") or "") + len(node.get("description") or "")
    for choice in node.get("choices") or []:
        total += len(choice["name"])
        total += len(choice["value"]) if isinstance(choice["value"], str) else 0
    return total + sum(_text_size(o) for o in node.get("options") or [])


def _check_options(problems: Problems, path: str, options: list[Json]) -> None:
    problems.count(f"{path}.options", options, 0, 25)
    seen: set[str] = set()
    optional = False
    for i, option in enumerate(options):
        here = f"{path}.options.{i}"
        name = option.get("name") or ""
        if not re.fullmatch(r"[-_'\w]{1,32}", name) or name != name.lower():
            problems.add(f"{here}.name", "STRING_TYPE_REGEX", "String value did not match regex.")
        if name in seen:
            problems.add(
                f"{here}.name",
                "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS",
                "Option name already exists",
            )
        seen.add(name)
        problems.length(f"{here}.description", option.get("description"), 1, 100)
        kind = int(option.get("type") or 0)
        if kind not in range(1, 12):
            problems.add(f"{here}.type", "BASE_TYPE_CHOICES", "Value must be one of 1 to 11.")
            continue
        if kind in (1, 2):
            _check_options(problems, here, option.get("options") or [])
            continue
        if option.get("required") and optional:
            problems.add(
                here,
                "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID",
                "Required options must be placed before non-required options",
            )
        optional = optional or not option.get("required")
        choices = option.get("choices") or []
        if choices and option.get("autocomplete"):
            problems.add(
                here, "APPLICATION_COMMAND_OPTIONS_CHOICES", "No choices with autocomplete"
            )
        check_choices(problems, f"{here}.choices", choices, kind)


def check_choices(problems: Problems, path: str, choices: list[Json], kind: int) -> None:
    """Choices of an option, or those an autocompletion answers."""
    problems.count(path, choices, 0, 25)
    for i, choice in enumerate(choices):
        problems.length(f"{path}.{i}.name", choice.get("name"), 1, 100)
        value = choice.get("value")
        if kind == 3:
            problems.length(f"{path}.{i}.value", value, 0, 100)
        elif isinstance(value, bool) or not isinstance(value, int if kind == 4 else (int, float)):
            problems.add(f"{path}.{i}.value", "NUMBER_TYPE_COERCE", "Value is not a number.")


def check_commands(commands: list[Json]) -> None:
    """Refuse a set of commands the platform would refuse."""
    by_kind: dict[int, int] = {}
    for command in commands:
        by_kind[command.get("type", 1)] = by_kind.get(command.get("type", 1), 0) + 1
    if by_kind.get(1, 0) > 100 or by_kind.get(2, 0) > 15 or by_kind.get(3, 0) > 15:
        raise ApiError(400, 30032, "Maximum number of application commands reached (100).")
    problems = Problems()
    seen: set[tuple[int, str]] = set()
    for i, command in enumerate(commands):
        kind, name = command.get("type", 1), command.get("name") or ""
        if kind == 1:
            if not re.fullmatch(r"[-_'\w]{1,32}", name) or name != name.lower():
                problems.add(
                    f"{i}.name",
                    "APPLICATION_COMMAND_INVALID_NAME",
                    "Command name is invalid",
                )
            problems.length(f"{i}.description", command.get("description"), 1, 100)
            _check_options(problems, str(i), command.get("options") or [])
        else:
            problems.length(f"{i}.name", name, 1, 32)
            if command.get("description"):
                problems.add(
                    f"{i}.description",
                    "APPLICATION_COMMAND_CONTEXT_MENU_DESCRIPTION",
                    "Context menu commands cannot have description",
                )
        if (kind, name) in seen:
            problems.add(
                f"{i}",
                "APPLICATION_COMMANDS_DUPLICATE_NAME",
                "Application command names must be unique",
            )
        seen.add((kind, name))
        if _text_size(command) > 8000:
            problems.add(
                f"{i}",
                "APPLICATION_COMMAND_TOO_LARGE",
                "Command exceeds maximum size (8000)",
            )
    problems.done()


# --- messages -----------------------------------------------------------------------------


def walk(components: list[Json]) -> Iterator[Json]:
    """Every component, however deep."""
    for part in components:
        yield part
        inner = list(part.get("components") or [])
        inner += [part[k] for k in ("accessory", "component") if part.get(k)]
        yield from walk(inner)


def media_of(part: Json) -> list[Json]:
    """The media items one component shows."""
    kind = part.get("type")
    if kind == 11:
        return [part.get("media") or {}]
    if kind == 12:
        return [item.get("media") or {} for item in part.get("items") or []]
    return [part.get("file") or {}] if kind == 13 else []


def _check_interactive(problems: Problems, here: str, part: Json, seen: set[str]) -> None:
    kind, style = part["type"], part.get("style")
    if kind == 2 and style not in range(1, 7):
        problems.add(f"{here}.style", "BASE_TYPE_CHOICES", "Value must be one of 1 to 6.")
    if kind == 2 and style == 5:
        problems.length(f"{here}.url", part.get("url"), 1, 512)
    elif not (kind == 2 and style == 6):
        problems.length(f"{here}.custom_id", part.get("custom_id"), 1, 100)
        if part.get("custom_id") in seen:
            problems.add(
                f"{here}.custom_id",
                "COMPONENT_CUSTOM_ID_DUPLICATED",
                "Component custom id cannot be duplicated",
            )
        seen.add(part.get("custom_id") or "")
    if kind == 2 and style != 6:
        if part.get("label"):
            problems.length(f"{here}.label", part["label"], 1, 80)
        elif not part.get("emoji"):
            problems.add(f"{here}.label", "BASE_TYPE_REQUIRED", "This field is required")
    if kind == 3:
        options = part.get("options") or []
        problems.count(f"{here}.options", options, 1, 25)
        for i, option in enumerate(options):
            problems.length(f"{here}.options.{i}.label", option.get("label"), 1, 100)
            problems.length(f"{here}.options.{i}.value", option.get("value"), 1, 100)
    if kind != 2 and part.get("placeholder"):
        problems.length(f"{here}.placeholder", part["placeholder"], 1, 150)


def _check_tree(
    problems: Problems, path: str, parts: list[Json], seen: set[str], allowed: set[int]
) -> None:
    for i, part in enumerate(parts):
        here, kind = f"{path}.{i}", part.get("type")
        if kind not in allowed:
            message = f'Value of field "type" must be one of {sorted(allowed)}.'
            problems.add(f"{here}.type", "UNION_TYPE_CHOICES", message)
            continue
        if kind == 1:
            inner = part.get("components") or []
            problems.count(f"{here}.components", inner, 1, 5)
            if any(p.get("type") != 2 for p in inner) and len(inner) > 1:
                problems.add(
                    f"{here}.components",
                    "COMPONENT_LAYOUT_WIDTH_EXCEEDED",
                    "The specified component exceeds the maximum width",
                )
            _check_tree(problems, f"{here}.components", inner, seen, {2, 3, 5, 6, 7, 8})
        elif kind in (2, 3, 5, 6, 7, 8):
            _check_interactive(problems, here, part, seen)
        elif kind == 9:
            inner = part.get("components") or []
            problems.count(f"{here}.components", inner, 1, 3)
            _check_tree(problems, f"{here}.components", inner, seen, {10})
            _check_tree(problems, f"{here}.accessory", [part.get("accessory") or {}], seen, {2, 11})
        elif kind == 10:
            problems.length(f"{here}.content", part.get("content"), 1, 4000)
        elif kind == 11 and part.get("description"):
            problems.length(f"{here}.description", part["description"], 0, 1024)
        elif kind == 12:
            items = part.get("items") or []
            problems.count(f"{here}.items", items, 1, 10)
            for n, item in enumerate(items):
                if item.get("description"):
                    problems.length(f"{here}.items.{n}.description", item["description"], 0, 1024)
        elif kind == 17:
            inner = part.get("components") or []
            problems.count(f"{here}.components", inner, 1, 40)
            _check_tree(problems, f"{here}.components", inner, seen, {1, 9, 10, 12, 13, 14})


def check_components(problems: Problems, components: list[Json], v2: bool) -> None:
    """Layout, widths, custom ids and lengths."""
    every = list(walk(components))
    if v2:
        if len(every) > 40:
            problems.add(
                "components",
                "COMPONENT_MAX_TOTAL_COMPONENTS_EXCEEDED",
                "The maximum number of components (40) has been exceeded",
            )
        if sum(len(p.get("content") or "") for p in every if p.get("type") == 10) > 4000:
            problems.add(
                "components",
                "COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED",
                "Total displayable text size of components exceeds maximum size of 4000",
            )
        allowed = {1, 9, 10, 12, 13, 14, 17}
    else:
        problems.count("components", components, 0, 5)
        allowed = {1}
    _check_tree(problems, "components", components, set(), allowed)


def check_embeds(problems: Problems, embeds: list[Json]) -> None:
    """Each field's length, and 6000 characters in all."""
    problems.count("embeds", embeds, 0, 10)
    total = 0
    for i, embed in enumerate(embeds):
        here = f"embeds.{i}"
        parts = [(f"{here}.title", embed.get("title"), 256)]
        parts.append((f"{here}.description", embed.get("description"), 4096))
        parts.append((f"{here}.footer.text", (embed.get("footer") or {}).get("text"), 2048))
        parts.append((f"{here}.author.name", (embed.get("author") or {}).get("name"), 256))
        fields = embed.get("fields") or []
        problems.count(f"{here}.fields", fields, 0, 25)
        for n, item in enumerate(fields):
            for key, high in (("name", 256), ("value", 1024)):
                problems.length(f"{here}.fields.{n}.{key}", item.get(key), 1, high)
                total += len(item.get(key) or "")
        for path, value, high in parts:
            if value is not None:
                problems.length(path, value, 0, high)
                total += len(value)
        for key in ("image", "thumbnail"):
            url = (embed.get(key) or {}).get("url")
            if url and not re.match(r"(https?|attachment)://.", url):
                problems.add(f"{here}.{key}.url", "URL_TYPE_INVALID_URL", "Not a well formed URL.")
    if total > 6000:
        problems.add("embeds", "MAX_EMBED_SIZE_EXCEEDED", "Embed size exceeds maximum size of 6000")


def check_mentions(problems: Problems, allowed: Json | None) -> None:
    """allowed_mentions must not say the same thing twice."""
    for kind in ("users", "roles"):
        listed = (allowed or {}).get(kind) or []
        if len(listed) > 100:
            problems.add(f"allowed_mentions.{kind}", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer")
        if listed and kind in ((allowed or {}).get("parse") or []):
            problems.add(
                "allowed_mentions",
                "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE",
                f'parse:["{kind}"] and {kind}: [ids...] are mutually exclusive.',
            )


def check_modal(data: Json) -> None:
    """A modal as an answer to an interaction."""
    problems = Problems()
    problems.length("data.title", data.get("title"), 1, 45)
    problems.length("data.custom_id", data.get("custom_id"), 1, 100)
    parts = data.get("components") or []
    problems.count("data.components", parts, 1, 5)
    seen: set[str] = set()
    for i, part in enumerate(parts):
        here = f"data.components.{i}"
        if part.get("type") not in (1, 10, 18):
            problems.add(f"{here}.type", "UNION_TYPE_CHOICES", "Must be one of (1, 10, 18).")
        if part.get("type") == 18:
            problems.length(f"{here}.label", part.get("label"), 1, 45)
        for field_ in walk([part]):
            if "custom_id" not in field_:
                continue
            problems.length(f"{here}.custom_id", field_["custom_id"], 1, 100)
            if field_["custom_id"] in seen:
                problems.add(
                    f"{here}.custom_id",
                    "COMPONENT_CUSTOM_ID_DUPLICATED",
                    "Component custom id cannot be duplicated",
                )
            seen.add(field_["custom_id"])
            if field_.get("type") == 4:
                if part.get("type") == 1:
                    problems.length(f"{here}.label", field_.get("label"), 1, 45)
                if field_.get("value"):
                    high = field_.get("max_length") or 4000
                    problems.length(f"{here}.value", field_["value"], 0, high)
                if field_.get("placeholder"):
                    problems.length(f"{here}.placeholder", field_["placeholder"], 0, 100)
    problems.done()


def pings_of(text: str, allowed: Json | None, everyone_ok: bool) -> Json:
    """Who a new text really pings."""
    users = list(dict.fromkeys(re.findall(r"<@!?(\d+)>", text)))
    roles = list(dict.fromkeys(re.findall(r"<@&(\d+)>", text)))
    everyone = bool(re.search(r"@(everyone|here)\b", text)) and everyone_ok
    if allowed is not None:
        parse = allowed.get("parse") or []
        if "users" not in parse:
            users = [u for u in users if u in map(str, allowed.get("users") or [])]
        if "roles" not in parse:
            roles = [r for r in roles if r in map(str, allowed.get("roles") or [])]
        everyone = everyone and "everyone" in parse
    return {"users": users, "roles": roles, "everyone": everyone}


NO_PINGS: Json = {"users": [], "roles": [], "everyone": False}


# --- things -------------------------------------------------------------------------------


@dataclass
class Upload:
    """One file of a multipart request."""

    filename: str
    data: bytes
    content_type: str


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


class Buckets:
    """Fixed windows, as the rate-limit headers describe them."""

    def __init__(self) -> None:
        self.windows: dict[str, tuple[float, int]] = {}

    def take(self, key: str, limit: int, window: float, now: float) -> tuple[bool, int, float]:
        """Whether one more is allowed, how many remain, seconds to the reset."""
        start, used = self.windows.get(key, (now, 0))
        if not 0 <= now - start < window:
            start, used = now, 0
        reset = start + window - now
        if used >= limit:
            return False, 0, reset
        self.windows[key] = (start, used + 1)
        return True, limit - used - 1, reset


class State:
    """The whole platform as the tests see it."""

    bot_id = "900"

    def __init__(self) -> None:
        self.offset = 0.0
        self.base = ""
        self.counter = 0
        self.guilds: dict[str, Guild] = {}
        self.channels: dict[str, Channel] = {}
        self.messages: dict[str, Message] = {}
        self.interactions: dict[str, Interaction] = {}
        self.tokens: dict[str, Interaction] = {}
        self.commands: dict[str, dict[str, Json]] = {}
        self.files: dict[str, Upload] = {}
        self.closed_dms: set[str] = set()
        self.buckets = Buckets()
        self.old_edits: dict[str, deque[float]] = {}
        self.limits: Json = {
            "messages": [5, 5.0],
            "deletes": [5, 1.0],
            "webhooks": [5, 2.0],
            "global": [50, 1.0],
            "old_edits": [5, 60.0],
            "old_edit_retry_after": None,
            "file_size": 10 * 2**20,
            "request_size": 25 * 2**20,
            "ack_seconds": 3.0,
            "token_seconds": 900.0,
            "heartbeat_ms": 41250,
        }
        self.guilds["100"] = Guild("100", "Guild")
        self.channels["200"] = Channel("200", "general", guild_id="100")

    def now(self) -> float:
        """The time, moved as far as a test moved it."""
        return time.time() + self.offset

    def snowflake(self) -> str:
        """A fresh id that tells its time."""
        self.counter += 1
        return str(((int(self.now() * 1000) - EPOCH_MS) << 22) | (self.counter & 0x3FFFFF))

    def stamp(self, when: float | None) -> str | None:
        """ISO time as the platform writes it."""
        if when is None:
            return None
        return datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds")

    # permissions ---------------------------------------------------------------------------

    def permissions(self, channel: Channel) -> int:
        """The bot's permission bits in a channel."""
        deny = set(channel.deny)
        if channel.parent_id and channel.parent_id in self.channels:
            deny |= self.channels[channel.parent_id].deny
        return BASE_PERMS & ~sum(PERMS[name] for name in deny)

    def visible(self, channel: Channel) -> bool:
        """Whether the bot itself can see the channel."""
        if channel.guild_id is None:
            return channel.type == 1
        guild = self.guilds[channel.guild_id]
        return guild.bot_in and bool(self.permissions(channel) & PERMS["VIEW_CHANNEL"])

    def channel(self, channel_id: str, *needs: str) -> Channel:
        """The channel, if it exists and the bot may do that there."""
        channel = self.channels.get(channel_id)
        if channel is None:
            raise unknown("Channel")
        if not self.visible(channel):
            raise ApiError(403, 50001, "Missing Access")
        if channel.guild_id is not None:
            bits = self.permissions(channel)
            for need in needs:
                if need == "SEND_MESSAGES" and channel.type in THREADS:
                    need = "SEND_MESSAGES_IN_THREADS"
                if not bits & PERMS[need]:
                    raise ApiError(403, 50013, "Missing Permissions")
        return channel

    def message(self, channel_id: str, message_id: str) -> Message:
        """A message that exists in that channel and is not ephemeral."""
        found = self.messages.get(message_id)
        if found is None or found.deleted or found.channel_id != channel_id or found.ephemeral_for:
            raise unknown("Message")
        return found

    def dm_with(self, user_id: str) -> Channel:
        """The direct channel with a user, opened when needed."""
        for channel in self.channels.values():
            if channel.type == 1 and channel.recipient == user_id:
                return channel
        channel = Channel(self.snowflake(), "", 1, recipient=user_id)
        self.channels[channel.id] = channel
        return channel

    # payloads ------------------------------------------------------------------------------

    def user(self, user_id: str) -> Json:
        """A user object; every id is somebody."""
        bot = user_id == self.bot_id
        name = "drawbot" if bot else f"user{user_id}"
        return {
            "id": user_id,
            "username": name,
            "discriminator": "0",
            "global_name": None if bot else name.title(),
            "avatar": None,
            "bot": bot,
            "public_flags": 0,
        }

    def member(self, user_id: str) -> Json:
        """A member object."""
        return {
            "user": self.user(user_id),
            "nick": None,
            "avatar": None,
            "roles": [],
            "joined_at": "2024-01-01T00:00:00.000000+00:00",
            "premium_since": None,
            "deaf": False,
            "mute": False,
            "pending": False,
            "flags": 0,
            "communication_disabled_until": None,
        }

    def role(self, data: Json) -> Json:
        """A role object."""
        base: Json = {
            "color": 0,
            "hoist": False,
            "icon": None,
            "unicode_emoji": None,
            "position": 1,
        }
        base |= {"permissions": "0", "managed": False, "mentionable": True, "flags": 0}
        colors = {"primary_color": 0, "secondary_color": None, "tertiary_color": None}
        return {**base, "colors": colors, **data}

    def roles(self, guild: Guild) -> list[Json]:
        """All roles, @everyone first."""
        everyone = {"id": guild.id, "name": "@everyone", "permissions": str(BASE_PERMS)}
        return [self.role({**everyone, "position": 0})] + [self.role(r) for r in guild.roles]

    def channel_json(self, channel: Channel) -> Json:
        """A channel object of its type."""
        data: Json = {"id": channel.id, "type": channel.type, "flags": 0, "last_message_id": None}
        if channel.type in (1, 3):
            data["recipients"] = [self.user(channel.recipient)] if channel.recipient else []
            if channel.type == 3:
                data |= {"name": channel.name, "owner_id": None, "icon": None}
            return data
        data |= {"guild_id": channel.guild_id, "name": channel.name, "rate_limit_per_user": 0}
        data |= {"parent_id": channel.parent_id, "nsfw": channel.nsfw}
        if channel.type in THREADS:
            meta: Json = {"archived": False, "auto_archive_duration": 1440, "locked": False}
            meta["archive_timestamp"] = self.stamp(self.now()) or ""
            data |= {"owner_id": self.bot_id, "thread_metadata": meta}
            data |= {"message_count": 0, "member_count": 1, "total_message_sent": 0}
            return data
        deny = sum(PERMS[name] for name in channel.deny)
        over = {"id": self.bot_id, "type": 1, "allow": "0", "deny": str(deny)}
        data |= {"position": 0, "topic": None, "permission_overwrites": [over] if deny else []}
        return data

    def guild_json(self, guild: Guild) -> Json:
        """A guild object with all a GUILD_CREATE carries."""
        inside = [c for c in self.channels.values() if c.guild_id == guild.id]
        people = list(dict.fromkeys([self.bot_id, *guild.members]))
        empty = ("emojis", "stickers", "features", "presences", "voice_states", "stage_instances")
        return {
            **{name: [] for name in (*empty, "guild_scheduled_events", "soundboard_sounds")},
            **dict.fromkeys(("icon", "splash", "banner", "description", "afk_channel_id")),
            "id": guild.id,
            "name": guild.name,
            "owner_id": "1",
            "roles": self.roles(guild),
            "channels": [self.channel_json(c) for c in inside if c.type not in THREADS],
            "threads": [self.channel_json(c) for c in inside if c.type in THREADS],
            "members": [self.member(p) for p in people],
            "member_count": len(people),
            "large": False,
            "unavailable": False,
            "joined_at": "2024-01-01T00:00:00.000000+00:00",
            "preferred_locale": guild.locale,
            "afk_timeout": 300,
            "verification_level": 0,
            "default_message_notifications": 1,
            "explicit_content_filter": 0,
            "mfa_level": 0,
            "nsfw_level": 0,
            "premium_tier": 0,
            "premium_subscription_count": 0,
            "system_channel_id": None,
            "system_channel_flags": 0,
            "rules_channel_id": None,
            "public_updates_channel_id": None,
            "vanity_url_code": None,
            "application_id": None,
        }

    def message_json(self, message: Message) -> Json:
        """A message object."""
        data: Json = {
            "id": message.id,
            "channel_id": message.channel_id,
            "type": message.type,
            "author": self.user(message.author),
            "content": message.content,
            "timestamp": self.stamp(message.created),
            "edited_timestamp": self.stamp(message.edited),
            "tts": False,
            "pinned": False,
            "mention_everyone": message.pings["everyone"],
            "mentions": [self.user(u) for u in message.pings["users"]],
            "mention_roles": message.pings["roles"],
            "attachments": message.attachments,
            "embeds": message.embeds,
            "components": message.components,
            "flags": message.flags,
        }
        if message.interaction:
            asked = self.interactions[message.interaction]
            data |= {"webhook_id": self.bot_id, "application_id": self.bot_id}
            data["interaction_metadata"] = {
                "id": asked.id,
                "type": asked.type,
                "user": self.user(asked.user_id),
                "authorizing_integration_owners": asked.payload["authorizing_integration_owners"],
            }
        if message.reference:
            data["message_reference"] = message.reference
            target = self.messages.get(str(message.reference.get("message_id")))
            alive = target is not None and not target.deleted
            data["referenced_message"] = self.message_json(target) if alive and target else None
        return data

    # files ---------------------------------------------------------------------------------

    def attach(self, channel_id: str, upload: Upload, description: str | None) -> Json:
        """Store a file and describe it as an attachment."""
        file_id = self.snowflake()
        name = re.sub(r"[^\w.\-]", "_", upload.filename) or "file"
        path = f"/attachments/{channel_id}/{file_id}/{name}"
        self.files[path] = upload
        url = f"{self.base}{path}?ex=ffffffff&is=00000000&hm=00&"
        data: Json = {"id": file_id, "filename": name, "size": len(upload.data), "url": url}
        data |= {"proxy_url": url, "content_type": upload.content_type}
        if description is not None:
            data["description"] = description
        try:
            with Image.open(io.BytesIO(upload.data)) as picture:
                data["width"], data["height"] = picture.size
        except (OSError, ValueError, SyntaxError):
            pass
        return data

    def _attachments(
        self, channel_id: str, body: Json, files: dict[str, Upload], old: list[Json], edit: bool
    ) -> list[Json]:
        listed = body.get("attachments")
        known = {a["id"]: a for a in old}
        kept: list[Json] = []
        notes: Json = {}
        if listed is None:
            kept = list(old)
            entries: list[Json] = []
        else:
            entries = listed
        for i, entry in enumerate(entries):
            key = str(entry.get("id"))
            if entry.get("description") and len(entry["description"]) > 1024:
                message = "Must be 1024 or fewer in length."
                raise invalid(f"attachments.{i}.description", "BASE_TYPE_MAX_LENGTH", message)
            if key in files:
                notes[key] = entry
            elif edit and key in known:
                kept.append({**known[key], **{k: entry[k] for k in ("description",) if k in entry}})
            else:
                message = f"Attachment data for {key} was not found."
                raise invalid(f"attachments.{i}", "ATTACHMENT_NOT_FOUND", message)
        if len(kept) + len(files) > 10:
            raise ApiError(400, 30015, "Maximum number of attachments in a message reached (10)")
        for key, upload in files.items():
            note = notes.get(key, {})
            named = Upload(
                note.get("filename") or upload.filename, upload.data, upload.content_type
            )
            kept.append(self.attach(channel_id, named, note.get("description")))
        return kept

    # writing messages ----------------------------------------------------------------------

    def write(
        self, message: Message, body: Json, files: dict[str, Upload], route: str, limit: int
    ) -> None:
        """Create or edit a message in place; refuses before it changes anything."""
        edit = bool(message.versions)
        if any(len(f.data) > limit for f in files.values()):
            raise ApiError(413, 40005, "Request entity too large")
        old_v2 = bool(message.flags & V2)
        asked = body.get("flags")
        flags = message.flags & ~LOADING
        if asked is not None:
            flags = (flags & EPHEMERAL) | (int(asked) & SETTABLE_FLAGS & ~EPHEMERAL)
            if not edit:
                flags |= int(asked) & EPHEMERAL if message.interaction else 0
            elif old_v2 and not flags & V2:
                code = "MESSAGE_CANNOT_REMOVE_COMPONENTS_V2_FLAG"
                raise invalid("flags", code, "The flag cannot be removed")
        v2 = bool(flags & V2)
        content = body["content"] if "content" in body else message.content
        embeds = body["embeds"] if "embeds" in body else message.embeds
        parts = body["components"] if "components" in body else message.components
        content, embeds, parts = content or "", embeds or [], parts or []
        problems = Problems()
        if v2:
            for name in ("content", "embeds", "poll", "stickers", "sticker_ids"):
                if (
                    body.get(name)
                    or (name == "content" and content)
                    or (name == "embeds" and embeds)
                ):
                    code = "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2"
                    message_text = (
                        f"The '{name}' field cannot be used with MessageFlags.IS_COMPONENTS_V2"
                    )
                    problems.add(name, code, message_text)
        problems.length("content", content, 0, 2000)
        problems.length("nonce", str(body.get("nonce") or ""), 0, 25)
        check_embeds(problems, embeds)
        check_components(problems, parts, v2)
        check_mentions(problems, body.get("allowed_mentions"))
        problems.done()
        attachments = self._attachments(
            message.channel_id,
            body,
            files,
            message.attachments,
            edit and not message.flags & LOADING,
        )
        if not (content or embeds or parts or attachments):
            raise ApiError(400, 50006, "Cannot send an empty message")
        by_name = {a["filename"]: a for a in attachments}
        embeds = [self._resolve_embed(e, by_name) for e in embeds]
        used: set[str] = set()
        parts = self._resolve_parts(parts, by_name, used)
        if v2 and (loose := [a for a in attachments if a["url"] not in used]):
            name = loose[0]["filename"]
            code = "MESSAGE_COMPONENTS_V2_ATTACHMENT_NOT_REFERENCED"
            raise invalid("attachments", code, f"{name} is not referenced by a component")
        fresh = not edit
        message.flags, message.content, message.embeds = flags, content, embeds
        message.components, message.attachments = parts, attachments
        if fresh:
            text = content
            if v2:
                text = "\n".join(p.get("content") or "" for p in walk(parts) if p["type"] == 10)
            channel = self.channels[message.channel_id]
            loud = bool(self.permissions(channel) & PERMS["MENTION_EVERYONE"])
            message.pings = pings_of(text, body.get("allowed_mentions"), loud)
            if message.ephemeral_for or flags & EPHEMERAL:
                message.pings = dict(NO_PINGS)
        else:
            message.edited = self.now()
        self.record(message, route, message.pings if fresh else dict(NO_PINGS))

    def record(self, message: Message, route: str, pings: Json) -> None:
        """Add what the message now is to its history."""
        message.versions.append(
            {
                "content": message.content,
                "embeds": message.embeds,
                "components": message.components,
                "attachments": message.attachments,
                "flags": message.flags,
                "pings": pings,
                "time": self.now(),
                "route": route,
            }
        )

    def _resolve_embed(self, embed: Json, by_name: dict[str, Json]) -> Json:
        result = {"type": "rich", **embed}
        for key in ("image", "thumbnail"):
            url = (embed.get(key) or {}).get("url") or ""
            if url.startswith("attachment://") and (found := by_name.get(url[13:])):
                media = {"url": found["url"], "proxy_url": found["proxy_url"]}
                media |= {k: found[k] for k in ("width", "height") if k in found}
                result[key] = media
        return result

    def _resolve_parts(
        self, parts: list[Json], by_name: dict[str, Json], used: set[str]
    ) -> list[Json]:
        # Deep copy by hand: the caller's body stays as it was for the call log.
        number = iter(range(1, 1000))

        def media(item: Json | None) -> Json:
            url = (item or {}).get("url") or ""
            known = {a["url"]: a for a in by_name.values()}
            found = by_name.get(url[13:]) if url.startswith("attachment://") else known.get(url)
            if found is None and not re.match(r"https?://.", url):
                raise invalid(
                    "components",
                    "UNFURLED_MEDIA_ITEM_REFERENCED_ATTACHMENT_NOT_FOUND",
                    f"The referenced attachment {url[13:] or url!r} was not found",
                )
            if found is None:
                return {"url": url, "proxy_url": url, "loading_state": 2, "flags": 0}
            used.add(found["url"])
            keys = ("url", "proxy_url", "width", "height", "content_type")
            shown = {k: found[k] for k in keys if k in found}
            return {**shown, "attachment_id": found["id"], "loading_state": 2, "flags": 0}

        def copy(part: Json) -> Json:
            result = dict(part)
            if not result.get("id"):
                result["id"] = next(number)
            if "components" in part:
                result["components"] = [copy(p) for p in part["components"]]
            if part.get("accessory"):
                result["accessory"] = copy(part["accessory"])
            if part["type"] == 11:
                result["media"] = media(part.get("media"))
            elif part["type"] == 12:
                result["items"] = [{**i, "media": media(i.get("media"))} for i in part["items"]]
            elif part["type"] == 13:
                result["file"] = media(part.get("file"))
            return result

        return [copy(part) for part in parts]

    def take_old_edit(self, message: Message) -> None:
        """Edits of messages older than an hour are capped per channel."""
        now = self.now()
        if now - message.created < 3600:
            return
        count, window = self.limits["old_edits"]
        past = self.old_edits.setdefault(message.channel_id, deque())
        while past and now - past[0] >= window:
            past.popleft()
        if len(past) >= count:
            wait = self.limits["old_edit_retry_after"]
            if wait is None:
                wait = past[0] + window - now if past else window
            text = "Maximum number of edits to messages older than 1 hour reached. Try again later"
            raise ApiError(429, 30046, text, retry_after=wait)
        past.append(now)

    # interactions --------------------------------------------------------------------------

    def by_token(self, token: str) -> Interaction:
        """The interaction a webhook token stands for."""
        asked = self.tokens.get(token)
        if asked is None:
            raise unknown("Webhook")
        if self.now() - asked.created > self.limits["token_seconds"]:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        if asked.acked is None:
            raise unknown("Webhook")
        return asked

    def webhook_message(self, asked: Interaction, message_id: str) -> Message:
        """A message that this interaction's token may touch."""
        key = asked.original if message_id == "@original" else message_id
        mine = key is not None and key in (asked.original, *asked.followups)
        found = self.messages.get(key) if mine and key else None
        if found is None or found.deleted:
            raise unknown("Message")
        return found

    def size_limit(self, guild_id: str | None) -> int:
        """Bytes one file may have there."""
        guild = self.guilds.get(guild_id or "")
        own = guild.attachment_size_limit if guild else None
        return int(own if own is not None else self.limits["file_size"])
