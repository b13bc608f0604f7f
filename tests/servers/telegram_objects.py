"""The things a Telegram has: files, messages with all their versions, chats."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.servers.telegram_errors import Json


@dataclass
class File:
    """One stored file, or one size of a photo."""

    id: str
    unique_id: str
    kind: str
    data: bytes
    path: str
    name: str = ""
    mime: str = ""
    width: int = 0
    height: int = 0
    raw: bytes = b""
    sizes: list[File] = field(default_factory=list)
    # Of one whose bytes nobody needs: how many it would have.
    told: int | None = None
    # What its kind has besides, and its still preview.
    more: Json = field(default_factory=dict)
    thumbnail: File | None = None
    # When its path was last handed out, which holds for an hour.
    offered: float | None = None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data) if self.told is None else self.told

    def described(self) -> Json:
        """As PhotoSize, Document, Animation, Sticker, Video or Voice."""
        body: Json = {
            "file_id": self.id,
            "file_unique_id": self.unique_id,
            "file_size": self.size,
            **self.more,
        }
        if self.thumbnail:
            body["thumbnail"] = self.thumbnail.described()
        if self.kind == "Photo":
            return {**body, "width": self.width, "height": self.height}
        if self.kind == "Sticker":
            return body
        if self.kind == "Voice":
            return {**body, "mime_type": self.mime}
        return {**body, "file_name": self.name, "mime_type": self.mime}


@dataclass
class Version:
    """What a message showed from a time on."""

    kind: str
    text: str
    entities: list[Json]
    media: File | None = None
    markup: Json | None = None
    spoiler: bool = False
    time: float = 0.0
    method: str = ""

    def content(self) -> Any:
        """What must differ for an edit to be an edit."""
        unique = self.media.unique_id if self.media else None
        return self.kind, self.text, self.entities, unique, self.markup, self.spoiler

    def body(self) -> Json:
        """Its fields in a Message."""
        plain = self.kind == "text"
        words, marks = ("text", "entities") if plain else ("caption", "caption_entities")
        body: Json = {}
        if self.media:
            shown = [size.described() for size in self.media.sizes]
            body[self.kind] = shown if self.kind == "photo" else self.media.described()
        if self.media and self.kind == "animation":
            # Older clients of the API know it as a document.
            names = "file_id", "file_unique_id", "file_size", "file_name", "mime_type", "thumbnail"
            both = self.media.described()
            body["document"] = {name: both[name] for name in names if name in both}
        if self.text:
            body[words] = self.text
        if self.entities:
            body[marks] = self.entities
        if self.markup:
            body["reply_markup"] = self.markup
        if self.spoiler:
            body["has_media_spoiler"] = True
        return body


@dataclass
class Message:
    """A message and all it has been."""

    id: int
    chat: Chat
    sender: Json
    date: float
    versions: list[Version]
    thread: int | None = None
    topic: bool = False
    reply_to: Message | None = None
    group: str | None = None
    deleted: float | None = None
    edited: float | None = None
    # Whose it was, where somebody passed it on.
    origin: Json | None = None
    # What it answers in another chat.
    elsewhere: Message | None = None

    def body(self, deep: bool = True) -> Json:
        """As the API shows it."""
        body: Json = {
            "message_id": self.id,
            "from": self.sender,
            "chat": self.chat.body(),
            "date": int(self.date),
        }
        if self.thread is not None:
            body["message_thread_id"] = self.thread
        if self.topic:
            body["is_topic_message"] = True
        if self.reply_to and deep:
            body["reply_to_message"] = self.reply_to.body(deep=False)
        if self.elsewhere and deep:
            body["external_reply"] = self.elsewhere.outside()
        if self.group:
            body["media_group_id"] = self.group
        if self.origin:
            body["forward_origin"] = self.origin
        if self.edited:
            body["edit_date"] = int(self.edited)
        return {**body, **self.versions[-1].body()}

    def outside(self) -> Json:
        """As ExternalReplyInfo: what it shows, without words and buttons."""
        origin = {"type": "user", "sender_user": self.sender, "date": int(self.date)}
        shown = self.versions[-1].body()
        words = ("text", "entities", "caption", "caption_entities", "reply_markup")
        return {"origin": origin, **{name: shown[name] for name in shown if name not in words}}


@dataclass
class Chat:
    """A chat, with what the bot may do in it."""

    id: int
    type: str
    title: str = ""
    username: str = ""
    first_name: str = ""
    admins: list[int] = field(default_factory=list)
    topics: set[int] = field(default_factory=set)
    is_forum: bool = False
    bot_admin: bool = False
    started: bool = True
    blocked: bool = False
    kicked: bool = False
    left: bool = False
    migrated_to: int | None = None
    members: set[int] = field(default_factory=set)
    messages: dict[int, Message] = field(default_factory=dict)
    drafts: list[Json] = field(default_factory=list)
    actions: list[Json] = field(default_factory=list)
    recent: deque[float] = field(default_factory=deque)
    tokens: float | None = None
    filled: float = 0.0
    flood_until: float = 0.0

    @property
    def private(self) -> bool:
        """Whether it is a chat with one person."""
        return self.type == "private"

    def body(self) -> Json:
        """As the API shows it."""
        body: Json = {"id": self.id, "type": self.type}
        if self.private:
            body["first_name"] = self.first_name or f"User {self.id}"
        else:
            body["title"] = self.title or f"Chat {self.id}"
        if self.username:
            body["username"] = self.username
        if self.is_forum:
            body["is_forum"] = True
        return body
