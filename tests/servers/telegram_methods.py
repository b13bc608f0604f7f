"""The Bot API's methods: what the bot asks of a platform, in messages, chats and about itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.servers.telegram_content import input_media, keyboard, media_version, text_version, words
from tests.servers.telegram_errors import Json, bad
from tests.servers.telegram_files import MB
from tests.servers.telegram_objects import Chat, Message, Version
from tests.servers.telegram_params import Params
from tests.servers.telegram_state import Platform
from tests.servers.telegram_text import units

ACTIONS = {
    *("typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice"),
    *("upload_document", "choose_sticker", "find_location", "record_video_note"),
    "upload_video_note",
}
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


class Methods:
    """The methods a bot can call, by their names in lower case."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        names = (
            *("getMe", "sendMessage", "sendPhoto", "sendDocument", "sendMediaGroup"),
            *("editMessageText", "editMessageCaption", "editMessageMedia"),
            *("editMessageReplyMarkup", "deleteMessage", "answerCallbackQuery"),
            *("sendChatAction", "sendMessageDraft", "getFile", "getChat", "getChatMember"),
            *("getChatAdministrators", "leaveChat", "close", "logOut", "setMyCommands"),
            *("getMyCommands", "setMyDescription", "setMyShortDescription"),
        )
        self.by_name: dict[str, Callable[[Params], Any]] = {
            name.lower(): getattr(self, "do_" + re.sub(r"([A-Z])", r"_\1", name).lower())
            for name in names
        }

    # Messages -----------------------------------------------------------------------------------

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
        thread, reply = self.platform.thread(p, chat), self.replied(p, chat)
        version.markup = keyboard(p)
        return self.platform.add(
            chat, self.platform.me, version, thread, thread is not None, reply, group
        )

    def do_get_me(self, p: Params) -> Json:
        return {
            **self.platform.me,
            "can_join_groups": True,
            "can_read_all_group_messages": not self.platform.privacy,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": False,
        }

    def do_send_message(self, p: Params) -> Json:
        chat = self.platform.chat(p, 1)
        version = text_version(p)
        version.method = "sendMessage"
        return self.send(p, chat, version).body()

    def do_send_photo(self, p: Params) -> Json:
        return self.send_media(p, "photo", "sendPhoto")

    def do_send_document(self, p: Params) -> Json:
        return self.send_media(p, "document", "sendDocument")

    def send_media(self, p: Params, kind: str, method: str) -> Json:
        """Send a photo or a document."""
        chat = self.platform.chat(p, 1)
        # Refusals come before the upload is kept.
        self.platform.thread(p, chat), self.replied(p, chat), keyboard(p)
        version = media_version(p, kind, p.values.get(kind), self.platform.files)
        version.method = method
        return self.send(p, chat, version).body()

    def do_send_media_group(self, p: Params) -> list[Json]:
        items = p.tree("media")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise bad("can't parse media JSON object")
        chat = self.platform.chat(p, max(1, len(items)))
        if len(items) > 10:
            raise bad("too many messages to send as an album")
        if len(items) < 2:
            raise bad("media group must include 2-10 items")
        if len({item.get("type") for item in items}) > 1:
            raise bad("document can't be mixed with other media types")
        versions = [input_media(item, p, self.platform.files) for item in items]
        self.platform.thread(p, chat), self.replied(p, chat)
        group = str(self.platform.fresh() * 7919)
        plain = Params({k: v for k, v in p.values.items() if k != "reply_markup"})
        for version in versions:
            version.method = "sendMediaGroup"
        return [self.send(plain, chat, version, group).body() for version in versions]

    def editable(self, p: Params) -> Message:
        """The bot's own message that a call edits."""
        if not p.text("chat_id") or p.number("message_id") is None:
            raise bad("message identifier is not specified")
        chat = self.platform.chat(p, 1)
        message = chat.messages.get(p.number("message_id") or 0)
        if message is None or message.deleted is not None:
            raise bad("message to edit not found")
        if message.sender is not self.platform.me:
            raise bad("message can't be edited")
        return message

    def change(self, message: Message, version: Version, method: str) -> Json:
        """Add a version, which must differ from the last."""
        if version.content() == message.versions[-1].content():
            raise bad(NOT_MODIFIED)
        version.time, version.method = self.platform.now(), method
        message.versions.append(version)
        message.edited = version.time
        return message.body()

    def do_edit_message_text(self, p: Params) -> Json:
        message = self.editable(p)
        version = text_version(p)
        if message.versions[-1].kind != "text":
            raise bad("there is no text in the message to edit")
        version.markup = keyboard(p, editing=True)
        return self.change(message, version, "editMessageText")

    def do_edit_message_caption(self, p: Params) -> Json:
        message = self.editable(p)
        last = message.versions[-1]
        if last.media is None:
            raise bad("there is no caption in the message to edit")
        caption, entities = words(p, "caption", "caption_entities")
        if units(caption) > 1024:
            raise bad("message caption is too long")
        markup = keyboard(p, editing=True)
        version = Version(last.kind, caption, entities, last.media, markup, last.spoiler)
        return self.change(message, version, "editMessageCaption")

    def do_edit_message_media(self, p: Params) -> Json:
        message = self.editable(p)
        item = p.tree("media")
        if not isinstance(item, dict):
            raise bad("can't parse input media JSON object")
        if message.group and item.get("type") != message.versions[-1].kind:
            raise bad("can't change the type of media in an album")
        markup = keyboard(p, editing=True)
        version = input_media(item, p, self.platform.files)
        version.markup = markup
        return self.change(message, version, "editMessageMedia")

    def do_edit_message_reply_markup(self, p: Params) -> Json:
        message = self.editable(p)
        last = message.versions[-1]
        markup = keyboard(p, editing=True)
        version = Version(last.kind, last.text, last.entities, last.media, markup, last.spoiler)
        return self.change(message, version, "editMessageReplyMarkup")

    def do_delete_message(self, p: Params) -> bool:
        chat = self.platform.chat(p)
        message = chat.messages.get(p.number("message_id") or 0)
        if message is None or message.deleted is not None:
            raise bad("message to delete not found")
        own = message.sender is self.platform.me
        if not own and not chat.private and not chat.bot_admin:
            raise bad("message can't be deleted")
        if self.platform.now() - message.date > 48 * 3600 and not chat.bot_admin:
            raise bad("message can't be deleted for everyone")
        message.deleted = self.platform.now()
        return True

    def do_answer_callback_query(self, p: Params) -> bool:
        query = self.platform.callbacks.get(p.text("callback_query_id"))
        if query is None or self.platform.now() - query["time"] > self.platform.limits.callback_age:
            raise bad("query is too old and response timeout expired or query ID is invalid")
        if units(p.text("text")) > 200:
            raise bad("MESSAGE_TOO_LONG")
        if p.text("url") and not p.text("url").startswith(
            f"https://t.me/{self.platform.me['username']}?"
        ):
            raise bad("URL_INVALID")
        query["answers"].append(
            {
                "text": p.text("text"),
                "show_alert": p.flag("show_alert"),
                "url": p.text("url"),
                "time": self.platform.now(),
            }
        )
        return True

    def do_send_chat_action(self, p: Params) -> bool:
        chat = self.platform.chat(p)
        thread = self.platform.thread(p, chat)
        if p.text("action") not in ACTIONS:
            raise bad("wrong parameter action in request")
        action = {
            "action": p.text("action"),
            "message_thread_id": thread,
            "time": self.platform.now(),
        }
        chat.actions.append(action)
        return True

    def do_send_message_draft(self, p: Params) -> bool:
        chat = self.platform.chat(p)
        if not chat.private:
            raise bad("TEXTDRAFT_PEER_INVALID")
        if not p.number("draft_id"):
            raise bad("draft identifier must be non-zero")
        thread = self.platform.thread(p, chat)
        text, entities = words(p, "text", "entities")
        if units(text) > 4096:
            raise bad("message is too long")
        chat.drafts.append(
            {
                "draft_id": p.number("draft_id"),
                "text": text,
                "entities": entities,
                "message_thread_id": thread,
                "time": self.platform.now(),
            }
        )
        return True

    def do_get_file(self, p: Params) -> Json:
        file = self.platform.files.by_id.get(p.text("file_id"))
        if file is None:
            raise bad("wrong file_id or the file is temporarily unavailable")
        if file.size > 20 * MB:
            raise bad("file is too big")
        file.offered = self.platform.now()
        return {
            "file_id": file.id,
            "file_unique_id": file.unique_id,
            "file_size": file.size,
            "file_path": file.path,
        }

    # The bot and its chats ----------------------------------------------------------------------

    def do_get_chat(self, p: Params) -> Json:
        gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription")
        return {
            **self.platform.chat(p).body(),
            "accent_color_id": 0,
            "max_reaction_count": 11,
            "accepted_gift_types": dict.fromkeys((*gifts, "gifts_from_channels"), False),
        }

    def member(self, chat: Chat, user_id: int) -> Json:
        """A user's place in a chat."""
        bot = user_id == self.platform.me["id"]
        user = self.platform.me if bot else self.platform.users.get(user_id)
        if user is None:
            raise bad("PARTICIPANT_ID_INVALID")
        if chat.admins[:1] == [user_id]:
            return {"user": user, "status": "creator", "is_anonymous": False}
        if user_id in chat.admins or (bot and chat.bot_admin):
            return {"user": user, "status": "administrator", **ADMIN_RIGHTS}
        inside = bot or user_id in chat.members or (chat.private and user_id == chat.id)
        return {"user": user, "status": "member" if inside else "left"}

    def do_get_chat_member(self, p: Params) -> Json:
        return self.member(self.platform.chat(p), p.number("user_id") or 0)

    def do_get_chat_administrators(self, p: Params) -> list[Json]:
        chat = self.platform.chat(p)
        if chat.private:
            raise bad("there are no administrators in the private chat")
        bot = [int(self.platform.me["id"])] if chat.bot_admin else []
        return [self.member(chat, user) for user in [*chat.admins, *bot]]

    def do_leave_chat(self, p: Params) -> bool:
        chat = self.platform.chat(p)
        if chat.private:
            raise bad("chat member status can't be changed in private chats")
        chat.left = True
        return True

    def do_close(self, p: Params) -> bool:
        return True

    def do_log_out(self, p: Params) -> bool:
        self.platform.logged_out = True
        return True

    def command_key(self, p: Params) -> tuple[str, str]:
        """Where a list of commands applies, and to people of which language; empty: of others."""
        scope = p.tree("scope") or {"type": "default"}
        return json.dumps(scope, sort_keys=True), self.language(p)

    def language(self, p: Params) -> str:
        """The two-letter code that a call names."""
        code = p.text("language_code")
        if not re.fullmatch(r"([a-z]{2})?", code):
            raise bad("invalid language code specified")
        return code

    def do_set_my_commands(self, p: Params) -> bool:
        key = self.command_key(p)
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
        self.platform.commands[key] = commands
        return True

    def do_get_my_commands(self, p: Params) -> list[Json]:
        return self.platform.commands.get(self.command_key(p), [])

    def do_set_my_description(self, p: Params) -> bool:
        return self.describe(p, "description", 512)

    def do_set_my_short_description(self, p: Params) -> bool:
        return self.describe(p, "short_description", 120)

    def describe(self, p: Params, what: str, limit: int) -> bool:
        """Set a text about the bot."""
        if units(p.text(what)) > limit:
            raise bad(f"{what} is too long")
        self.platform.about[what] = p.text(what)
        return True
