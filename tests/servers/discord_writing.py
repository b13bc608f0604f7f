"""How a message comes to be and changes: checked, its files stored, its history kept."""

from __future__ import annotations

import re

from tests.servers.discord_errors import ApiError, Json, Problems, invalid
from tests.servers.discord_files import attach
from tests.servers.discord_message_rules import (
    check_components,
    check_embeds,
    check_mentions,
    walk,
)
from tests.servers.discord_objects import EPHEMERAL, LOADING, NO_PINGS, PERMS, V2, Message, Upload
from tests.servers.discord_state import State

SETTABLE_FLAGS = (1 << 2) | EPHEMERAL | (1 << 12) | V2


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


def _attachments(
    state: State, channel_id: str, body: Json, files: dict[str, Upload], old: list[Json], edit: bool
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
        named = Upload(note.get("filename") or upload.filename, upload.data, upload.content_type)
        kept.append(attach(state, channel_id, named, note.get("description")))
    return kept


def write(
    state: State, message: Message, body: Json, files: dict[str, Upload], route: str, limit: int
) -> None:
    """Create or edit a message in place; refuses before it changes the message."""
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
            if body.get(name) or (name == "content" and content) or (name == "embeds" and embeds):
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
    attachments = _attachments(
        state,
        message.channel_id,
        body,
        files,
        message.attachments,
        edit and not message.flags & LOADING,
    )
    if not (content or embeds or parts or attachments):
        raise ApiError(400, 50006, "Cannot send an empty message")
    by_name = {a["filename"]: a for a in attachments}
    embeds = [_resolve_embed(e, by_name) for e in embeds]
    used: set[str] = set()
    parts = _resolve_parts(parts, by_name, used)
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
        channel = state.channels[message.channel_id]
        loud = bool(state.permissions(channel) & PERMS["MENTION_EVERYONE"])
        message.pings = pings_of(text, body.get("allowed_mentions"), loud)
        if message.ephemeral_for or flags & EPHEMERAL:
            message.pings = dict(NO_PINGS)
    else:
        message.edited = state.now()
    record(state, message, route, message.pings if fresh else dict(NO_PINGS))


def record(state: State, message: Message, route: str, pings: Json) -> None:
    """Add what the message now is to its history."""
    message.versions.append(
        {
            "content": message.content,
            "embeds": message.embeds,
            "components": message.components,
            "attachments": message.attachments,
            "flags": message.flags,
            "pings": pings,
            "time": state.now(),
            "route": route,
        }
    )


def _resolve_embed(embed: Json, by_name: dict[str, Json]) -> Json:
    result = {"type": "rich", **embed}
    for key in ("image", "thumbnail"):
        url = (embed.get(key) or {}).get("url") or ""
        if url.startswith("attachment://") and (found := by_name.get(url[13:])):
            media = {"url": found["url"], "proxy_url": found["proxy_url"]}
            media |= {k: found[k] for k in ("width", "height") if k in found}
            result[key] = media
    return result


def _resolve_parts(parts: list[Json], by_name: dict[str, Json], used: set[str]) -> list[Json]:
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
