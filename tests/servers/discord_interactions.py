"""How a bot answers interactions of the strict Discord: callback, follow-ups, edits."""

from __future__ import annotations

from aiohttp import web

from tests.servers.discord_calls import API, Handler, reply
from tests.servers.discord_command_rules import check_choices
from tests.servers.discord_errors import ApiError, Json, Problems, invalid, unknown
from tests.servers.discord_gateway import Gateway
from tests.servers.discord_message_rules import check_modal
from tests.servers.discord_objects import EPHEMERAL, LOADING, Interaction, Message, Upload
from tests.servers.discord_state import State
from tests.servers.discord_writing import record, write


class Interactions:
    """What a bot says through an interaction and its token."""

    def __init__(self, state: State, gateway: Gateway) -> None:
        self.state = state
        self.gateway = gateway

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Serve this part of the API."""
        routes: list[tuple[str, str, Handler]] = [
            ("POST", "/interactions/{id}/{token}/callback", self.callback),
            ("POST", "/webhooks/{app}/{token}", self.followup),
            ("GET", "/webhooks/{app}/{token}/messages/{message}", self.hook_message),
            ("PATCH", "/webhooks/{app}/{token}/messages/{message}", self.hook_message),
            ("DELETE", "/webhooks/{app}/{token}/messages/{message}", self.hook_message),
        ]
        for method, path, handler in routes:
            router.add_route(method, API + path, handler)

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
                write(state, message, data, request["files"], "interaction", asked.size_limit)
        elif kind == 8:
            self._check_choices(data, asked)
        elif kind == 9:
            check_modal(data)
        asked.acked, asked.ack_type, asked.ack_data = age, kind, data
        if message is not None:
            asked.original = message.id
            if kind != 6:
                await self.gateway.tell(
                    "MESSAGE_UPDATE" if kind == 7 else "MESSAGE_CREATE", message
                )
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
            record(state, message, "interaction", dict(message.pings))
        else:
            write(state, message, data, files, "interaction", asked.size_limit)
        state.messages[message.id] = message
        return message

    def _hook(self, request: web.Request) -> Interaction:
        if request.match_info["app"] != self.state.bot_id:
            raise unknown("Webhook")
        return self._by_token(request.match_info["token"])

    def _by_token(self, token: str) -> Interaction:
        """The interaction a webhook token stands for."""
        asked = self.state.tokens.get(token)
        if asked is None:
            raise unknown("Webhook")
        if self.state.now() - asked.created > self.state.limits["token_seconds"]:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        if asked.acked is None:
            raise unknown("Webhook")
        return asked

    def _webhook_message(self, asked: Interaction, message_id: str) -> Message:
        """A message that this interaction's token may touch."""
        key = asked.original if message_id == "@original" else message_id
        mine = key is not None and key in (asked.original, *asked.followups)
        found = self.state.messages.get(key) if mine and key else None
        if found is None or found.deleted:
            raise unknown("Message")
        return found

    async def followup(self, request: web.Request) -> web.Response:
        """A further message for an interaction; the first one fills a deferred answer."""
        asked, state = self._hook(request), self.state
        original = state.messages.get(asked.original or "")
        if original is not None and original.flags & LOADING and not original.deleted:
            limit = asked.size_limit
            write(state, original, request["body"], request["files"], "webhook", limit)
            await self.gateway.tell("MESSAGE_UPDATE", original)
            return reply(state.message_json(original))
        if asked.limited_followups and len(asked.followups) >= 5:
            text = "This interaction has reached the maximum number of follow-up messages"
            raise ApiError(400, 40094, text)
        message = self._interaction_message(asked, request["body"], request["files"])
        message.versions[0]["route"] = "webhook"
        asked.followups.append(message.id)
        await self.gateway.tell("MESSAGE_CREATE", message)
        return reply(state.message_json(message))

    async def hook_message(self, request: web.Request) -> web.Response:
        """Read, edit or delete a message of an interaction."""
        asked, state = self._hook(request), self.state
        message = self._webhook_message(asked, request.match_info["message"])
        if request.method == "DELETE":
            await self.gateway.delete(message)
            return web.Response(status=204)
        if request.method == "PATCH":
            write(state, message, request["body"], request["files"], "webhook", asked.size_limit)
            await self.gateway.tell("MESSAGE_UPDATE", message)
        return reply(state.message_json(message))
