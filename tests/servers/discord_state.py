"""What a Discord server remembers, and how it shows it: state and permissions, no network."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tests.servers.discord_errors import ApiError, Json, unknown
from tests.servers.discord_objects import (
    BASE_PERMS,
    PERMS,
    THREADS,
    Channel,
    Guild,
    Interaction,
    Message,
    Upload,
)

SIGNED_SECONDS = 24 * 3600
EPOCH_MS = 1420070400000


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
            # The privileged intent, as it is set for the application.
            "message_content": False,
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
            "attachments": self.signed_anew(message.attachments),
            "embeds": self.signed_anew(message.embeds),
            "components": self.signed_anew(message.components),
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

    def signed(self, path: str) -> str:
        """A file's address, good for a day."""
        now = int(self.now())
        return f"{self.base}{path}?ex={now + SIGNED_SECONDS:x}&is={now:x}&hm=00&"

    def signed_anew(self, shown: Any) -> Any:
        """What the API shows, with the address of every file signed at this moment."""
        if isinstance(shown, dict):
            return {key: self.signed_anew(value) for key, value in shown.items()}
        if isinstance(shown, list):
            return [self.signed_anew(value) for value in shown]
        if isinstance(shown, str) and shown.startswith(self.base):
            path = urlsplit(shown).path
            return self.signed(path) if path in self.files else shown
        return shown

    # limits --------------------------------------------------------------------------------

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

    def size_limit(self, guild_id: str | None) -> int:
        """Bytes one file may have there."""
        guild = self.guilds.get(guild_id or "")
        own = guild.attachment_size_limit if guild else None
        return int(own if own is not None else self.limits["file_size"])
