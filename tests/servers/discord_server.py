"""A strict Discord on loopback: REST, gateway and CDN, with a control door for tests."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import WSMsgType, web

from tests.servers.discord_state import (
    EPHEMERAL,
    LOADING,
    PERMS,
    THREADS,
    V2,
    ApiError,
    Channel,
    Guild,
    Interaction,
    Json,
    Message,
    Problems,
    State,
    Upload,
    check_choices,
    check_commands,
    check_modal,
    invalid,
    unknown,
    walk,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
API = "/api/v10"
GUILDS, GUILD_MESSAGES, DIRECT_MESSAGES, CONTENT = 1 << 0, 1 << 9, 1 << 12, 1 << 15


def reply(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON with the exact content type that discord.py insists on."""
    head = {"Content-Type": "application/json", **(headers or {})}
    return web.Response(body=json.dumps(data).encode(), status=status, headers=head)


def refuse(error: ApiError) -> web.Response:
    """An ApiError as its answer."""
    if error.status == 429:
        return limited(error.body.pop("retry_after", 1.0), **error.body)
    return reply(error.body, error.status)


def limited(retry_after: float, **extra: Any) -> web.Response:
    """A 429; without Via clients take it for a ban of the whole address."""
    body = {"message": "You are being rate limited.", "retry_after": retry_after, "global": False}
    body |= extra
    head = {"Via": "1.1 google", "Retry-After": str(max(1, round(retry_after)))}
    head["X-RateLimit-Scope"] = "global" if body["global"] else "user"
    if body["global"]:
        head["X-RateLimit-Global"] = "true"
    return reply(body, 429, head)


class Session:
    """One gateway session, which outlives its connection."""

    def __init__(self, intents: int) -> None:
        self.id = uuid.uuid4().hex
        self.intents = intents
        self.seq = 0
        self.sent: list[Json] = []
        self.ws: web.WebSocketResponse | None = None

    async def dispatch(self, event: str, data: Json) -> None:
        """Number an event, keep it for a resume, send it when connected."""
        self.seq += 1
        frame = {"op": 0, "t": event, "s": self.seq, "d": data}
        self.sent.append(frame)
        await self.send(frame)

    async def send(self, frame: Json) -> None:
        """Send a frame; a broken connection is the reader's business."""
        if self.ws is not None and not self.ws.closed:
            try:
                await self.ws.send_str(json.dumps(frame))
            except (ConnectionError, RuntimeError):
                self.ws = None


