"""What a Telegram Bot API server remembers and refuses: state and rules, no network."""

from __future__ import annotations

import html
import io
import json
import math
import mimetypes
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

Json = dict[str, Any]

MB = 1024 * 1024
TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "del": "strikethrough",
    "code": "code",
    "pre": "pre",
    "a": "text_link",
    "blockquote": "blockquote",
    "tg-spoiler": "spoiler",
}
START_TAG = re.compile(
    r"""<([a-zA-Z][a-zA-Z0-9-]*)((?:\s+[a-zA-Z-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?)*)\s*>"""
)
ATTRIBUTE = re.compile(r"""([a-zA-Z-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")
END_TAG = re.compile(r"</([a-zA-Z0-9-]*)\s*>")
REFERENCE = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|lt|gt|amp|quot);")
FOUND = {
    "url": re.compile(r"https?://[^\s<>\"]+"),
    "bot_command": re.compile(
        r"(?<![\w/<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/])", re.ASCII
    ),
    "mention": re.compile(r"(?<![\w/])@[A-Za-z][A-Za-z0-9_]{3,31}(?!\w)"),
    "hashtag": re.compile(r"(?<!\w)#\w*[^\W\d]\w*"),
}
ACTIONS = {
    *("typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice"),
    *("upload_document", "choose_sticker", "find_location", "record_video_note"),
    "upload_video_note",
}
NOT_BY_DEFAULT = {"chat_member", "message_reaction", "message_reaction_count"}
NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the "
    "same as a current content and reply markup of the message"
)
ADMIN_RIGHTS = dict.fromkeys(
    (
        *("can_be_edited", "can_manage_chat", "can_delete_messages", "can_manage_video_chats"),
        *("can_restrict_members", "can_promote_members", "can_change_info", "can_invite_users"),
        *("can_post_stories", "can_edit_stories", "can_delete_stories"),
    ),
    True,
) | {"is_anonymous": False}


class ApiError(Exception):
    """An answer other than success, as the platform words it."""

    def __init__(self, status: int, description: str, **parameters: Any) -> None:
        super().__init__(description)
        self.status = status
        self.body: Json = {"ok": False, "error_code": status, "description": description}
        if parameters:
            self.body["parameters"] = parameters


def bad(what: str, **parameters: Any) -> ApiError:
    """A 400."""
    return ApiError(400, f"Bad Request: {what}", **parameters)


def forbidden(what: str) -> ApiError:
    """A 403."""
    return ApiError(403, f"Forbidden: {what}")


def too_many(seconds: int) -> ApiError:
    """A 429 with the seconds to wait."""
    return ApiError(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)


# Text -------------------------------------------------------------------------------------------


def units(text: str) -> int:
    """Length in UTF-16 code units, in which the platform counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def parse_html(source: str) -> tuple[str, list[Json]]:
    """Text and entities of parse_mode HTML; broken markup is refused."""

    def fail(what: str) -> ApiError:
        return bad(f"can't parse entities: {what}")

    out: list[str] = []
    entities: list[Json] = []
    stack: list[tuple[str, Json, int]] = []
    length = at = 0
    while at < len(source):
        byte = len(source[:at].encode())
        char = source[at]
        if char == "&":
            found = REFERENCE.match(source, at)
            if not found:
                # Stricter than the platform, which keeps some of these: the manual asks for &amp;.
                raise fail(f"Unsupported character reference at byte offset {byte}")
            char = html.unescape(found[0])
            at = found.end()
        elif source.startswith("</", at):
            found = END_TAG.match(source, at)
            if not stack:
                raise fail(f"Unexpected end tag at byte offset {byte}")
            if not found:
                raise fail(f"Unclosed end tag at byte offset {byte}")
            tag, attributes, start = stack.pop()
            if found[1].lower() != tag:
                raise fail(
                    f"Unmatched end tag at byte offset {byte}, "
                    f'expected "</{tag}>", found "</{found[1]}>"'
                )
            at = found.end()
            if length > start:
                entity: Json = {"type": TAGS[tag], "offset": start, "length": length - start}
                text = "".join(out).encode("utf-16-le")[start * 2 :].decode("utf-16-le")
                _close(tag, attributes, text, entity, entities, [name for name, *_ in stack])
            continue
        elif char == "<":
            found = START_TAG.match(source, at)
            named = re.match(r"[^\s/>]*", source[at + 1 :])
            name = (named[0] if named else "").lower()
            if name not in TAGS:
                raise fail(f'Unsupported start tag "{name}" at byte offset {byte}')
            if not found:
                raise fail(f"Unclosed start tag at byte offset {byte}")
            pairs = {
                m[1].lower(): html.unescape(m[2] or m[3] or m[4] or "")
                for m in ATTRIBUTE.finditer(found[2])
            }
            stack.append((name, pairs, length))
            at = found.end()
            continue
        else:
            at += 1
        out.append(char)
        length += units(char)
    if stack:
        raise fail(f'Can\'t find end tag corresponding to start tag "{stack[-1][0]}"')
    return "".join(out), entities


def _close(
    tag: str, attributes: Json, text: str, entity: Json, entities: list[Json], around: list[str]
) -> None:
    """Add the entity of a tag that has just been closed."""
    if tag == "code" and around[-1:] == ["pre"]:
        # A code inside a pre only names the language.
        language = str(attributes.get("class", "")).removeprefix("language-")
        entity |= {"type": "pre", **({"language": language} if language else {})}
    elif tag == "pre":
        same = [e for e in entities if e["type"] == "pre" and e["offset"] == entity["offset"]]
        if same and same[-1]["length"] == entity["length"]:
            return
    elif tag == "blockquote" and "expandable" in attributes:
        entity["type"] = "expandable_blockquote"
    elif tag == "a":
        url = str(attributes.get("href") or text)
        if not re.match(r"(?:https?://|tg://|mailto:|[\w-]+\.)", url):
            return
        entity["url"] = url
    entities.append(entity)


def automatic(text: str, taken: list[Json]) -> list[Json]:
    """The entities the platform finds by itself: commands, addresses, mentions, hashtags."""
    found = [e for e in taken if e["type"] in ("code", "pre", "text_link", "url")]
    more: list[Json] = []
    for kind, pattern in FOUND.items():
        for match in pattern.finditer(text):
            start, size = units(text[: match.start()]), units(match[0])
            end = start + size
            if all(end <= e["offset"] or start >= e["offset"] + e["length"] for e in found):
                one = {"type": kind, "offset": start, "length": size}
                found.append(one)
                more.append(one)
    return more


def finish(text: str, entities: list[Json]) -> tuple[str, list[Json]]:
    """Trim the ends, as the platform does, and put the entities in order."""
    left = units(text[: len(text) - len(text.lstrip())])
    text = text.strip()
    total = units(text)
    kept = []
    for entity in entities:
        start = max(0, entity["offset"] - left)
        end = min(total, entity["offset"] + entity["length"] - left)
        if end > start:
            kept.append({**entity, "offset": start, "length": end - start})
    kept += automatic(text, kept)
    return text, sorted(kept, key=lambda e: (e["offset"], -e["length"], e["type"]))


# Parameters -------------------------------------------------------------------------------------


@dataclass
class Upload:
    """One file of a multipart request."""

    name: str
    data: bytes
    mime: str


class Params:
    """The parameters of a call, whichever way they were written."""

    def __init__(self, values: Json, files: dict[str, Upload] | None = None) -> None:
        self.values = values
        self.files = files or {}

    def text(self, name: str) -> str:
        """A string, empty when absent."""
        value = self.values.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> int | None:
        """A whole number."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        try:
            return int(value)
        except (TypeError, ValueError):
            raise bad(f'invalid {name} specified: "{value}"') from None

    def flag(self, name: str) -> bool:
        """A truth value."""
        return str(self.values.get(name)).lower() in ("true", "1", "yes")

    def tree(self, name: str) -> Any:
        """A JSON value."""
        value = self.values.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value else None
        except ValueError:
            raise bad(f"can't parse {name} JSON object") from None

    def seen(self) -> Json:
        """The parameters for the log, without the bytes."""
        files = {k: {"file": f.name, "size": len(f.data)} for k, f in self.files.items()}
        return {**self.values, **files}


# State ------------------------------------------------------------------------------------------


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

    def described(self) -> Json:
        """As PhotoSize or Document."""
        body: Json = {
            "file_id": self.id,
            "file_unique_id": self.unique_id,
            "file_size": len(self.data),
        }
        if self.kind == "Photo":
            return {**body, "width": self.width, "height": self.height}
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
        if self.group:
            body["media_group_id"] = self.group
        if self.edited:
            body["edit_date"] = int(self.edited)
        return {**body, **self.versions[-1].body()}


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


@dataclass
class Limits:
    """The rates and ages in force; None switches one off."""

    overall_per_second: float | None = 30
    group_per_minute: float | None = 20
    private_per_second: float | None = 1
    private_burst: float = 5
    # Each call made during a penalty lengthens it by this many seconds.
    penalty_growth: float = 1
    callback_age: float = 15 * 60


@dataclass
class Fault:
    """A failure to inject."""

    method: str
    status: int
    description: str
    retry_after: int | None
    times: int
    after_applying: bool


class Platform:
    """Everything one bot's platform knows."""

    def __init__(self, token: str, username: str) -> None:
        self.token = token
        self.me: Json = {
            "id": int(token.split(":")[0]),
            "is_bot": True,
            "first_name": "Test bot",
            "username": username,
        }
        self.privacy = True
        self.logged_out = False
        self.limits = Limits()
        self.ahead = 0.0
        self.chats: dict[int, Chat] = {}
        self.users: dict[int, Json] = {}
        self.files: dict[str, File] = {}
        self.paths: dict[str, File] = {}
        self.callbacks: dict[str, Json] = {}
        self.commands: dict[tuple[str, str], list[Json]] = {}
        self.about: dict[str, str] = {}
        self.updates: dict[int, Json] = {}
        self.pending: list[Json] = []
        self.again: list[Json] = []
        self.allowed: list[str] = []
        self.faults: list[Fault] = []
        self.sent: deque[float] = deque()
        self.next_update = 100001
        self.next_message = 1
        self.next_thing = 1
        self.notify: Callable[[], None] = lambda: None
        names = (
            *("getMe", "sendMessage", "sendPhoto", "sendDocument", "sendMediaGroup"),
            *("editMessageText", "editMessageCaption", "editMessageMedia"),
            *("editMessageReplyMarkup", "deleteMessage", "answerCallbackQuery"),
            *("sendChatAction", "sendMessageDraft", "getFile", "getChat", "getChatMember"),
            *("getChatAdministrators", "leaveChat", "close", "logOut", "setMyCommands"),
            *("getMyCommands", "setMyDescription", "setMyShortDescription"),
        )
        self.methods: dict[str, Callable[[Params], Any]] = {
            name.lower(): getattr(self, "do_" + re.sub(r"([A-Z])", r"_\1", name).lower())
            for name in names
        }

    def now(self) -> float:
        """The platform's clock."""
        return time.time() + self.ahead

    def fresh(self) -> int:
        """A number never given before."""
        self.next_thing += 1
        return self.next_thing

    # Updates ------------------------------------------------------------------------------------

    def push(self, kind: str, payload: Json) -> Json:
        """Queue an update, unless the bot asked not to have its kind."""
        update: Json = {"update_id": self.next_update, kind: payload}
        self.updates[self.next_update] = update
        self.next_update += 1
        if kind in self.allowed or (not self.allowed and kind not in NOT_BY_DEFAULT):
            self.pending.append(update)
            self.notify()
        return update

    def confirm(self, offset: int) -> None:
        """Forget what an offset confirms."""
        if offset < 0:
            self.pending = self.pending[offset:]
        else:
            self.pending = [u for u in self.pending if u["update_id"] >= offset]

    def batch(self, limit: int) -> list[Json]:
        """The updates to hand out: redelivered ones, once, then all unconfirmed ones."""
        again, self.again = self.again, []
        return [*again, *self.pending][:limit]

    # Chats and limits ---------------------------------------------------------------------------

    def user(self, id: int, username: str | None = "", first_name: str | None = "") -> Json:
        """A person, remembered."""
        known = self.users.get(id, {"id": id, "is_bot": False, "first_name": f"User {id}"})
        if first_name:
            known["first_name"] = first_name
        if username:
            known["username"] = username
        self.users[id] = known
        return dict(known)

    def chat(self, p: Params, cost: int = 0) -> Chat:
        """The chat a call is about, if the bot may act there; cost is what it adds to the rate."""
        asked = p.text("chat_id")
        if not asked:
            raise bad("chat_id is empty")
        if asked.startswith("@"):
            named = [c for c in self.chats.values() if not c.private and c.username == asked[1:]]
            chat = named[0] if named else None
        else:
            chat = self.chats.get(int(asked)) if re.fullmatch(r"-?\d+", asked) else None
        if chat is None:
            raise bad("chat not found")
        if chat.migrated_to:
            what = "group chat was upgraded to a supergroup chat"
            raise bad(what, migrate_to_chat_id=chat.migrated_to)
        if not chat.started:
            raise forbidden("bot can't initiate conversation with a user")
        if chat.blocked:
            raise forbidden("bot was blocked by the user")
        if chat.kicked:
            raise forbidden(f"bot was kicked from the {chat.type} chat")
        if chat.left:
            raise forbidden(f"bot is not a member of the {chat.type} chat")
        if cost:
            self.charge(chat, cost)
        return chat

    def charge(self, chat: Chat, cost: int) -> None:
        """Count a send or an edit against the rates."""
        now, limits = self.now(), self.limits
        if chat.flood_until > now:
            chat.flood_until += limits.penalty_growth
            raise too_many(math.ceil(chat.flood_until - now))
        while self.sent and self.sent[0] <= now - 1:
            self.sent.popleft()
        while chat.recent and chat.recent[0] <= now - 60:
            chat.recent.popleft()
        wait = 0.0
        if limits.private_per_second and chat.private:
            burst = limits.private_burst
            held = burst if chat.tokens is None else chat.tokens
            held = min(burst, held + (now - chat.filled) * limits.private_per_second)
            spent = min(cost, burst)
            if held < spent:
                wait = (spent - held) / limits.private_per_second
            else:
                held -= spent
            chat.tokens, chat.filled = held, now
        elif limits.group_per_minute is not None and not chat.private:
            over = len(chat.recent) + cost - int(limits.group_per_minute)
            if over > 0:
                held_by = chat.recent[min(over, len(chat.recent)) - 1] if chat.recent else now
                wait = held_by + 60 - now
        if wait > 0:
            seconds = max(1, math.ceil(wait))
            chat.flood_until = now + seconds
            raise too_many(seconds)
        if limits.overall_per_second and len(self.sent) + cost > limits.overall_per_second:
            raise too_many(1)
        self.sent.extend([now] * cost)
        chat.recent.extend([now] * cost)

    def thread(self, p: Params, chat: Chat) -> int | None:
        """The topic a call names, which must exist; General has none."""
        thread = p.number("message_thread_id")
        if not thread:
            return None
        if thread == 1 or thread not in chat.topics:
            raise bad("message thread not found")
        return thread

    # Content ------------------------------------------------------------------------------------

    def words(self, p: Params, text_key: str, entities_key: str) -> tuple[str, list[Json]]:
        """The text and entities of a call."""
        text = p.text(text_key)
        mode = p.text("parse_mode").lower()
        entities: list[Json] = []
        if mode == "html":
            text, entities = parse_html(text)
        elif mode:
            raise bad("unsupported parse_mode")
        else:
            for given in p.tree(entities_key) or []:
                if not isinstance(given, dict) or not {"type", "offset", "length"} <= set(given):
                    raise bad("can't parse MessageEntity")
                entities.append(dict(given))
        return finish(text, entities)

    def text_version(self, p: Params) -> Version:
        """What a text call shows."""
        text, entities = self.words(p, "text", "entities")
        if not text:
            raise bad("message text is empty")
        if units(text) > 4096:
            raise bad("message is too long")
        return Version("text", text, entities)

    def media_version(self, p: Params, kind: str, source: Any) -> Version:
        """What a photo or a document shows."""
        caption, entities = self.words(p, "caption", "caption_entities")
        if units(caption) > 1024:
            raise bad("message caption is too long")
        media = self.media(kind, source, p.files)
        return Version(kind, caption, entities, media, spoiler=p.flag("has_spoiler"))

    def media(self, kind: str, source: Any, files: dict[str, Upload]) -> File:
        """The file a call uploads or names."""
        upload = files.get(kind) if source is None else None
        if isinstance(source, str) and source.startswith("attach://"):
            upload = files.get(source.removeprefix("attach://"))
            if upload is None:
                raise bad("wrong file identifier/HTTP URL specified")
        if upload:
            if not upload.data:
                raise bad("file must be non-empty")
            return self.keep_photo(upload) if kind == "photo" else self.keep_document(upload)
        if not source:
            raise bad(f"there is no {kind} in the request")
        if re.match(r"(?i)https?://", str(source)):
            raise bad("failed to get HTTP URL content")
        known = self.files.get(str(source))
        if known is None:
            raise bad("wrong file identifier/HTTP URL specified")
        if known.kind.lower() != kind:
            raise bad(f"can't use file of type {known.kind} as {kind.capitalize()}")
        return known.sizes[-1] if known.sizes else known

    def keep_photo(self, upload: Upload) -> File:
        """Decode a picture and keep its sizes, encoded again as the platform does."""
        if len(upload.data) > 10 * MB:
            raise bad("file is too big for a photo")
        try:
            picture: Image.Image = Image.open(io.BytesIO(upload.data))
            width, height = picture.size
            if width + height > 10000 or max(width, height) > 20 * min(width, height):
                raise bad("PHOTO_INVALID_DIMENSIONS")
            picture = picture.convert("RGB")
        except Image.DecompressionBombError:
            raise bad("PHOTO_INVALID_DIMENSIONS") from None
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            raise bad("IMAGE_PROCESS_FAILED") from None
        longest = max(width, height)
        sizes: list[File] = []
        for side in [*(s for s in (90, 320, 800, 1280) if s < longest), min(longest, 2560)]:
            shape = tuple(max(1, round(n * side / longest)) for n in (width, height))
            scaled = picture if side == longest else picture.resize((shape[0], shape[1]))
            data = io.BytesIO()
            scaled.save(data, "JPEG", quality=87)
            sizes.append(self.keep("Photo", data.getvalue(), "photos", ".jpg"))
            sizes[-1].width, sizes[-1].height = scaled.size
            sizes[-1].mime = "image/jpeg"
        sizes[-1].raw = upload.data
        for size in sizes:
            size.sizes = sizes
        return sizes[-1]

    def keep_document(self, upload: Upload) -> File:
        """Keep a file as it is."""
        if len(upload.data) > 50 * MB:
            raise ApiError(413, "Request Entity Too Large")
        suffix = re.search(r"\.\w{1,8}$", upload.name)
        file = self.keep("Document", upload.data, "documents", suffix[0] if suffix else "")
        file.name = upload.name
        file.mime = mimetypes.guess_type(upload.name)[0] or "application/octet-stream"
        return file

    def keep(self, kind: str, data: bytes, folder: str, suffix: str) -> File:
        """Store bytes under fresh names."""
        number = self.fresh()
        path = f"{folder}/file_{number}{suffix}"
        # As long as real ones: a column too narrow for them should fail in tests.
        file_id = f"{'AgAC' if kind == 'Photo' else 'BQAC'}AgIAAx{number:0>62}"
        file = File(file_id, f"AQAD{number:0>12}", kind, data, path, raw=data)
        self.files[file.id] = self.paths[path] = file
        return file

    def markup(self, p: Params, editing: bool = False) -> Json | None:
        """The inline keyboard of a call."""
        given = p.tree("reply_markup")
        if not given:
            return None
        if not isinstance(given, dict):
            raise bad("object expected as reply markup")
        if "inline_keyboard" not in given:
            if editing:
                raise bad("inline keyboard expected")
            return None
        rows = given["inline_keyboard"]
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise bad("can't parse inline keyboard button: Field must be of type Array")
        if sum(map(len, rows)) > 100 or any(len(row) > 8 for row in rows):
            raise bad("REPLY_MARKUP_TOO_LONG")
        for button in (button for row in rows for button in row):
            if not isinstance(button, dict) or not str(button.get("text") or "").strip():
                raise bad("inline keyboard button text must be non-empty")
            kinds = set(button) - {"text", "style", "icon_custom_emoji_id"}
            if not kinds:
                raise bad("Text buttons are unallowed in the inline keyboard")
            data = button.get("callback_data")
            if data is not None and not 1 <= len(str(data).encode()) <= 64:
                raise bad("BUTTON_DATA_INVALID")
            url = button.get("url")
            if url is not None and not re.match(r"(?:https?://|tg://)\S+$", str(url)):
                raise bad(f"inline keyboard button URL '{url}' is invalid: Wrong HTTP URL")
        kept = [row for row in rows if row]
        return {"inline_keyboard": kept} if kept else None

    # Messages -----------------------------------------------------------------------------------

    def add(
        self,
        chat: Chat,
        sender: Json,
        version: Version,
        thread: int | None = None,
        topic: bool = False,
        reply_to: Message | None = None,
        group: str | None = None,
    ) -> Message:
        """Put a new message in a chat."""
        version.time = self.now()
        if chat.type in ("supergroup", "channel"):
            # These count for themselves: the same id in two chats is two messages.
            number = len(chat.messages) + 1
        else:
            number, self.next_message = self.next_message, self.next_message + 1
        message = Message(
            number, chat, sender, version.time, [version], thread, topic, reply_to, group
        )
        chat.messages[number] = message
        return message

    def replied(self, p: Params, chat: Chat) -> Message | None:
        """The message a call replies to."""
        given = p.tree("reply_parameters") or {}
        if not isinstance(given, dict):
            raise bad("can't parse reply_parameters JSON object")
        asked = Params(given).number("message_id") or p.number("reply_to_message_id")
        if not asked:
            return None
        found = chat.messages.get(asked)
        if given.get("chat_id") not in (None, chat.id):
            found = None
        if found and found.deleted is None:
            return found
        if Params(given).flag("allow_sending_without_reply"):
            return None
        raise bad("message to be replied not found")

    def send(self, p: Params, chat: Chat, version: Version, group: str | None = None) -> Message:
        """Send one message of the bot."""
        thread, reply = self.thread(p, chat), self.replied(p, chat)
        version.markup = self.markup(p)
        return self.add(chat, self.me, version, thread, thread is not None, reply, group)

    def do_get_me(self, p: Params) -> Json:
        return {
            **self.me,
            "can_join_groups": True,
            "can_read_all_group_messages": not self.privacy,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": False,
        }

    def do_send_message(self, p: Params) -> Json:
        chat = self.chat(p, 1)
        version = self.text_version(p)
        version.method = "sendMessage"
        return self.send(p, chat, version).body()

    def do_send_photo(self, p: Params) -> Json:
        return self.send_media(p, "photo", "sendPhoto")

    def do_send_document(self, p: Params) -> Json:
        return self.send_media(p, "document", "sendDocument")

    def send_media(self, p: Params, kind: str, method: str) -> Json:
        """Send a photo or a document."""
        chat = self.chat(p, 1)
        # Refusals come before the upload is kept.
        self.thread(p, chat), self.replied(p, chat), self.markup(p)
        version = self.media_version(p, kind, p.values.get(kind))
        version.method = method
        return self.send(p, chat, version).body()

    def do_send_media_group(self, p: Params) -> list[Json]:
        items = p.tree("media")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise bad("can't parse media JSON object")
        chat = self.chat(p, max(1, len(items)))
        if len(items) > 10:
            raise bad("too many messages to send as an album")
        if len(items) < 2:
            raise bad("media group must include 2-10 items")
        if len({item.get("type") for item in items}) > 1:
            raise bad("document can't be mixed with other media types")
        versions = [self.input_media(item, p) for item in items]
        self.thread(p, chat), self.replied(p, chat)
        group = str(self.fresh() * 7919)
        plain = Params({k: v for k, v in p.values.items() if k != "reply_markup"})
        for version in versions:
            version.method = "sendMediaGroup"
        return [self.send(plain, chat, version, group).body() for version in versions]

    def input_media(self, item: Json, p: Params) -> Version:
        """What an InputMedia shows."""
        kind = item.get("type")
        if kind not in ("photo", "document"):
            raise bad("unsupported type of media in this test server")
        source = item.get("media")
        if not source:
            raise bad("media not found")
        return self.media_version(Params(item, p.files), str(kind), source)

    def editable(self, p: Params) -> Message:
        """The bot's own message that a call edits."""
        if not p.text("chat_id") or p.number("message_id") is None:
            raise bad("message identifier is not specified")
        chat = self.chat(p, 1)
        message = chat.messages.get(p.number("message_id") or 0)
        if message is None or message.deleted is not None:
            raise bad("message to edit not found")
        if message.sender is not self.me:
            raise bad("message can't be edited")
        return message

    def change(self, message: Message, version: Version, method: str) -> Json:
        """Add a version, which must differ from the last."""
        if version.content() == message.versions[-1].content():
            raise bad(NOT_MODIFIED)
        version.time, version.method = self.now(), method
        message.versions.append(version)
        message.edited = version.time
        return message.body()

    def do_edit_message_text(self, p: Params) -> Json:
        message = self.editable(p)
        version = self.text_version(p)
        if message.versions[-1].kind != "text":
            raise bad("there is no text in the message to edit")
        version.markup = self.markup(p, editing=True)
        return self.change(message, version, "editMessageText")

    def do_edit_message_caption(self, p: Params) -> Json:
        message = self.editable(p)
        last = message.versions[-1]
        if last.media is None:
            raise bad("there is no caption in the message to edit")
        caption, entities = self.words(p, "caption", "caption_entities")
        if units(caption) > 1024:
            raise bad("message caption is too long")
        markup = self.markup(p, editing=True)
        version = Version(last.kind, caption, entities, last.media, markup, last.spoiler)
        return self.change(message, version, "editMessageCaption")

    def do_edit_message_media(self, p: Params) -> Json:
        message = self.editable(p)
        item = p.tree("media")
        if not isinstance(item, dict):
            raise bad("can't parse input media JSON object")
        if message.group and item.get("type") != message.versions[-1].kind:
            raise bad("can't change the type of media in an album")
        markup = self.markup(p, editing=True)
        version = self.input_media(item, p)
        version.markup = markup
        return self.change(message, version, "editMessageMedia")

    def do_edit_message_reply_markup(self, p: Params) -> Json:
        message = self.editable(p)
        last = message.versions[-1]
        markup = self.markup(p, editing=True)
        version = Version(last.kind, last.text, last.entities, last.media, markup, last.spoiler)
        return self.change(message, version, "editMessageReplyMarkup")

    def do_delete_message(self, p: Params) -> bool:
        chat = self.chat(p)
        message = chat.messages.get(p.number("message_id") or 0)
        if message is None or message.deleted is not None:
            raise bad("message to delete not found")
        own = message.sender is self.me
        if not own and not chat.private and not chat.bot_admin:
            raise bad("message can't be deleted")
        if self.now() - message.date > 48 * 3600 and not chat.bot_admin:
            raise bad("message can't be deleted for everyone")
        message.deleted = self.now()
        return True

    def do_answer_callback_query(self, p: Params) -> bool:
        query = self.callbacks.get(p.text("callback_query_id"))
        if query is None or self.now() - query["time"] > self.limits.callback_age:
            raise bad("query is too old and response timeout expired or query ID is invalid")
        if units(p.text("text")) > 200:
            raise bad("MESSAGE_TOO_LONG")
        if p.text("url") and not p.text("url").startswith(f"https://t.me/{self.me['username']}?"):
            raise bad("URL_INVALID")
        query["answers"].append(
            {
                "text": p.text("text"),
                "show_alert": p.flag("show_alert"),
                "url": p.text("url"),
                "time": self.now(),
            }
        )
        return True

    def do_send_chat_action(self, p: Params) -> bool:
        chat = self.chat(p)
        thread = self.thread(p, chat)
        if p.text("action") not in ACTIONS:
            raise bad("wrong parameter action in request")
        action = {"action": p.text("action"), "message_thread_id": thread, "time": self.now()}
        chat.actions.append(action)
        return True

    def do_send_message_draft(self, p: Params) -> bool:
        chat = self.chat(p)
        if not chat.private:
            raise bad("TEXTDRAFT_PEER_INVALID")
        if not p.number("draft_id"):
            raise bad("draft identifier must be non-zero")
        thread = self.thread(p, chat)
        text, entities = self.words(p, "text", "entities")
        if units(text) > 4096:
            raise bad("message is too long")
        chat.drafts.append(
            {
                "draft_id": p.number("draft_id"),
                "text": text,
                "entities": entities,
                "message_thread_id": thread,
                "time": self.now(),
            }
        )
        return True

    def do_get_file(self, p: Params) -> Json:
        file = self.files.get(p.text("file_id"))
        if file is None:
            raise bad("wrong file_id or the file is temporarily unavailable")
        if len(file.data) > 20 * MB:
            raise bad("file is too big")
        return {
            "file_id": file.id,
            "file_unique_id": file.unique_id,
            "file_size": len(file.data),
            "file_path": file.path,
        }

    # The bot and its chats ----------------------------------------------------------------------

    def do_get_chat(self, p: Params) -> Json:
        gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription")
        return {
            **self.chat(p).body(),
            "accent_color_id": 0,
            "max_reaction_count": 11,
            "accepted_gift_types": dict.fromkeys((*gifts, "gifts_from_channels"), False),
        }

    def member(self, chat: Chat, user_id: int) -> Json:
        """A user's place in a chat."""
        bot = user_id == self.me["id"]
        user = self.me if bot else self.users.get(user_id)
        if user is None:
            raise bad("PARTICIPANT_ID_INVALID")
        if chat.admins[:1] == [user_id]:
            return {"user": user, "status": "creator", "is_anonymous": False}
        if user_id in chat.admins or (bot and chat.bot_admin):
            return {"user": user, "status": "administrator", **ADMIN_RIGHTS}
        inside = bot or user_id in chat.members or (chat.private and user_id == chat.id)
        return {"user": user, "status": "member" if inside else "left"}

    def do_get_chat_member(self, p: Params) -> Json:
        return self.member(self.chat(p), p.number("user_id") or 0)

    def do_get_chat_administrators(self, p: Params) -> list[Json]:
        chat = self.chat(p)
        if chat.private:
            raise bad("there are no administrators in the private chat")
        bot = [int(self.me["id"])] if chat.bot_admin else []
        return [self.member(chat, user) for user in [*chat.admins, *bot]]

    def do_leave_chat(self, p: Params) -> bool:
        chat = self.chat(p)
        if chat.private:
            raise bad("chat member status can't be changed in private chats")
        chat.left = True
        return True

    def do_close(self, p: Params) -> bool:
        return True

    def do_log_out(self, p: Params) -> bool:
        self.logged_out = True
        return True

    def command_key(self, p: Params) -> tuple[str, str]:
        """Where a list of commands applies."""
        scope = p.tree("scope") or {"type": "default"}
        return json.dumps(scope, sort_keys=True), p.text("language_code")

    def do_set_my_commands(self, p: Params) -> bool:
        commands = p.tree("commands")
        if not isinstance(commands, list):
            raise bad("can't parse commands JSON object")
        if len(commands) > 100:
            raise bad("BOT_COMMANDS_TOO_MUCH")
        for one in commands:
            if not re.fullmatch(r"/?[a-z0-9_]{1,32}", str(one.get("command"))):
                raise bad("BOT_COMMAND_INVALID")
            if not 1 <= len(str(one.get("description") or "")) <= 256:
                raise bad("BOT_COMMAND_DESCRIPTION_INVALID")
        self.commands[self.command_key(p)] = commands
        return True

    def do_get_my_commands(self, p: Params) -> list[Json]:
        return self.commands.get(self.command_key(p), [])

    def do_set_my_description(self, p: Params) -> bool:
        return self.describe(p, "description", 512)

    def do_set_my_short_description(self, p: Params) -> bool:
        return self.describe(p, "short_description", 120)

    def describe(self, p: Params, what: str, limit: int) -> bool:
        """Set a text about the bot."""
        if units(p.text(what)) > limit:
            raise bad(f"{what} is too long")
        self.about[what] = p.text(what)
        return True
