"""A plug between Drawqueue and a server: pulled, the network to that server is away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

REFUSE, HANG = "refuse", "hang"


class Plug:
    """Passes bytes on to a server; `pull` and `put_back` take that away and give it back.

    Refusing: connections are reset, and new ones are refused. Hanging: nothing passes either way,
    new ones are taken and left without an answer. What was under way in an outage is lost: it
    reaches nobody later.
    """

    def __init__(self) -> None:
        self.way = ""
        self._target = ("", 0)
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._listen(self._bound(0))
        host, port = self._sockets.getsockname()
        self.address = f"http://{host}:{port}"

    def lead_to(self, address: str) -> None:
        """Say which server this leads to."""
        parts = urlsplit(address)
        self._target = str(parts.hostname), int(parts.port or 0)

    def pull(self, way: str) -> None:
        """Take the network away, REFUSE or HANG."""
        self._run(self._pull(way))

    def put_back(self) -> None:
        """Give the network back."""
        self._run(self._put_back())

    def close(self) -> None:
        """End it."""
        self._run(self._pull(REFUSE))
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    def _bound(self, port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        return made

    def _listen(self, bound: socket.socket) -> None:
        self._sockets = bound

        async def start() -> None:
            self._server = await asyncio.start_server(self._serve, sock=bound)

        self._run(start())

    async def _pull(self, way: str) -> None:
        self.way = way
        if way == HANG:
            self._open.clear()
            return
        self._server.close()
        self._drop()

    async def _put_back(self) -> None:
        way, self.way = self.way, ""
        self._drop()
        self._open.set()
        if way == REFUSE:
            port = int(self.address.rsplit(":", 1)[1])
            self._server = await asyncio.start_server(self._serve, sock=self._bound(port))

    def _drop(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            if writer.transport.is_closing():
                return
            there, back = await asyncio.open_connection(*self._target)
            self._writers.add(back)
            try:
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
            finally:
                self._writers.discard(back)
                back.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(RuntimeError):
                writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on until the end; what comes in an outage is kept from going on."""
        while data := await reader.read(65536):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
