"""What the wire-level servers of other people's engines have in common: pictures, and troubles.

Each engine's server, in `remote_<engine>.py`, is a `RemoteServer` with the routes of its public
documentation. What it is told in `troubles` its next calls meet, one each; then all is well again.
"""

from __future__ import annotations

import asyncio
import email
import hashlib
import io
import json
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from PIL import Image

# What may go wrong with whatever is asked of a server; its own words of each are `refusal`.
TROUBLES = ("400", "401", "402", "429", "500", "slow", "cut", "html")
SLOW_SECONDS = 30.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def picture(said: str, size: tuple[int, int] = (64, 64), kind: str = "PNG") -> bytes:
    """A picture of one colour that depends on what was said."""
    red, green, blue = hashlib.sha256(said.encode()).digest()[:3]
    out = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(out, kind)
    return out.getvalue()


class RemoteServer:
    """One engine's server on loopback, in a thread of its own, from `with` to its end."""

    # The engine's name in core/providers.py, and a model as hosts name one.
    engine = ""
    source = ""
    # Its key; calls without it are refused.
    key = "a-key"
    # A path whose calls meet no trouble: its caller comes again whenever it likes.
    spared = ""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        # What was asked: method, path, and what came with it.
        self.asked: list[tuple[str, str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.seconds = 0.0
        self.address = ""

    # What each engine's server says for itself

    def routes(self) -> list[web.RouteDef]:
        """Its paths."""
        raise NotImplementedError

    def settings(self) -> dict[str, str]:
        """The environment that leads its engine here."""
        raise NotImplementedError

    def refusal(self, status: int) -> Any:
        """The body of an error, as the documentation has it."""
        return {"error": {"message": f"refused with {status}"}}

    def heard(self, call: tuple[str, str, Any]) -> str:
        """The prompt that came with a call; empty where none did."""
        raise NotImplementedError

    def allowed(self, request: web.Request) -> bool:
        """Whether a call brings the key."""
        return request.headers.get("authorization") == f"Bearer {self.key}"

    # What is the same everywhere

    def __enter__(self) -> RemoteServer:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**28, middlewares=[self._middleware()])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"http://{host}:{port}"

    def _middleware(self) -> Any:
        @web.middleware
        async def meet(request: web.Request, handler: Handler) -> web.StreamResponse:
            body = await request.read()
            given: Any = body.decode(errors="replace")
            if request.content_type == "application/json":
                given = json.loads(body or b"null")
            self.asked.append((request.method, request.path_qs, given))
            if self.key and not self.allowed(request):
                return web.json_response(self.refusal(401), status=401)
            meets = bool(self.troubles) and request.path != self.spared
            trouble = self.troubles.pop(0) if meets else ""
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            try:
                return await self._met(trouble, request, handler)
            finally:
                self.at_once -= 1

        return meet

    async def _met(
        self, trouble: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        await asyncio.sleep(SLOW_SECONDS if trouble == "slow" else self.seconds)
        if trouble.isdigit():
            status = int(trouble)
            headers = {"Retry-After": "2"} if status == 429 else {}
            return web.json_response(self.refusal(status), status=status, headers=headers)
        if trouble == "html":
            page = "<html><body>Bad gateway</body></html>"
            return web.Response(text=page, content_type="text/html")
        answer = await handler(request)
        if trouble != "cut":
            return answer
        # As much was promised; half of it comes, and the connection ends.
        assert isinstance(answer, web.Response) and isinstance(answer.body, bytes)
        length = len(answer.body)
        kind = answer.headers["Content-Type"]
        half = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(length)})
        await half.prepare(request)
        await half.write(answer.body[: length // 2])
        assert request.transport
        request.transport.close()
        return half


def parts_of(body: bytes, kind: str) -> dict[str, list[tuple[str, bytes]]]:
    """The fields of a form by name, each with its file's name, by the kind that a request says."""
    head = b"Content-Type: " + kind.encode() + b"\r\n\r\n"
    found: dict[str, list[tuple[str, bytes]]] = {}
    for part in email.message_from_bytes(head + body).walk():
        if part.is_multipart():
            continue
        name = str(part.get_param("name", "", "content-disposition"))
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        found.setdefault(name, []).append((part.get_filename() or "", data))
    return found


def said_in(form: str) -> str:
    """The prompt in a form, as a call is noted."""
    found = re.search(r'name="prompt"\r\n\r\n(.*?)\r\n--', form, re.DOTALL)
    return found[1] if found else ""
