"""The gateway of the strict Discord: sessions that identify, resume and are told events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

from aiohttp import WSMsgType, web

from tests.servers.discord_errors import Json
from tests.servers.discord_objects import Channel, Message
from tests.servers.discord_state import State

GUILDS, GUILD_MESSAGES, DIRECT_MESSAGES, CONTENT = 1 << 0, 1 << 9, 1 << 12, 1 << 15


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


class Gateway:
    """The sessions, and the events they are told."""

    def __init__(self, state: State, token: str) -> None:
        self.state = state
        self.token = token
        self.sessions: dict[str, Session] = {}

    def url(self) -> str:
        """Where the gateway is."""
        return self.state.base.replace("http", "ws", 1) + "/gateway"

    async def close(self) -> None:
        """Close every connection."""
        for session in list(self.sessions.values()):
            if session.ws is not None:
                await session.ws.close(code=1001)

    async def tell(self, event: str, message: Message) -> None:
        """Send an event about a message to the sessions that may know of it."""
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

    async def everyone(self, event: str, data: Json) -> None:
        """Send an event to every session."""
        for session in list(self.sessions.values()):
            await session.dispatch(event, data)

    async def delete(self, message: Message) -> None:
        """Mark a message deleted and tell the sessions that may know of it."""
        message.deleted = True
        if not message.ephemeral_for:
            channel = self.state.channels[message.channel_id]
            data = {"id": message.id, "channel_id": message.channel_id}
            data |= {"guild_id": channel.guild_id} if channel.guild_id else {}
            await self._send_to_channel("MESSAGE_DELETE", channel, lambda _: data)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
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
                "resume_gateway_url": self.url(),
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
