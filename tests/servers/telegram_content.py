"""What a message of the bot may show: text, media with a caption, an inline keyboard."""

from __future__ import annotations

import re
from typing import Any

from tests.servers.telegram_errors import Json, bad
from tests.servers.telegram_files import Files
from tests.servers.telegram_objects import Version
from tests.servers.telegram_params import Params
from tests.servers.telegram_text import finish, parse_html, units


def words(p: Params, text_key: str, entities_key: str) -> tuple[str, list[Json]]:
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


def text_version(p: Params) -> Version:
    """What a text call shows."""
    text, entities = words(p, "text", "entities")
    if not text:
        raise bad("message text is empty")
    if units(text) > 4096:
        raise bad("message is too long")
    return Version("text", text, entities)


def media_version(p: Params, kind: str, source: Any, kept: Files) -> Version:
    """What a photo or a document shows."""
    caption, entities = words(p, "caption", "caption_entities")
    if units(caption) > 1024:
        raise bad("message caption is too long")
    media = kept.chosen(kind, source, p.files)
    return Version(kind, caption, entities, media, spoiler=p.flag("has_spoiler"))


def input_media(item: Json, p: Params, kept: Files) -> Version:
    """What an InputMedia shows."""
    kind = item.get("type")
    if kind not in ("photo", "document"):
        raise bad("unsupported type of media in this test server")
    source = item.get("media")
    if not source:
        raise bad("media not found")
    return media_version(Params(item, p.files), str(kind), source, kept)


def keyboard(p: Params, editing: bool = False) -> Json | None:
    """The inline keyboard of a call."""
    given = p.tree("reply_markup")
    if not given:
        return None
    if not isinstance(given, dict):
        raise bad("object expected as reply markup")
    if "inline_keyboard" not in given:
        if editing:
            raise bad("inline keyboard expected")
        hint = str(given.get("input_field_placeholder") or "")
        if "force_reply" in given and (given["force_reply"] is not True or units(hint) > 64):
            raise bad("can't parse reply keyboard markup JSON object")
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
