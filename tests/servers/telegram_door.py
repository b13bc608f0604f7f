"""The control door of the strict Telegram: what tests do as people, and what they look at."""

from __future__ import annotations

import base64
import re

from aiohttp import web

from tests.servers.telegram_errors import ApiError, Json
from tests.servers.telegram_objects import Chat, File, Message, Version
from tests.servers.telegram_params import Upload, read
from tests.servers.telegram_state import Fault, Platform
from tests.servers.telegram_text import finish


class Door:
    """What tests do as people, chats and misfortune: JSON under /control/."""

    def __init__(self, platform: Platform, calls: list[Json]) -> None:
        self.platform = platform
        self.calls = calls

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request at the door."""
        name = request.match_info["name"]
        found = getattr(self, f"{request.method.lower()}_{name}", None)
        if found is None:
            return web.json_response({"error": f"no such control: {name}"}, status=404)
        try:
            result = found((await read(request)).values)
        except (KeyError, ValueError, TypeError, ApiError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        if isinstance(result, bytes):
            return web.Response(body=result, content_type="application/octet-stream")
        return web.json_response(result)

    def chat_of(self, q: Json) -> Chat:
        """The chat a message is in, made when it is new."""
        id, person = int(q["chat_id"]), int(q["user_id"])
        chats = self.platform.chats
        if id > 0 and id != person:
            raise ValueError("a private chat has the id of its user")
        if id not in chats:
            kind = "supergroup" if str(id).startswith("-100") else "group"
            chats[id] = Chat(id, q.get("chat_type") or ("private" if id > 0 else kind))
        chat = chats[id]
        if chat.private:
            user = self.platform.users.get(id, {})
            chat.started, chat.first_name = True, user.get("first_name", "")
            chat.username = user.get("username", "")
        else:
            chat.members.add(person)
            # A person seen only in a group cannot be written to.
            chats.setdefault(person, Chat(person, "private", started=False))
        return chat

    def sees(self, message: Message) -> bool:
        """Whether the bot gets a message, by the rules of privacy mode."""
        chat, version = message.chat, message.versions[-1]
        if chat.kicked or chat.left:
            return False
        me = self.platform.me
        name = str(me["username"]).lower()
        to_other = re.match(r"/\w+@(\w+)", version.text)
        if to_other and to_other[1].lower() != name and not chat.private:
            return not self.platform.privacy
        if chat.private or chat.bot_admin or not self.platform.privacy:
            return True
        reply = message.reply_to
        command = version.text.startswith("/")
        return command or bool(reply and reply.sender is me)

    def incoming(self, q: Json, version: Version) -> Json:
        """A message of a person; update_id is null where privacy mode hides it from the bot."""
        person = self.platform.user(
            int(q["user_id"]), q.get("username"), q.get("first_name"), q.get("language_code")
        )
        chat = self.chat_of(q)
        reply = None
        if q.get("reply_to_message_id"):
            reply = chat.messages[int(q["reply_to_message_id"])]
        thread = int(q["message_thread_id"]) if q.get("message_thread_id") else None
        topic = bool(q.get("is_topic_message", thread in chat.topics))
        group = q.get("media_group_id")
        if group:
            self.fits(chat, str(group), version.kind)
        message = self.platform.add(chat, person, version, thread, topic, reply, group)
        message.origin = q.get("forward_origin")
        if other := q.get("external_reply_to"):
            there = self.platform.chats[int(other["chat_id"])]
            message.elsewhere = there.messages[int(other["message_id"])]
        if not self.sees(message):
            return {"update_id": None, "message": message.body()}
        return self.platform.push("message", message.body())

    def post_user_message(self, q: Json) -> Json:
        text, entities = finish(str(q["text"]), [])
        return self.incoming(q, Version("text", text, entities))

    def post_photo_message(self, q: Json) -> Json:
        data = base64.b64decode(q["photo"])
        upload = Upload(q.get("file_name") or "photo.jpg", data, "")
        kind = "document" if q.get("as_document") else "photo"
        media = getattr(self.platform.files, f"keep_{kind}")(upload)
        text, entities = finish(str(q.get("caption") or ""), [])
        return self.incoming(q, Version(kind, text, entities, media))

    def post_forward(self, q: Json) -> Json:
        """A person passes a message on; its buttons stay behind."""
        old = self.platform.chats[int(q["from_chat_id"])].messages[int(q["message_id"])]
        last = old.versions[-1]
        origin = {"type": "user", "sender_user": old.sender, "date": int(old.date)}
        copy = Version(last.kind, last.text, last.entities, last.media)
        return self.incoming({**q, "forward_origin": origin}, copy)

    def fits(self, chat: Chat, group: str, kind: str) -> None:
        """An album is of photos and videos, or of documents alone, and of ten at most."""
        together = [one.versions[-1].kind for one in chat.messages.values() if one.group == group]
        if kind not in ("photo", "video", "document") or len(together) == 10:
            raise ValueError(f"no room for a {kind} in an album of {together}")
        if any((one == "document") != (kind == "document") for one in together):
            raise ValueError("documents stand in an album by themselves")

    def post_file_message(self, q: Json) -> Json:
        """A person sends a file of any kind but photo; `size` tells of one whose bytes are not."""
        kind = str(q["kind"])
        if kind not in ("document", "animation", "sticker", "video", "voice"):
            raise ValueError(f"no such kind of file: {kind}")
        if kind == "sticker" and q.get("caption"):
            raise ValueError("a sticker has no caption")
        data = base64.b64decode(q.get("data") or "")
        if not data and not q.get("size"):
            raise ValueError("nobody can send an empty file")
        upload = Upload(str(q.get("file_name") or ""), data, str(q.get("mime_type") or ""))
        thumbnail = base64.b64decode(q.get("thumbnail") or "")
        media = self.platform.files.keep_attachment(
            kind.capitalize(), upload, q.get("size"), thumbnail, dict(q.get("more") or {})
        )
        text, entities = finish(str(q.get("caption") or ""), [])
        return self.incoming(q, Version(kind, text, entities, media))

    def post_edit_user_message(self, q: Json) -> Json:
        message = self.platform.chats[int(q["chat_id"])].messages[int(q["message_id"])]
        last = message.versions[-1]
        text, entities = finish(str(q["text"]), [])
        now = self.platform.now()
        message.versions.append(Version(last.kind, text, entities, last.media, time=now))
        message.edited = now
        if not self.sees(message):
            return {"update_id": None, "edited_message": message.body()}
        return self.platform.push("edited_message", message.body())

    def post_press(self, q: Json) -> Json:
        """Press a button; with stale, one of an earlier version of the message."""
        message = self.platform.chats[int(q["chat_id"])].messages[int(q["message_id"])]
        if message.deleted is not None:
            raise ValueError("the message is deleted")
        shown = message.versions if q.get("stale") else message.versions[-1:]
        wanted = q.get("callback_data")
        for version in reversed(shown):
            for row in (version.markup or {}).get("inline_keyboard", []):
                for button in row:
                    data = button.get("callback_data")
                    named = wanted is None and button["text"] in (q.get("button"), q.get("text"))
                    if data is not None and (data == wanted or named):
                        return self.pressed(message, q, data)
        raise ValueError("no such button on the message")

    def pressed(self, message: Message, q: Json, data: str) -> Json:
        """The callback query of a press."""
        id = str(self.platform.fresh() * 1000003)
        person = self.platform.user(
            int(q["user_id"]), q.get("username"), q.get("first_name"), q.get("language_code")
        )
        payload = {
            "id": id,
            "from": person,
            "message": message.body(),
            "chat_instance": str(message.chat.id),
            "data": data,
        }
        self.platform.callbacks[id] = {"time": self.platform.now(), "answers": []}
        update = self.platform.push("callback_query", payload)
        return {"callback_query_id": id, "update": update}

    def post_callback_answer(self, q: Json) -> Json:
        """The last answer to a callback query, null while there is none."""
        answers = self.platform.callbacks[str(q["id"])]["answers"]
        return {"answer": answers[-1] if answers else None, "answers": answers}

    get_callback_answer = post_callback_answer

    def post_chat(self, q: Json) -> Json:
        id = int(q["chat_id"])
        kind = q.get("type") or ("private" if id > 0 else "supergroup")
        chat = self.platform.chats.setdefault(id, Chat(id, kind))
        chat.type = kind
        chat.kicked = chat.left = False
        for name in ("title", "username", "first_name", "is_forum", "bot_admin"):
            if name in q:
                setattr(chat, name, q[name])
        if "admins" in q:
            chat.admins = [int(user) for user in q["admins"]]
            for user in chat.admins:
                self.platform.user(user)
        if "topics" in q:
            chat.topics = {int(topic) for topic in q["topics"]}
        return chat.body()

    def standing(self, chat: Chat, q: Json, out: bool) -> Json:
        """Tell the bot that it was put out of a chat, or let in again."""
        me = self.platform.me
        inside = {"user": me, "status": "member"}
        outside = {"user": me, "status": "kicked", "until_date": 0}
        person = int(q.get("user_id") or (chat.admins or [abs(chat.id)])[0])
        payload = {
            "chat": chat.body(),
            "from": self.platform.user(person),
            "date": int(self.platform.now()),
            "old_chat_member": inside if out else outside,
            "new_chat_member": outside if out else inside,
        }
        return self.platform.push("my_chat_member", payload)

    def post_block(self, q: Json) -> Json:
        chat = self.platform.chats[int(q.get("chat_id") or q["user_id"])]
        chat.blocked = bool(q.get("blocked", True))
        return self.standing(chat, q, chat.blocked)

    def post_kick(self, q: Json) -> Json:
        chat = self.platform.chats[int(q["chat_id"])]
        chat.kicked = bool(q.get("kicked", True))
        return self.standing(chat, q, chat.kicked)

    def post_migrate(self, q: Json) -> Json:
        old = self.platform.chats[int(q["chat_id"])]
        to = int(q.get("to") or -1000000000000 + old.id)
        new = Chat(to, "supergroup", old.title, admins=old.admins, bot_admin=old.bot_admin)
        new.members = old.members
        self.platform.chats[to] = new
        old.migrated_to = to
        person = self.platform.user((old.admins or [1])[0])
        for chat, note in (
            (old, {"migrate_to_chat_id": to}),
            (new, {"migrate_from_chat_id": old.id}),
        ):
            message = self.platform.add(chat, person, Version("text", "", []))
            self.platform.push("message", message.body() | note)
        return {"migrate_to_chat_id": to}

    def post_update(self, q: Json) -> Json:
        """An update as it is given, of whatever shape."""
        return self.platform.push(str(q["kind"]), q["payload"])

    def post_redeliver(self, q: Json) -> Json:
        update = self.platform.updates[int(q["update_id"])]
        self.platform.again.append(update)
        self.platform.notify()
        return update

    def post_token(self, q: Json) -> Json:
        """Let another token be the bot's."""
        self.platform.token = str(q["token"])
        return {}

    def post_delete_message(self, q: Json) -> Json:
        """Somebody deletes a message, which no bot is told."""
        message = self.platform.chats[int(q["chat_id"])].messages[int(q["message_id"])]
        message.deleted = self.platform.now()
        return {}

    def post_clock(self, q: Json) -> Json:
        self.platform.ahead += float(q["advance"])
        return {"now": self.platform.now()}

    def post_limits(self, q: Json) -> Json:
        """Set rates and ages, and privacy mode; null switches a rate off."""
        limits = self.platform.limits
        unknown = set(q) - set(vars(limits)) - {"privacy"}
        if unknown:
            raise ValueError(f"no such limits: {sorted(unknown)}")
        self.platform.privacy = bool(q.pop("privacy", self.platform.privacy))
        for name, value in q.items():
            setattr(limits, name, value)
        return {**vars(limits), "privacy": self.platform.privacy}

    def post_fail(self, q: Json) -> Json:
        after = bool(q.get("after_applying", False))
        # 0 means that the connection drops, and "drop" reads better in a test.
        status = q.get("status") or 0
        fault = Fault(
            str(q["method"]),
            0 if status == "drop" else int(status),
            str(q.get("description") or ""),
            q.get("retry_after"),
            int(q.get("times", 1)),
            after,
            bool(q.get("page", False)),
            float(q.get("seconds", 0)),
        )
        self.platform.faults.append(fault)
        return vars(fault)

    def history(self, message: Message) -> Json:
        """A message with every version of it."""
        versions = [
            {
                **version.body(),
                "kind": version.kind,
                "time": version.time,
                "method": version.method,
                "reply_markup": version.markup,
                "photo": self.picture(version.media) if version.kind == "photo" else None,
            }
            for version in message.versions
        ]
        kinds = [version.kind for version in message.versions]
        return {
            **message.body(),
            "from_bot": message.sender is self.platform.me,
            "deleted": message.deleted,
            "text_became_media": kinds[0] == "text" and kinds[-1] != "text",
            "versions": versions,
        }

    def picture(self, media: File | None) -> Json | None:
        """The largest size of a photo."""
        return media.described() if media else None

    def get_messages(self, q: Json) -> Json:
        chat = self.platform.chats.get(int(q["chat_id"]))
        if chat is None:
            return {"messages": [], "drafts": [], "actions": []}
        messages = [self.history(message) for message in chat.messages.values()]
        return {"messages": messages, "drafts": chat.drafts, "actions": chat.actions}

    def get_calls(self, q: Json) -> list[Json]:
        wanted = str(q.get("method") or "").lower()
        return [c for c in self.calls if not wanted or c["method"].lower() == wanted]

    def get_file(self, q: Json) -> bytes:
        """The bytes as they were uploaded; smaller sizes of a photo as the platform made them."""
        file = self.platform.files.by_id[str(q["file_id"])]
        return file.raw or file.data

    def get_commands(self, q: Json) -> list[Json]:
        return [
            {"scope": scope, "language_code": language, "commands": commands}
            for (scope, language), commands in self.platform.commands.items()
        ]
