"""The REST API and CDN of the strict Discord: people, guilds, commands, channels, messages."""

from __future__ import annotations

from aiohttp import web

from tests.servers.discord_calls import API, Handler, reply
from tests.servers.discord_command_rules import check_commands
from tests.servers.discord_errors import ApiError, Json, invalid, unknown
from tests.servers.discord_gateway import Gateway
from tests.servers.discord_objects import PERMS, Channel, Guild, Message
from tests.servers.discord_state import State
from tests.servers.discord_writing import write


class Api:
    """What a bot asks and tells outside interactions."""

    def __init__(self, state: State, gateway: Gateway) -> None:
        self.state = state
        self.gateway = gateway

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve this part of the API."""
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/users/@me", self.me),
            ("GET", "/users/{user}", self.get_user),
            ("GET", "/oauth2/applications/@me", self.application),
            ("GET", "/applications/@me", self.application),
            ("GET", "/applications/{app}", self.application),
            ("GET", "/gateway", self.gateway_url),
            ("GET", "/gateway/bot", self.gateway_url),
            ("POST", "/users/@me/channels", self.open_dm),
            ("GET", "/guilds/{guild}", self.get_guild),
            ("GET", "/guilds/{guild}/channels", self.get_guild_channels),
            ("GET", "/guilds/{guild}/roles", self.get_guild_roles),
            ("GET", "/guilds/{guild}/members/{user}", self.get_guild_member),
            ("GET", "/channels/{channel}", self.get_channel),
            ("PUT", "/channels/{channel}/thread-members/@me", self.join_thread),
            ("POST", "/channels/{channel}/typing", self.typing),
            ("GET", "/channels/{channel}/messages", self.list_messages),
            ("POST", "/channels/{channel}/messages", self.post_message),
            ("GET", "/channels/{channel}/messages/{message}", self.get_message),
            ("PATCH", "/channels/{channel}/messages/{message}", self.patch_message),
            ("DELETE", "/channels/{channel}/messages/{message}", self.delete_message),
        ]
        for scope in (
            "/applications/{app}/commands",
            "/applications/{app}/guilds/{guild}/commands",
        ):
            for method in ("GET", "PUT", "POST"):
                routes.append((method, scope, self.commands))
            for method in ("GET", "PATCH", "DELETE"):
                routes.append((method, scope + "/{command}", self.one_command))
        for method, path, handler in routes:
            router.add_route(method, API + path, handler)

    # --- people, guilds, commands ----------------------------------------------------------

    async def me(self, _: web.Request) -> web.Response:
        """The bot's own user."""
        return reply(self.state.user(self.state.bot_id) | {"verified": True, "mfa_enabled": True})

    async def get_user(self, request: web.Request) -> web.Response:
        """Any user."""
        return reply(self.state.user(request.match_info["user"]))

    async def application(self, _: web.Request) -> web.Response:
        """The application behind the bot."""
        data: Json = {"id": self.state.bot_id, "name": "drawbot", "icon": None, "description": ""}
        data |= {
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "00",
            "flags": 0,
        }
        data |= {"owner": self.state.user("1"), "team": None, "summary": "", "rpc_origins": []}
        return reply(data | {"bot": self.state.user(self.state.bot_id), "redirect_uris": []})

    async def gateway_url(self, _: web.Request) -> web.Response:
        """Where the gateway is."""
        start = {"total": 1000, "remaining": 999, "reset_after": 14400000, "max_concurrency": 1}
        return reply({"url": self.gateway.url(), "shards": 1, "session_start_limit": start})

    def _guild(self, request: web.Request) -> Guild:
        guild = self.state.guilds.get(request.match_info["guild"])
        if guild is None:
            raise unknown("Guild")
        if not guild.bot_in:
            raise ApiError(403, 50001, "Missing Access")
        return guild

    async def get_guild(self, request: web.Request) -> web.Response:
        """One guild."""
        return reply(self.state.guild_json(self._guild(request)))

    async def get_guild_channels(self, request: web.Request) -> web.Response:
        """A guild's channels."""
        return reply(self.state.guild_json(self._guild(request))["channels"])

    async def get_guild_roles(self, request: web.Request) -> web.Response:
        """A guild's roles."""
        return reply(self.state.roles(self._guild(request)))

    async def get_guild_member(self, request: web.Request) -> web.Response:
        """A guild's member."""
        guild, user = self._guild(request), request.match_info["user"]
        if user not in (self.state.bot_id, *guild.members):
            raise unknown("Member")
        return reply(self.state.member(user))

    async def commands(self, request: web.Request) -> web.Response:
        """List, overwrite or add commands, global or of one guild."""
        scope = request.match_info.get("guild", "")
        if scope:
            self._guild(request)
        have = self.state.commands.setdefault(scope, {})
        if request.method == "GET":
            return reply(list(have.values()))
        if request.method == "POST":
            body = request["body"]
            others = [c for c in have.values() if c["name"] != body.get("name")]
            check_commands([*others, body])
            made = self._make_command(body, scope)
            have[made["id"]] = made
            return reply(made, 201)
        if not isinstance(request["body"], list):
            raise invalid("_", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
        check_commands(request["body"])
        made_all = [self._make_command(c, scope) for c in request["body"]]
        self.state.commands[scope] = {c["id"]: c for c in made_all}
        return reply(made_all)

    def _make_command(self, body: Json, scope: str) -> Json:
        kind = body.get("type", 1)
        for old in self.state.commands.get(scope, {}).values():
            if old["name"] == body["name"] and old["type"] == kind:
                command_id = old["id"]
                break
        else:
            command_id = self.state.snowflake()
        base: Json = {"description": "", "default_member_permissions": None, "nsfw": False}
        if not scope:
            base |= {"contexts": None, "integration_types": [0], "dm_permission": True}
        made = {**base, **body, "id": command_id, "type": kind, "version": self.state.snowflake()}
        made["application_id"] = self.state.bot_id
        return made | ({"guild_id": scope} if scope else {})

    async def one_command(self, request: web.Request) -> web.Response:
        """Read, change or delete one command."""
        scope, key = request.match_info.get("guild", ""), request.match_info["command"]
        have = self.state.commands.get(scope, {})
        if key not in have:
            raise unknown("application command")
        if request.method == "DELETE":
            del have[key]
            return web.Response(status=204)
        if request.method == "PATCH":
            changed = {**have[key], **request["body"]}
            check_commands([*(c for k, c in have.items() if k != key), changed])
            have[key] = changed | {"version": self.state.snowflake()}
        return reply(have[key])

    # --- channels and messages -------------------------------------------------------------

    async def open_dm(self, request: web.Request) -> web.Response:
        """Open a direct channel."""
        return reply(
            self.state.channel_json(self.state.dm_with(str(request["body"]["recipient_id"])))
        )

    async def get_channel(self, request: web.Request) -> web.Response:
        """One channel."""
        return reply(self.state.channel_json(self.state.channel(request.match_info["channel"])))

    async def join_thread(self, request: web.Request) -> web.Response:
        """The bot joins a thread."""
        self.state.channel(request.match_info["channel"])
        return web.Response(status=204)

    async def typing(self, request: web.Request) -> web.Response:
        """Typing indicator."""
        self.state.channel(request.match_info["channel"], "SEND_MESSAGES")
        return web.Response(status=204)

    def _may_write(self, request: web.Request) -> Channel:
        needs = ["SEND_MESSAGES"]
        if request["body"].get("embeds"):
            needs.append("EMBED_LINKS")
        if request["files"]:
            needs.append("ATTACH_FILES")
        channel = self.state.channel(request.match_info["channel"], *needs)
        if channel.type == 1 and channel.recipient in self.state.closed_dms:
            raise ApiError(403, 50007, "Cannot send messages to this user")
        return channel

    async def list_messages(self, request: web.Request) -> web.Response:
        """The channel's last messages, newest first."""
        channel = self.state.channel(request.match_info["channel"])
        if channel.guild_id and not self.state.permissions(channel) & PERMS["READ_MESSAGE_HISTORY"]:
            return reply([])
        query = request.query
        found = [
            m
            for m in self.state.messages.values()
            if m.channel_id == channel.id and not m.deleted and not m.ephemeral_for
            if int(m.id) < int(query.get("before", 2**63))
            and int(m.id) > int(query.get("after", 0))
        ]
        found.sort(key=lambda m: int(m.id), reverse=True)
        size = int(query.get("limit", 50))
        if "after" in query:
            found = found[-size:]
        return reply([self._read(m) for m in found[:size]])

    async def post_message(self, request: web.Request) -> web.Response:
        """A new message from the bot."""
        channel, state = self._may_write(request), self.state
        body = request["body"]
        message = Message(state.snowflake(), channel.id, state.bot_id, state.now())
        if reference := body.get("message_reference"):
            target = state.messages.get(str(reference.get("message_id")))
            gone = target is None or target.deleted or target.channel_id != channel.id
            if gone and reference.get("fail_if_not_exists", True):
                raise invalid("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
            if not gone:
                message.type = 19
                message.reference = {**reference, "channel_id": channel.id, "type": 0}
        limit = state.size_limit(channel.guild_id)
        write(state, message, body, request["files"], "channel", limit)
        if message.reference and message.type == 19:
            allowed = body.get("allowed_mentions")
            target = state.messages[str(message.reference["message_id"])]
            if allowed is None or allowed.get("replied_user"):
                users = [*message.pings["users"], target.author]
                message.pings["users"] = list(dict.fromkeys(users))
        state.messages[message.id] = message
        await self.gateway.tell("MESSAGE_CREATE", message)
        return reply(state.message_json(message))

    async def get_message(self, request: web.Request) -> web.Response:
        """One message."""
        channel = self.state.channel(request.match_info["channel"])
        message = self.state.message(channel.id, request.match_info["message"])
        return reply(self._read(message))

    def _read(self, message: Message) -> Json:
        """A message as the bot reads it: what others wrote in a guild is a privileged intent."""
        shown, state = self.state.message_json(message), self.state
        own = message.author == state.bot_id or not state.channels[message.channel_id].guild_id
        if own or state.bot_id in message.pings["users"] or state.limits["message_content"]:
            return shown
        return shown | {"content": "", "embeds": [], "components": [], "attachments": []}

    async def patch_message(self, request: web.Request) -> web.Response:
        """An edit through the channel."""
        state = self.state
        channel = state.channel(request.match_info["channel"])
        message = state.message(channel.id, request.match_info["message"])
        if message.author != state.bot_id:
            raise ApiError(403, 50005, "Cannot edit a message authored by another user")
        if request["files"]:
            state.channel(channel.id, "ATTACH_FILES")
        if channel.type == 1 and channel.recipient in state.closed_dms:
            raise ApiError(403, 50007, "Cannot send messages to this user")
        state.take_old_edit(message)
        limit = state.size_limit(channel.guild_id)
        write(state, message, request["body"], request["files"], "channel", limit)
        await self.gateway.tell("MESSAGE_UPDATE", message)
        return reply(state.message_json(message))

    async def delete_message(self, request: web.Request) -> web.Response:
        """Deletion through the channel."""
        channel = self.state.channel(request.match_info["channel"])
        message = self.state.message(channel.id, request.match_info["message"])
        if message.author != self.state.bot_id:
            if channel.type == 1:
                raise ApiError(403, 50003, "Cannot execute action on a DM channel")
            if not self.state.permissions(channel) & PERMS["MANAGE_MESSAGES"]:
                raise ApiError(403, 50013, "Missing Permissions")
        await self.gateway.delete(message)
        return web.Response(status=204)