class Server:
    """HTTP, gateway and control door around one State."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.state = State()
        self.sessions: dict[str, Session] = {}
        self.calls: list[Json] = []
        self.failures: list[Json] = []
        self.app = web.Application(client_max_size=256 * 2**20, middlewares=[self.around])
        self.app.on_shutdown.append(self._shutdown)
        self._routes()

    async def _shutdown(self, _app: web.Application) -> None:
        for session in self.sessions.values():
            if session.ws is not None:
                await session.ws.close(code=1001)

    def _routes(self) -> None:
        add = self.app.router.add_route
        api: list[tuple[str, str, Handler]] = [
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
            ("POST", "/interactions/{id}/{token}/callback", self.callback),
            ("POST", "/webhooks/{app}/{token}", self.followup),
            ("GET", "/webhooks/{app}/{token}/messages/{message}", self.hook_message),
            ("PATCH", "/webhooks/{app}/{token}/messages/{message}", self.hook_message),
            ("DELETE", "/webhooks/{app}/{token}/messages/{message}", self.hook_message),
        ]
        for scope in (
            "/applications/{app}/commands",
            "/applications/{app}/guilds/{guild}/commands",
        ):
            for method in ("GET", "PUT", "POST"):
                api.append((method, scope, self.commands))
            for method in ("GET", "PATCH", "DELETE"):
                api.append((method, scope + "/{command}", self.one_command))
        for method, path, handler in api:
            add(method, API + path, handler)
        add("GET", "/gateway", self.gateway)
        add("GET", "/gateway/", self.gateway)
        add("GET", "/attachments/{channel}/{id}/{name}", self.attachment)
        for name in (
            "guild",
            "command",
            "autocomplete",
            "press",
            "modal",
            "clock",
            "limits",
            "fail",
        ):
            add("POST", f"/control/{name}", getattr(self, f"control_{name}"))
        for name in ("disconnect", "delete_message", "delete_channel", "kick_bot", "permissions"):
            add("POST", f"/control/{name}", getattr(self, f"control_{name}"))
        add("POST", "/control/message", self.control_message)
        add("GET", "/control/interaction/{id}", self.control_interaction)
        add("GET", "/control/messages", self.control_messages)
        add("GET", "/control/calls", self.control_calls)
        add("GET", "/control/commands", self.control_commands)

    # --- around every call -----------------------------------------------------------------

    @property
    def around(self) -> Any:
        """The middleware: auth, limits, planned failures, log."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/gateway"):
                return await handler(request)
            try:
                if request.path.startswith("/api/"):
                    return await self._api(request, handler)
                return await handler(request)
            except ApiError as error:
                return refuse(error)
            except web.HTTPException as error:
                return reply(
                    {"message": f"{error.status}: {error.reason}", "code": 0}, error.status
                )
            except (KeyError, ValueError, TypeError) as error:
                if not request.path.startswith("/control/"):
                    raise
                return reply({"error": f"{type(error).__name__}: {error}"}, 400)

        return middleware

    async def _api(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path.removeprefix(API)
        call: Json = {"method": request.method, "path": path, "query": dict(request.query)}
        call |= {"time": self.state.now(), "unknown": False, "json": None, "files": []}
        self.calls.append(call)
        request["call"] = call
        response: web.StreamResponse | None = None
        try:
            await self._read(request)
            rule = self._planned(request.method, path)
            if rule and not rule.get("after_applying"):
                response = self._planned_answer(rule)
                return response
            head = self._admit(request, path)
            try:
                response = await handler(request)
            except ApiError as error:
                response = refuse(error)
            except web.HTTPException as error:
                call["unknown"] = True
                text = f"{error.status}: {error.reason}"
                response = reply({"message": text, "code": 0}, error.status)
            if rule:
                response = self._planned_answer(rule)
            response.headers.update(head)
        except ApiError as error:
            response = refuse(error)
            if "headers" in request:
                response.headers.update(request["headers"])
        except Exception:
            call["status"] = 599
            raise
        finally:
            if response is not None:
                call["status"] = response.status
        return response

    async def _read(self, request: web.Request) -> None:
        request["body"], request["files"] = {}, {}
        # aiohttp reads a body once: as a form or as bytes.
        multipart = request.content_type == "multipart/form-data"
        form = await request.post() if multipart else None
        raw = b"" if multipart else await request.read()
        if max(len(raw), request.content_length or 0) > self.state.limits["request_size"]:
            raise ApiError(413, 40005, "Request entity too large")
        try:
            if form is not None:
                for key, value in form.items():
                    if key == "payload_json" and isinstance(value, str):
                        request["body"] = json.loads(value)
                    elif isinstance(value, web.FileField):
                        found = re.fullmatch(r"files\[(\d+)\]", key)
                        number = found.group(1) if found else str(len(request["files"]))
                        kind = value.content_type
                        upload = Upload(value.filename, value.file.read(), kind)
                        if kind == "application/octet-stream":
                            upload.content_type = _guess(value.filename) or kind
                        request["files"][number] = upload
            elif raw:
                if request.content_type != "application/json":
                    raise ApiError(400, 50109, "The request body contains invalid JSON.")
                request["body"] = json.loads(raw)
        except ValueError:
            raise ApiError(400, 50109, "The request body contains invalid JSON.") from None
        # A deep copy, as it came: the log must not change with the message.
        request["call"]["json"] = json.loads(json.dumps(request["body"] or None))
        request["call"]["files"] = [
            {"name": f"files[{k}]", "filename": f.filename, "size": len(f.data)}
            for k, f in request["files"].items()
        ]

    def _planned(self, method: str, path: str) -> Json | None:
        for rule in self.failures:
            fits = rule.get("method", method).upper() == method
            if fits and re.search(rule.get("path_regex", ""), path):
                rule["times"] -= 1
                if rule["times"] <= 0:
                    self.failures.remove(rule)
                return rule
        return None

    def _planned_answer(self, rule: Json) -> web.Response:
        body = rule.get("json")
        if rule["status"] == 429:
            return limited(float(rule.get("retry_after", 0.1)), **(body or {}))
        return reply(body or {"message": f"{rule['status']}: planned", "code": 0}, rule["status"])

    def _admit(self, request: web.Request, path: str) -> dict[str, str]:
        state, now = self.state, self.state.now()
        hook = path.startswith(("/interactions/", "/webhooks/"))
        if not hook:
            if request.headers.get("Authorization") != f"Bot {self.token}":
                raise ApiError(401, 0, "401: Unauthorized")
            count, window = state.limits["global"]
            ok, _, wait = state.buckets.take("global", count, window, now)
            if not ok:
                raise ApiError(
                    429, 0, "You are being rate limited.", retry_after=wait, **{"global": True}
                )
        if found := re.fullmatch(r"/channels/(\d+)/messages(/\d+)?", path):
            if request.method == "GET":
                return {}
            name, major = "deletes" if request.method == "DELETE" else "messages", found.group(1)
        elif (found := re.match(r"/webhooks/\d+/([^/]+)", path)) and request.method != "GET":
            name, major = "webhooks", found.group(1)
        else:
            return {}
        limit, window = state.limits[name]
        ok, left, reset = state.buckets.take(f"{name}:{major}", limit, window, now)
        head = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(left)}
        head |= {"X-RateLimit-Reset": f"{now + reset:.3f}", "X-RateLimit-Bucket": f"bucket-{name}"}
        head["X-RateLimit-Reset-After"] = f"{reset:.3f}"
        if not ok:
            request["headers"] = head
            raise ApiError(429, 0, "You are being rate limited.", retry_after=round(reset, 3))
        return head

    # --- REST: people, guilds, commands ----------------------------------------------------

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
        return reply({"url": self._gateway(), "shards": 1, "session_start_limit": start})

    def _gateway(self) -> str:
        return self.state.base.replace("http", "ws", 1) + "/gateway"

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

    # --- REST: channels and messages -------------------------------------------------------

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
        return reply([self.state.message_json(m) for m in found[:size]])

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
        state.write(message, body, request["files"], "channel", limit)
        if message.reference and message.type == 19:
            allowed = body.get("allowed_mentions")
            target = state.messages[str(message.reference["message_id"])]
            if allowed is None or allowed.get("replied_user"):
                users = [*message.pings["users"], target.author]
                message.pings["users"] = list(dict.fromkeys(users))
        state.messages[message.id] = message
        await self._tell("MESSAGE_CREATE", message)
        return reply(state.message_json(message))

    async def get_message(self, request: web.Request) -> web.Response:
        """One message."""
        channel = self.state.channel(request.match_info["channel"])
        message = self.state.message(channel.id, request.match_info["message"])
        return reply(self.state.message_json(message))

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
        state.write(message, request["body"], request["files"], "channel", limit)
        await self._tell("MESSAGE_UPDATE", message)
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
        await self._delete(message)
        return web.Response(status=204)

    async def _delete(self, message: Message) -> None:
        message.deleted = True
        if not message.ephemeral_for:
            channel = self.state.channels[message.channel_id]
            data = {"id": message.id, "channel_id": message.channel_id}
            data |= {"guild_id": channel.guild_id} if channel.guild_id else {}
            await self._send_to_channel("MESSAGE_DELETE", channel, lambda _: data)

    # --- REST: interactions ----------------------------------------------------------------

    async def callback(self, request: web.Request) -> web.Response:
        """The first answer to an interaction."""
        state = self.state
        asked = state.interactions.get(request.match_info["id"])
        if asked is None or asked.token != request.match_info["token"]:
            raise unknown("Interaction")
        if asked.acked is not None:
            raise ApiError(400, 40060, "Interaction has already been acknowledged.")
        age = state.now() - asked.created
        if age > state.limits["ack_seconds"]:
            asked.late.append({"after": age, "json": request["body"]})
            raise unknown("Interaction")
        kind, data = request["body"].get("type"), request["body"].get("data") or {}
        allowed = {2: {4, 5, 9}, 3: {4, 5, 6, 7, 9}, 4: {8}, 5: {4, 5}}[asked.type]
        if asked.type == 5 and asked.source:
            allowed = allowed | {6, 7}
        if kind not in allowed:
            text = f"Value must be one of {sorted(allowed)}."
            raise invalid("type", "INTERACTION_CALLBACK_TYPE_INVALID", text)
        message: Message | None = None
        if kind == 4:
            message = self._interaction_message(asked, data, request["files"])
        elif kind == 5:
            message = self._interaction_message(asked, {"flags": data.get("flags") or 0}, {}, True)
        elif kind in (6, 7):
            message = state.messages.get(asked.source or "")
            if message is None or message.deleted:
                raise unknown("Message")
            if kind == 7:
                state.write(message, data, request["files"], "interaction", asked.size_limit)
        elif kind == 8:
            self._check_choices(data, asked)
        elif kind == 9:
            check_modal(data)
        asked.acked, asked.ack_type, asked.ack_data = age, kind, data
        if message is not None:
            asked.original = message.id
            if kind != 6:
                await self._tell("MESSAGE_UPDATE" if kind == 7 else "MESSAGE_CREATE", message)
        if request.query.get("with_response", "").lower() not in ("1", "true"):
            return web.Response(status=204)
        outer: Json = {"id": asked.id, "type": asked.type}
        resource: Json = {"type": kind}
        if message is not None:
            outer |= {"response_message_id": message.id}
            outer["response_message_loading"] = bool(message.flags & LOADING)
            outer["response_message_ephemeral"] = bool(message.flags & EPHEMERAL)
            if kind in (4, 7):
                resource["message"] = state.message_json(message)
        return reply({"interaction": outer, "resource": resource})

    def _check_choices(self, data: Json, asked: Interaction) -> None:
        problems = Problems()
        check_choices(problems, "data.choices", data.get("choices") or [], asked.option_type)
        problems.done()

    def _interaction_message(
        self, asked: Interaction, data: Json, files: dict[str, Upload], loading: bool = False
    ) -> Message:
        state = self.state
        if asked.channel_id not in state.channels:
            raise unknown("Channel")
        message = Message(state.snowflake(), asked.channel_id, state.bot_id, state.now())
        message.interaction = asked.id
        message.type = 20 if asked.type == 2 else 0
        if int(data.get("flags") or 0) & EPHEMERAL:
            message.ephemeral_for = asked.user_id
        if loading:
            message.flags = LOADING | (int(data["flags"]) & EPHEMERAL)
            state.record(message, "interaction", dict(message.pings))
        else:
            state.write(message, data, files, "interaction", asked.size_limit)
        state.messages[message.id] = message
        return message

    def _hook(self, request: web.Request) -> Interaction:
        if request.match_info["app"] != self.state.bot_id:
            raise unknown("Webhook")
        return self.state.by_token(request.match_info["token"])

    async def followup(self, request: web.Request) -> web.Response:
        """A further message for an interaction; the first one fills a deferred answer."""
        asked, state = self._hook(request), self.state
        original = state.messages.get(asked.original or "")
        if original is not None and original.flags & LOADING and not original.deleted:
            limit = asked.size_limit
            state.write(original, request["body"], request["files"], "webhook", limit)
            await self._tell("MESSAGE_UPDATE", original)
            return reply(state.message_json(original))
        if asked.limited_followups and len(asked.followups) >= 5:
            text = "This interaction has reached the maximum number of follow-up messages"
            raise ApiError(400, 40094, text)
        message = self._interaction_message(asked, request["body"], request["files"])
        message.versions[0]["route"] = "webhook"
        asked.followups.append(message.id)
        await self._tell("MESSAGE_CREATE", message)
        return reply(state.message_json(message))

    async def hook_message(self, request: web.Request) -> web.Response:
        """Read, edit or delete a message of an interaction."""
        asked, state = self._hook(request), self.state
        message = state.webhook_message(asked, request.match_info["message"])
        if request.method == "DELETE":
            await self._delete(message)
            return web.Response(status=204)
        if request.method == "PATCH":
            state.write(message, request["body"], request["files"], "webhook", asked.size_limit)
            await self._tell("MESSAGE_UPDATE", message)
        return reply(state.message_json(message))

    async def attachment(self, request: web.Request) -> web.Response:
        """The bytes of an attachment."""
        found = self.state.files.get(request.path)
        if found is None:
            return web.Response(status=404, text="This content is no longer available.")
        return web.Response(body=found.data, headers={"Content-Type": found.content_type})

    # --- gateway ---------------------------------------------------------------------------

    async def _tell(self, event: str, message: Message) -> None:
        if message.ephemeral_for:
            return
        channel = self.state.channels[message.channel_id]
        data = self.state.message_json(message)
        if channel.guild_id:
            member = self.state.member(message.author)
            member.pop("user")
            data |= {"guild_id": channel.guild_id, "member": member}

        def shown(session: Session) -> Json:
            own = message.author == self.state.bot_id or not channel.guild_id
            own = own or self.state.bot_id in message.pings["users"]
            if own or session.intents & CONTENT:
                return data
            return data | {"content": "", "embeds": [], "components": [], "attachments": []}

        await self._send_to_channel(event, channel, shown)

    async def _send_to_channel(
        self, event: str, channel: Channel, data: Callable[[Session], Json]
    ) -> None:
        if not self.state.visible(channel):
            return
        need = GUILD_MESSAGES if channel.guild_id else DIRECT_MESSAGES
        for session in list(self.sessions.values()):
            if session.intents & need:
                await session.dispatch(event, data(session))

    async def _everyone(self, event: str, data: Json) -> None:
        for session in list(self.sessions.values()):
            await session.dispatch(event, data)

    async def gateway(self, request: web.Request) -> web.WebSocketResponse:
        """One gateway connection."""
        ws = web.WebSocketResponse(max_msg_size=0)
        await ws.prepare(request)
        hello = {"op": 10, "t": None, "s": None}
        beat = {"heartbeat_interval": self.state.limits["heartbeat_ms"]}
        await ws.send_str(json.dumps(hello | {"d": beat}))
        session: Session | None = None
        async for raw in ws:
            if raw.type is not WSMsgType.TEXT:
                continue
            try:
                frame = json.loads(raw.data)
            except ValueError:
                await ws.close(code=4002, message=b"Error while decoding payload.")
                break
            op, data = frame.get("op"), frame.get("d")
            if op == 1:
                await ws.send_str(json.dumps({"op": 11, "d": None, "t": None, "s": None}))
            elif op in (2, 6) and data.get("token", "").removeprefix("Bot ") != self.token:
                await ws.close(code=4004, message=b"Authentication failed.")
                break
            elif op in (2, 6) and session is not None:
                await ws.close(code=4005, message=b"Already authenticated.")
                break
            elif op == 2:
                session = await self._identify(ws, data)
            elif op == 6:
                session = await self._resume(ws, data)
            elif session is None:
                await ws.close(code=4003, message=b"Not authenticated.")
                break
            elif op == 8:
                await self._chunk(session, data)
            elif op not in (3, 4):
                await ws.close(code=4001, message=b"Unknown opcode.")
                break
        if session is not None and session.ws is ws:
            session.ws = None
            # A client that says goodbye with these codes gives its session up.
            if ws.close_code in (1000, 1001):
                self.sessions.pop(session.id, None)
        return ws

    async def _identify(self, ws: web.WebSocketResponse, data: Json) -> Session:
        session = Session(int(data.get("intents") or 0))
        session.ws = ws
        guilds = [g for g in self.state.guilds.values() if g.bot_in]
        await session.dispatch(
            "READY",
            {
                "v": 10,
                "user": self.state.user(self.state.bot_id)
                | {"verified": True, "mfa_enabled": True},
                "guilds": [{"id": g.id, "unavailable": True} for g in guilds],
                "private_channels": [],
                "session_id": session.id,
                "resume_gateway_url": self._gateway(),
                "application": {"id": self.state.bot_id, "flags": 0},
                **({"shard": data["shard"]} if "shard" in data else {}),
            },
        )
        self.sessions[session.id] = session
        if session.intents & GUILDS:
            for guild in guilds:
                await session.dispatch("GUILD_CREATE", self.state.guild_json(guild))
        return session

    async def _resume(self, ws: web.WebSocketResponse, data: Json) -> Session | None:
        session = self.sessions.get(data.get("session_id", ""))
        if session is None or int(data.get("seq") or 0) > session.seq:
            await ws.send_str(json.dumps({"op": 9, "d": False, "t": None, "s": None}))
            return None
        session.ws = ws
        for frame in [f for f in session.sent if f["s"] > int(data.get("seq") or 0)]:
            await session.send(frame)
        await session.dispatch("RESUMED", {})
        return session

    async def _chunk(self, session: Session, data: Json) -> None:
        guild = self.state.guilds.get(str(data.get("guild_id")))
        if guild is None:
            return
        ids = [str(u) for u in data.get("user_ids") or [self.state.bot_id, *guild.members]]
        chunk: Json = {"guild_id": guild.id, "chunk_index": 0, "chunk_count": 1, "not_found": []}
        chunk |= {"members": [self.state.member(u) for u in ids]}
        chunk |= {"nonce": data["nonce"]} if data.get("nonce") else {}
        await session.dispatch("GUILD_MEMBERS_CHUNK", chunk)

    # --- control door: what people do ------------------------------------------------------

    async def control_guild(self, request: web.Request) -> web.Response:
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
            channel.nsfw, channel.deny = spec.get("nsfw", False), _perm_names(spec.get("deny", []))
            channel.parent_id = str(parent) if parent else None
            state.channels[channel.id] = channel
        if guild.bot_in:
            for session in list(self.sessions.values()):
                if session.intents & GUILDS:
                    await session.dispatch("GUILD_CREATE", state.guild_json(guild))
        return reply({"id": guild_id})

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
        await self._everyone("INTERACTION_CREATE", asked.payload)
        return reply({"interaction_id": asked.id, "token": asked.token})

    def _command(self, body: Json) -> tuple[Json, list[Json], list[str]]:
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
            upload = _upload(value)
            made = state.attach(channel_id, upload, None)
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

    def _command_data(self, body: Json, focused: str | None = None) -> Json:
        command, options, path = self._command(body)
        channel, _ = self._place(body)
        given = dict(body.get("options") or {})
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
                shown = self.state.message_json(self.state.messages[target])
                resolved["messages"] = {target: shown}
        return data | ({"resolved": resolved} if resolved else {})

    async def control_command(self, request: web.Request) -> web.Response:
        """A user sends a command."""
        body = await request.json()
        return await self._go(await self._interact(2, self._command_data(body), body))

    async def control_autocomplete(self, request: web.Request) -> web.Response:
        """A user types into an option; answers what the bot offers within 3 s."""
        body = await request.json()
        focused = str(body["focused"])
        asked = await self._interact(4, self._command_data(body, focused), body)
        _, options, _ = self._command(body)
        asked.option_type = next(o["type"] for o in options if o["name"] == focused)
        await self._everyone("INTERACTION_CREATE", asked.payload)
        end = time.monotonic() + 3
        while asked.acked is None and time.monotonic() < end:
            await asyncio.sleep(0.01)
        offered = asked.ack_data.get("choices") if asked.acked is not None else None
        return reply({"interaction_id": asked.id, "choices": offered, "after": asked.acked})

    async def control_press(self, request: web.Request) -> web.Response:
        """A user presses a button or picks from a select."""
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
        for part in walk(message.components):
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
            return await self._go(await self._interact(3, data, body, message))
        raise ValueError("there is no such component")

    async def control_modal(self, request: web.Request) -> web.Response:
        """A user submits the modal that an interaction was answered with."""
        body = await request.json()
        opener = self.state.interactions[str(body["interaction_id"])]
        if opener.ack_type != 9:
            raise ValueError("that interaction showed no modal")
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
        return await self._go(await self._interact(5, data, body, source))

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
            made = [self.state.attach(channel_id, _upload(v), None) for v in chosen]
            resolved.setdefault("attachments", {}).update({m["id"]: m for m in made})
            chosen = [m["id"] for m in made]
        return base | {"values": [str(v) for v in chosen]}

    async def control_message(self, request: web.Request) -> web.Response:
        """A user writes a message."""
        body, state = await request.json(), self.state
        channel, _ = self._place(body)
        message = Message(state.snowflake(), channel.id, str(body["user_id"]), state.now())
        files = {str(i): _upload(f) for i, f in enumerate(body.get("files", []))}
        text = {"content": body.get("content", "")}
        state.write(message, text, files, "user", 25 * 2**20)
        state.messages[message.id] = message
        await self._tell("MESSAGE_CREATE", message)
        return reply({"id": message.id, "channel_id": channel.id})

    # --- control door: what tests look at and change ---------------------------------------

    async def control_interaction(self, request: web.Request) -> web.Response:
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

    async def control_messages(self, request: web.Request) -> web.Response:
        """Messages with their whole history, oldest first."""
        channel_id = request.query.get("channel_id")
        found = [m for m in self.state.messages.values() if channel_id in (None, m.channel_id)]
        return reply([self._shown(m.id) for m in sorted(found, key=lambda m: int(m.id))])

    async def control_calls(self, request: web.Request) -> web.Response:
        """The log of API calls; ?unknown=1 for those nobody answers here."""
        only = request.query.get("unknown") == "1"
        return reply([c for c in self.calls if c["unknown"] or not only])

    async def control_commands(self, _: web.Request) -> web.Response:
        """Registered commands by scope; "" is global."""
        return reply({k: list(v.values()) for k, v in self.state.commands.items()})

    async def control_clock(self, request: web.Request) -> web.Response:
        """Move the clock."""
        self.state.offset += float((await request.json())["advance"])
        return reply({"now": self.state.now()})

    async def control_limits(self, request: web.Request) -> web.Response:
        """Change limits; "guild_file_size": {id: bytes} sets a guild's own."""
        body = await request.json()
        for guild_id, size in body.pop("guild_file_size", {}).items():
            self.state.guilds[guild_id].attachment_size_limit = size
        if extra := set(body) - set(self.state.limits):
            raise ValueError(f"no such limits: {sorted(extra)}")
        self.state.limits |= body
        return reply(self.state.limits)

    async def control_fail(self, request: web.Request) -> web.Response:
        """Plan failures."""
        self.failures.append({"times": 1, "status": 500, **(await request.json())})
        return reply({"planned": len(self.failures)})

    async def control_disconnect(self, request: web.Request) -> web.Response:
        """Drop gateways: by close code, or op 7 or 9 when "op" says so."""
        body = await request.json()
        resumable, op = body.get("resumable", True), body.get("op")
        dropped = 0
        for session in list(self.sessions.values()):
            ws = session.ws
            if not resumable:
                self.sessions.pop(session.id, None)
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

    async def control_delete_message(self, request: web.Request) -> web.Response:
        """A moderator deletes a message."""
        await self._delete(self.state.messages[str((await request.json())["message_id"])])
        return reply({})

    async def control_delete_channel(self, request: web.Request) -> web.Response:
        """A moderator deletes a channel."""
        channel = self.state.channels.pop(str((await request.json())["channel_id"]))
        event = "THREAD_DELETE" if channel.type in THREADS else "CHANNEL_DELETE"
        for message in self.state.messages.values():
            message.deleted = message.deleted or message.channel_id == channel.id
        await self._everyone(event, self.state.channel_json(channel))
        return reply({})

    async def control_kick_bot(self, request: web.Request) -> web.Response:
        """A moderator removes the bot."""
        guild_id = str((await request.json()).get("guild_id", "100"))
        self.state.guilds[guild_id].bot_in = False
        await self._everyone("GUILD_DELETE", {"id": guild_id})
        return reply({})

    async def control_permissions(self, request: web.Request) -> web.Response:
        """Deny the bot things in a channel, or close a user's direct messages."""
        body, state = await request.json(), self.state
        if "channel_id" in body:
            channel = state.channels[str(body["channel_id"])]
            channel.deny = _perm_names(body.get("deny", []))
            event = "THREAD_UPDATE" if channel.type in THREADS else "CHANNEL_UPDATE"
            if channel.guild_id:
                await self._everyone(event, state.channel_json(channel))
        if "user_id" in body:
            change = state.closed_dms.add if body.get("dm_closed") else state.closed_dms.discard
            change(str(body["user_id"]))
        return reply({})


BASE_USER = sum(v for k, v in PERMS.items() if not k.startswith("MANAGE_"))


def _perm_names(names: list[str]) -> set[str]:
    if extra := set(names) - set(PERMS):
        raise ValueError(f"unknown permissions {sorted(extra)}")
    return set(names)


def _guess(filename: str) -> str | None:
    ends = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
    ends |= {"gif": "image/gif", "mp4": "video/mp4", "txt": "text/plain; charset=utf-8"}
    return ends.get(filename.rsplit(".", 1)[-1].lower())


def _upload(spec: Json) -> Upload:
    """A file as the control door takes it: filename, content_b64, content_type."""
    kind = spec.get("content_type") or _guess(spec["filename"]) or "application/octet-stream"
    return Upload(spec["filename"], base64.b64decode(spec["content_b64"]), kind)


async def serve(port: int, token: str) -> None:
    """Serve until told to stop."""
    server = Server(token)
    runner = web.AppRunner(server.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    real_port = runner.addresses[0][1]
    server.state.base = f"http://127.0.0.1:{real_port}"
    print(f"READY {server.state.base}", flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, stop.set)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="TEST")
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.token))


if __name__ == "__main__":
    main()
