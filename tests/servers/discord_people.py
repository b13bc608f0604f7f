"""The control door where tests act as people: commands, presses, modals, messages."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from dataclasses import replace
from typing import Any

from aiohttp import web

from tests.servers.discord_calls import Handler, reply
from tests.servers.discord_errors import Json, unknown
from tests.servers.discord_files import attach
from tests.servers.discord_gateway import Gateway
from tests.servers.discord_message_rules import walk
from tests.servers.discord_objects import (
    PERMS,
    Channel,
    Guild,
    Interaction,
    Message,
    Upload,
    guess_type,
)
from tests.servers.discord_state import State
from tests.servers.discord_writing import write

NITRO_BYTES = 500 * 2**20
BASE_USER = sum(v for k, v in PERMS.items() if not k.startswith("MANAGE_"))


def _upload(spec: Json) -> Upload:
    """A file as the control door takes it: filename, content_b64, content_type."""
    kind = spec.get("content_type") or guess_type(spec["filename"]) or "application/octet-stream"
    return Upload(spec["filename"], base64.b64decode(spec["content_b64"]), kind)


class People:
    """What people do, as far as what was sent lets them."""

    def __init__(self, state: State, gateway: Gateway) -> None:
        self.state = state
        self.gateway = gateway

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve this part of the control door."""
        routes: dict[str, Handler] = {
            "command": self.command,
            "autocomplete": self.autocomplete,
            "press": self.press,
            "modal": self.modal,
            "message": self.message,
        }
        for name, handler in routes.items():
            router.add_route("POST", f"/control/{name}", handler)

    # --- where somebody is, and the interaction that reaches the bot ------------------------

    def _place(self, body: Json) -> tuple[Channel, Guild | None]:
        state, user = self.state, str(body["user_id"])
        if body.get("dm"):
            return state.dm_with(user), None
        channel_id = str(body.get("channel_id") or "200")
        if channel_id not in state.channels:
            if not body.get("user_install"):
                raise unknown("Channel")
            guild_id = str(body["guild_id"]) if body.get("guild_id") else None
            if guild_id and guild_id not in state.guilds:
                state.guilds[guild_id] = Guild(guild_id, "Elsewhere", bot_in=False)
            kind = 0 if guild_id else 3
            state.channels[channel_id] = Channel(channel_id, "elsewhere", kind, guild_id)
        channel = state.channels[channel_id]
        guild = state.guilds[channel.guild_id] if channel.guild_id else None
        if guild and not guild.bot_in and not body.get("user_install"):
            raise ValueError("the bot is not in that guild: say user_install")
        return channel, guild

    async def _interact(
        self, kind: int, data: Json, body: Json, source: Message | None = None
    ) -> Interaction:
        state, user = self.state, str(body["user_id"])
        channel, guild = self._place(body)
        token = uuid.uuid4().hex + uuid.uuid4().hex
        installed = bool(body.get("user_install"))
        limit = state.size_limit(channel.guild_id)
        bits = str(body.get("permissions", BASE_USER))
        away = not guild or not guild.bot_in
        app_bits = str(state.permissions(channel) if not away else BASE_USER)
        payload: Json = {
            "id": state.snowflake(),
            "application_id": state.bot_id,
            "type": kind,
            "data": data,
            "token": token,
            "version": 1,
            "channel_id": channel.id,
            "channel": state.channel_json(channel) | {"permissions": bits},
            "locale": body.get("locale", "en-US"),
            "app_permissions": app_bits,
            "entitlements": [],
            "attachment_size_limit": limit,
            "context": 0 if guild else (1 if channel.type == 1 else 2),
            "authorizing_integration_owners": {"1": user}
            if installed
            else {"0": guild.id if guild else "0"},
        }
        if guild:
            payload |= {"guild_id": guild.id, "guild_locale": guild.locale}
            payload["guild"] = {"id": guild.id, "locale": guild.locale, "features": []}
            payload["member"] = state.member(user) | {"permissions": bits}
            payload["member"]["roles"] = [str(r) for r in body.get("member_roles", [])]
        else:
            payload["user"] = state.user(user)
        if source is not None:
            payload["message"] = state.message_json(source)
        asked = Interaction(
            payload["id"], token, kind, payload, state.now(), user, channel.id, limit
        )
        asked.source = source.id if source else None
        asked.limited_followups = installed and (guild is None or not guild.bot_in)
        state.interactions[asked.id] = asked
        state.tokens[token] = asked
        return asked

    async def _go(self, asked: Interaction) -> web.Response:
        await self.gateway.everyone("INTERACTION_CREATE", asked.payload)
        return reply({"interaction_id": asked.id, "token": asked.token})

    # --- commands --------------------------------------------------------------------------

    def _find_command(self, body: Json) -> tuple[Json, list[Json], list[str]]:
        """The registered command, its leaf options, and the names on the way to them."""
        channel, guild = self._place(body)
        first, *rest = str(body["name"]).split(" ")
        kind = body.get("type", 1)
        names = {first, str(body["name"])} if kind != 1 else {first}
        scopes = [guild.id if guild else "", ""]
        found: Json | None = None
        for scope in scopes:
            for command in self.state.commands.get(scope, {}).values():
                if command["name"] in names and command["type"] == kind and found is None:
                    found = command
        if found is None:
            raise ValueError(f"command {body['name']!r} is not registered here")
        if kind != 1:
            rest = []
        context = 0 if guild else (1 if channel.type == 1 else 2)
        contexts = found.get("contexts")
        if contexts is not None and context not in contexts:
            raise ValueError(f"command is not offered in context {context}")
        if contexts is None and context == 1 and found.get("dm_permission") is False:
            raise ValueError("command is not offered in direct messages")
        if "guild_id" not in found:
            types = found.get("integration_types") or [0]
            if body.get("user_install") and 1 not in types:
                raise ValueError("command is not installable by users")
        need = found.get("default_member_permissions")
        bits = int(body.get("permissions", BASE_USER))
        admin = bits & 8
        if (
            guild
            and need is not None
            and not admin
            and (not int(need) or bits & int(need) != int(need))
        ):
            raise ValueError("the user lacks the permissions this command asks for")
        if found.get("nsfw") and guild and not channel.nsfw:
            raise ValueError("age-restricted command in a channel that is not")
        options = found.get("options") or []
        for name in rest:
            match = [o for o in options if o["name"] == name and o["type"] in (1, 2)]
            if not match:
                raise ValueError(f"no subcommand {name!r}")
            options = match[0].get("options") or []
        if any(o["type"] in (1, 2) for o in options):
            raise ValueError("name a subcommand")
        return found, options, rest

    def _value(self, option: Json, value: Any, resolved: Json, channel_id: str) -> Any:
        kind, name, state = option["type"], option["name"], self.state
        types: dict[int, Any] = {3: str, 4: int, 5: bool, 10: (int, float)}
        if kind in types:
            if not isinstance(value, types[kind]) or (kind in (4, 10) and isinstance(value, bool)):
                raise ValueError(f"{name}: {value!r} is of the wrong type")
            size = len(value) if isinstance(value, str) else value
            low, high = ("min_length", "max_length") if kind == 3 else ("min_value", "max_value")
            top = option.get(high, 6000 if kind == 3 else 2**53)
            bottom = option.get(low, 0 if kind == 3 else -(2**53))
            if kind != 5 and not bottom <= size <= top:
                raise ValueError(f"{name}: {value!r} is outside {bottom} to {top}")
            choices = option.get("choices")
            if choices and value not in [c["value"] for c in choices]:
                raise ValueError(f"{name}: {value!r} is not a choice")
            return value
        if kind == 11:
            made = self._attached(value, channel_id)
            resolved.setdefault("attachments", {})[made["id"]] = made
            return made["id"]
        key = str(value)
        if kind in (6, 9):
            resolved.setdefault("users", {})[key] = state.user(key)
            member = state.member(key)
            member.pop("user")
            resolved.setdefault("members", {})[key] = member | {"permissions": str(BASE_USER)}
        elif kind == 7:
            found = state.channel_json(state.channels[key]) | {"permissions": str(BASE_USER)}
            resolved.setdefault("channels", {})[key] = found
        elif kind == 8:
            roles = [r for g in state.guilds.values() for r in state.roles(g) if r["id"] == key]
            resolved.setdefault("roles", {})[key] = roles[0]
        return key

    def _attached(self, spec: Json, channel_id: str) -> Json:
        """A file that goes along with an interaction; clients refuse what is too large."""
        if not isinstance(spec, dict):
            raise ValueError("a file has a filename and content_b64")
        upload, state = _upload(spec), self.state
        most = state.size_limit(state.channels[channel_id].guild_id)
        if len(upload.data) > (NITRO_BYTES if spec.get("nitro") else most):
            raise ValueError(f"{upload.filename} is too large")
        return attach(state, channel_id, upload, None, fleeting=True)

    def _command_data(self, body: Json, focused: str | None = None) -> Json:
        command, options, path = self._find_command(body)
        channel, _ = self._place(body)
        given = dict(body.get("options") or {})
        if command["type"] != 1 and given:
            raise ValueError("a context menu takes no options")
        if focused is not None:
            given[focused] = body.get("value", "")
        extra = set(given) - {o["name"] for o in options}
        if extra:
            raise ValueError(f"options not registered: {sorted(extra)}")
        resolved: Json = {}
        filled: list[Json] = []
        for option in options:
            name = option["name"]
            if name == focused:
                if not option.get("autocomplete"):
                    raise ValueError(f"{name} has no autocompletion")
                filled.append(
                    {"name": name, "type": option["type"], "value": given[name], "focused": True}
                )
            elif name in given:
                value = self._value(option, given[name], resolved, channel.id)
                filled.append({"name": name, "type": option["type"], "value": value})
            elif option.get("required") and focused is None:
                raise ValueError(f"{name} is required")
        inner: list[Json] = filled
        for depth, name in enumerate(reversed(path)):
            inner = [{"name": name, "type": 1 if depth == 0 else 2, "options": inner}]
        data: Json = {"id": command["id"], "name": command["name"], "type": command["type"]}
        data |= {"guild_id": command["guild_id"]} if "guild_id" in command else {}
        if command["type"] == 1:
            data["options"] = inner
        else:
            target = str(body["target_id"])
            data["target_id"] = target
            if command["type"] == 2:
                self._value({"type": 6, "name": "target"}, target, resolved, channel.id)
            else:
                shown = self.state.message_json(self._target(target, channel.id, body))
                resolved["messages"] = {target: shown}
        return data | ({"resolved": resolved} if resolved else {})

    def _target(self, message_id: str, channel_id: str, body: Json) -> Message:
        """The message whose menu somebody opens: one that they see where they are."""
        found = self.state.messages.get(message_id)
        if found is None or found.deleted or found.channel_id != channel_id:
            raise ValueError("there is no such message here")
        if found.ephemeral_for and found.ephemeral_for != str(body["user_id"]):
            raise ValueError("that user cannot see the message")
        return found

    def _unchecked_data(self, body: Json) -> Json:
        kinds: dict[type, int] = {str: 3, int: 4, bool: 5, float: 10}
        known = [c for c in self.state.commands[""].values() if c["name"] == body["name"]]
        return {
            "id": known[0]["id"] if known else self.state.snowflake(),
            "name": str(body["name"]),
            "type": 1,
            "options": [
                {"name": name, "type": kinds[type(value)], "value": value}
                for name, value in body["options"].items()
            ],
        }

    async def command(self, request: web.Request) -> web.Response:
        """A user sends a command; unchecked, from a client that has older commands or no bounds."""
        body = await request.json()
        data = self._unchecked_data(body) if body.get("unchecked") else self._command_data(body)
        return await self._go(await self._interact(2, data, body))

    async def autocomplete(self, request: web.Request) -> web.Response:
        """A user types into an option; answers what the bot offers within 3 s."""
        body = await request.json()
        focused = str(body["focused"])
        asked = await self._interact(4, self._command_data(body, focused), body)
        _, options, _ = self._find_command(body)
        asked.option_type = next(o["type"] for o in options if o["name"] == focused)
        await self.gateway.everyone("INTERACTION_CREATE", asked.payload)
        end = time.monotonic() + 3
        while asked.acked is None and time.monotonic() < end:
            await asyncio.sleep(0.01)
        offered = asked.ack_data.get("choices") if asked.acked is not None else None
        return reply({"interaction_id": asked.id, "choices": offered, "after": asked.acked})

    # --- presses, modals, messages ----------------------------------------------------------

    async def press(self, request: web.Request) -> web.Response:
        """A user presses a button or picks from a select; stale, of any version they saw."""
        body = await request.json()
        message = self.state.messages.get(str(body["message_id"]))
        if message is None or message.deleted:
            raise ValueError("there is no such message")
        body["channel_id"] = str(body.get("channel_id") or message.channel_id)
        if body["channel_id"] != message.channel_id:
            raise ValueError("the message is in another channel")
        if message.ephemeral_for and message.ephemeral_for != str(body["user_id"]):
            raise ValueError("that user cannot see the message")
        wanted, label = body.get("custom_id"), body.get("label")
        versions = message.versions if body.get("stale") else message.versions[-1:]
        shown = [v["components"] for v in reversed(versions)]
        for components, part in ((parts, part) for parts in shown for part in walk(parts)):
            named = part.get("custom_id") == wanted if wanted else part.get("label") == label
            if not named or "custom_id" not in part:
                continue
            if part.get("disabled"):
                raise ValueError("that component is disabled")
            data: Json = {"custom_id": part["custom_id"], "component_type": part["type"]}
            data["id"] = part.get("id", 1)
            if part["type"] != 2:
                values = [str(v) for v in body.get("values", [])]
                offered = [o["value"] for o in part.get("options") or []]
                if part["type"] == 3 and not set(values) <= set(offered):
                    raise ValueError("that value is not offered")
                data["values"] = values
            channel = self.state.channels[message.channel_id]
            body["dm"] = channel.type == 1
            # The message goes along as the person saw it.
            seen = replace(message, components=components)
            return await self._go(await self._interact(3, data, body, seen))
        raise ValueError("there is no such component")

    async def modal(self, request: web.Request) -> web.Response:
        """A user submits the modal that an interaction was answered with."""
        body = await request.json()
        opener = self.state.interactions[str(body["interaction_id"])]
        if opener.ack_type != 9:
            raise ValueError("that interaction showed no modal")
        if any(self.state.interactions[one].acked is not None for one in opener.submitted):
            raise ValueError("that modal is closed: it was answered")
        body.setdefault("user_id", opener.user_id)
        body["channel_id"] = opener.channel_id
        body["dm"] = self.state.channels[opener.channel_id].type == 1
        if "1" in opener.payload["authorizing_integration_owners"]:
            body.setdefault("user_install", True)
        values, resolved = dict(body.get("values", {})), dict[str, Any]()
        parts = [
            filled
            for part in opener.ack_data["components"]
            if (filled := self._submit(part, values, resolved, opener.channel_id))
        ]
        if values:
            raise ValueError(f"the modal has no fields {sorted(values)}")
        data: Json = {"custom_id": opener.ack_data["custom_id"], "components": parts}
        data["resolved"] = resolved
        source = self.state.messages.get(opener.source or "")
        asked = await self._interact(5, data, body, source)
        opener.submitted.append(asked.id)
        return await self._go(asked)

    def _submit(self, part: Json, values: Json, resolved: Json, channel_id: str) -> Json | None:
        kind, key = part["type"], part.get("custom_id", "")
        base: Json = {"type": kind, "id": part.get("id", 1)}
        if kind == 10:
            return base
        if kind == 1:
            inner = [self._submit(p, values, resolved, channel_id) for p in part["components"]]
            return base | {"components": inner}
        if kind == 18:
            return base | {
                "component": self._submit(part["component"], values, resolved, channel_id)
            }
        base["custom_id"] = key
        value = values.pop(key, part.get("value") if kind == 4 else None)
        if kind == 4:
            text = str(value or "")
            low, high = part.get("min_length") or 0, part.get("max_length") or 4000
            if (part.get("required", True) and not text) or (text and not low <= len(text) <= high):
                raise ValueError(f"{key}: text of {len(text)} is outside {low} to {high}")
            return base | {"value": text}
        if kind in (21, 23):
            return base | {"value": value}
        chosen = value if isinstance(value, list) else ([] if value is None else [value])
        if part.get("required", True) and not chosen:
            raise ValueError(f"{key} is required")
        if kind == 19:
            low, high = part.get("min_values", 1), part.get("max_values", 1)
            if chosen and not low <= len(chosen) <= high:
                raise ValueError(f"{key}: {len(chosen)} files; {low} to {high} are taken")
            made = [self._attached(v, channel_id) for v in chosen]
            resolved.setdefault("attachments", {}).update({m["id"]: m for m in made})
            chosen = [m["id"] for m in made]
        return base | {"values": [str(v) for v in chosen]}

    async def message(self, request: web.Request) -> web.Response:
        """A user writes a message."""
        body, state = await request.json(), self.state
        channel, _ = self._place(body)
        message = Message(state.snowflake(), channel.id, str(body["user_id"]), state.now())
        files = {str(i): _upload(f) for i, f in enumerate(body.get("files", []))}
        text: Json = {"content": body.get("content", "")}
        if linked := body.get("link_picture"):
            # What Discord makes of an address that leads to a picture.
            size = {"width": 64, "height": 64}
            seen = {"url": linked, "proxy_url": linked, **size, "flags": 0}
            text["embeds"] = [{"type": "image", "url": linked, "thumbnail": seen}]
        write(state, message, text, files, "user", 25 * 2**20)
        state.messages[message.id] = message
        await self.gateway.tell("MESSAGE_CREATE", message)
        return reply({"id": message.id, "channel_id": channel.id})
