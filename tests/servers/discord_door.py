"""The control door where tests set the scene of the strict Discord, and look at what happened."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from tests.servers.discord_calls import Calls, Handler, reply
from tests.servers.discord_errors import Json
from tests.servers.discord_gateway import GUILDS, Gateway
from tests.servers.discord_objects import LOADING, PERMS, THREADS, V2, Channel, Guild
from tests.servers.discord_state import State


def _permission_names(names: list[str]) -> set[str]:
    if extra := set(names) - set(PERMS):
        raise ValueError(f"unknown permissions {sorted(extra)}")
    return set(names)


class Door:
    """Guilds, clock, limits and misfortune; messages, answers, calls and commands."""

    def __init__(self, state: State, gateway: Gateway, calls: Calls) -> None:
        self.state = state
        self.gateway = gateway
        self.calls = calls

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve this part of the control door."""
        changes: dict[str, Handler] = {
            "guild": self.guild,
            "clock": self.clock,
            "limits": self.limits,
            "fail": self.fail,
            "disconnect": self.disconnect,
            "delete_message": self.delete_message,
            "delete_channel": self.delete_channel,
            "kick_bot": self.kick_bot,
            "permissions": self.permissions,
            "base": self.base,
            "token": self.token,
        }
        for name, handler in changes.items():
            router.add_route("POST", f"/control/{name}", handler)
        router.add_route("GET", "/control/interaction/{id}", self.show_interaction)
        router.add_route("GET", "/control/messages", self.list_messages)
        router.add_route("GET", "/control/calls", self.list_calls)
        router.add_route("GET", "/control/commands", self.list_commands)

    # --- what tests change -----------------------------------------------------------------

    async def guild(self, request: web.Request) -> web.Response:
        """Make or replace a guild."""
        body, state = await request.json(), self.state
        guild_id = str(body.get("id") or state.snowflake())
        guild = Guild(
            guild_id, body.get("name", "Guild"), [str(m) for m in body.get("members", [])]
        )
        guild.roles = [{**r, "id": str(r["id"])} for r in body.get("roles", [])]
        guild.attachment_size_limit = body.get("attachment_size_limit")
        guild.bot_in = body.get("bot_in", True)
        state.guilds[guild_id] = guild
        for spec in body.get("channels", []):
            parent = spec.get("thread_of")
            channel = Channel(str(spec["id"]), spec.get("name", "channel"), guild_id=guild_id)
            channel.type = spec.get("type", 11 if parent else 0)
            channel.nsfw = spec.get("nsfw", False)
            channel.deny = _permission_names(spec.get("deny", []))
            channel.parent_id = str(parent) if parent else None
            state.channels[channel.id] = channel
        if guild.bot_in:
            for session in list(self.gateway.sessions.values()):
                if session.intents & GUILDS:
                    await session.dispatch("GUILD_CREATE", state.guild_json(guild))
        return reply({"id": guild_id})

    async def clock(self, request: web.Request) -> web.Response:
        """Move the clock."""
        self.state.offset += float((await request.json())["advance"])
        return reply({"now": self.state.now()})

    async def limits(self, request: web.Request) -> web.Response:
        """Change limits; "guild_file_size": {id: bytes} sets a guild's own."""
        body = await request.json()
        for guild_id, size in body.pop("guild_file_size", {}).items():
            self.state.guilds[guild_id].attachment_size_limit = size
        if extra := set(body) - set(self.state.limits):
            raise ValueError(f"no such limits: {sorted(extra)}")
        self.state.limits |= body
        return reply(self.state.limits)

    async def fail(self, request: web.Request) -> web.Response:
        """Plan failures."""
        self.calls.failures.append({"times": 1, "status": 500, **(await request.json())})
        return reply({"planned": len(self.calls.failures)})

    async def disconnect(self, request: web.Request) -> web.Response:
        """Drop gateways: by close code, or op 7 or 9 when "op" says so."""
        body = await request.json()
        resumable, op = body.get("resumable", True), body.get("op")
        dropped = 0
        for session in list(self.gateway.sessions.values()):
            ws = session.ws
            if not resumable:
                self.gateway.sessions.pop(session.id, None)
            if ws is None:
                continue
            dropped += 1
            if op in (7, 9):
                data = None if op == 7 else resumable
                await session.send({"op": op, "d": data, "t": None, "s": None})
            else:
                session.ws = None
                await ws.close(code=int(body.get("code", 4000)))
        return reply({"dropped": dropped})

    async def delete_message(self, request: web.Request) -> web.Response:
        """A moderator deletes a message."""
        await self.gateway.delete(self.state.messages[str((await request.json())["message_id"])])
        return reply({})

    async def delete_channel(self, request: web.Request) -> web.Response:
        """A moderator deletes a channel."""
        channel = self.state.channels.pop(str((await request.json())["channel_id"]))
        event = "THREAD_DELETE" if channel.type in THREADS else "CHANNEL_DELETE"
        for message in self.state.messages.values():
            message.deleted = message.deleted or message.channel_id == channel.id
        await self.gateway.everyone(event, self.state.channel_json(channel))
        return reply({})

    async def kick_bot(self, request: web.Request) -> web.Response:
        """A moderator removes the bot."""
        guild_id = str((await request.json()).get("guild_id", "100"))
        self.state.guilds[guild_id].bot_in = False
        await self.gateway.everyone("GUILD_DELETE", {"id": guild_id})
        return reply({})

    async def permissions(self, request: web.Request) -> web.Response:
        """Deny the bot things in a channel, or close a user's direct messages."""
        body, state = await request.json(), self.state
        if "channel_id" in body:
            channel = state.channels[str(body["channel_id"])]
            channel.deny = _permission_names(body.get("deny", []))
            event = "THREAD_UPDATE" if channel.type in THREADS else "CHANNEL_UPDATE"
            if channel.guild_id:
                await self.gateway.everyone(event, state.channel_json(channel))
        if "user_id" in body:
            change = state.closed_dms.add if body.get("dm_closed") else state.closed_dms.discard
            change(str(body["user_id"]))
        return reply({})

    async def base(self, request: web.Request) -> web.Response:
        """Say by which address the bot is to find files and the gateway again."""
        self.state.base = str((await request.json())["base"])
        return reply({})

    async def token(self, request: web.Request) -> web.Response:
        """Let another token be the bot's; whoever holds the old one is put out of the gateway."""
        self.calls.token = self.gateway.token = str((await request.json())["token"])
        for session in list(self.gateway.sessions.values()):
            self.gateway.sessions.pop(session.id, None)
            if session.ws is not None:
                await session.ws.close(code=4004, message=b"Authentication failed.")
        return reply({})

    # --- what tests look at ----------------------------------------------------------------

    async def show_interaction(self, request: web.Request) -> web.Response:
        """How and when an interaction was answered."""
        asked = self.state.interactions[request.match_info["id"]]
        shown = asdict(asked)
        shown["original"] = self._shown(asked.original)
        shown["followups"] = [self._shown(m) for m in asked.followups]
        return reply(shown)

    def _shown(self, message_id: str | None) -> Json | None:
        found = self.state.messages.get(message_id or "")
        if found is None:
            return None
        return asdict(found) | {
            "ephemeral": found.ephemeral_for is not None,
            "loading": bool(found.flags & LOADING),
            "v2": bool(found.flags & V2),
        }

    async def list_messages(self, request: web.Request) -> web.Response:
        """Messages with their whole history, oldest first."""
        channel_id = request.query.get("channel_id")
        found = [m for m in self.state.messages.values() if channel_id in (None, m.channel_id)]
        return reply([self._shown(m.id) for m in sorted(found, key=lambda m: int(m.id))])

    async def list_calls(self, request: web.Request) -> web.Response:
        """The log of API calls; ?unknown=1 for those nobody answers here."""
        only = request.query.get("unknown") == "1"
        return reply([c for c in self.calls.log if c["unknown"] or not only])

    async def list_commands(self, _: web.Request) -> web.Response:
        """Registered commands by scope; "" is global."""
        return reply({k: list(v.values()) for k, v in self.state.commands.items()})
