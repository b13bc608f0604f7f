"""A strict Telegram Bot API on loopback, with a control door for tests.

Run it: ``python -m tests.servers.telegram_server --port 0 --token 123:TEST``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
from typing import Any

import aiohttp
from aiohttp import web

from tests.servers.telegram_door import Door
from tests.servers.telegram_errors import ApiError, Json, bad, conflict, too_many
from tests.servers.telegram_files import MB
from tests.servers.telegram_methods import Methods
from tests.servers.telegram_params import Params, read
from tests.servers.telegram_state import Fault, Platform

ENDED = "terminated by other getUpdates request; make sure that only one bot instance is running"
USE_DELETE = (
    "can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)


class Server:
    """The HTTP side of a platform: methods, long polls, webhook."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.methods = Methods(platform)
        self.calls: list[Json] = []
        self.bell = asyncio.Event()
        self.poll = 0
        self.webhook: Json = {}
        platform.notify = self.ring

    def ring(self) -> None:
        """Wake all who wait for updates."""
        bell, self.bell = self.bell, asyncio.Event()
        bell.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one API call."""
        platform = self.platform
        method = request.match_info["method"]
        entry: Json = {"method": method, "params": {}, "time": platform.now()}
        self.calls.append(entry)
        fault: Fault | None = None
        try:
            if request.match_info["token"] != platform.token:
                raise ApiError(401, "Unauthorized")
            p = await self.parameters(request)
            entry["params"] = p.seen()
            fault = self.fault(method)
            if fault and fault.status != 200 and not fault.after_applying:
                return self.broken(request, entry, fault)
            body: Json = {"ok": True, "result": await self.call(method, p)}
            status = 200
            if fault and fault.status == 200:
                await asyncio.sleep(fault.seconds)
            elif fault:
                return self.broken(request, entry, fault)
        except ApiError as error:
            status, body = error.status, error.body
        entry["status"], entry["description"] = status, body.get("description")
        return web.json_response(body, status=status)

    async def parameters(self, request: web.Request) -> Params:
        """Read a request, or refuse it as the platform does."""
        try:
            return await read(request)
        except web.HTTPRequestEntityTooLarge:
            raise ApiError(413, "Request Entity Too Large") from None
        except ValueError:
            raise bad("can't parse request") from None

    async def call(self, method: str, p: Params) -> Any:
        """The result of a method."""
        if self.platform.logged_out:
            raise bad("Logged out")
        name = method.lower()
        if name == "getupdates":
            return await self.get_updates(p)
        if name == "setwebhook":
            return self.set_webhook(p)
        if name == "deletewebhook":
            return self.set_webhook(Params({**p.values, "url": ""}))
        if name == "getwebhookinfo":
            return self.webhook_info()
        known = self.methods.by_name.get(name)
        if known is None:
            raise ApiError(404, "Not Found")
        return known(p)

    def fault(self, method: str) -> Fault | None:
        """The fault waiting for a method, if any."""
        for fault in self.platform.faults:
            if fault.times > 0 and fault.method.lower() in ("*", method.lower()):
                fault.times -= 1
                return fault
        return None

    def broken(self, request: web.Request, entry: Json, fault: Fault) -> web.Response:
        """Answer with a fault; status 0 drops the connection."""
        entry |= {"status": fault.status, "fault": True, "applied": fault.after_applying}
        if not fault.status and request.transport:
            request.transport.abort()
            return web.Response()
        if fault.page:
            return web.Response(text=f"Cannot {request.method} {request.path}", status=fault.status)
        what = fault.description
        if not what and fault.status == 429:
            body = too_many(fault.retry_after or 1).body
        else:
            extra = {"retry_after": fault.retry_after} if fault.retry_after else {}
            body = ApiError(fault.status, what or "Internal Server Error", **extra).body
        entry["description"] = body["description"]
        return web.json_response(body, status=fault.status)

    # Updates ------------------------------------------------------------------------------------

    def choose(self, p: Params) -> None:
        """Remember which kinds of update the bot asks for."""
        kinds = p.tree("allowed_updates")
        if kinds is not None:
            if not isinstance(kinds, list):
                raise bad("can't parse allowed_updates JSON object")
            self.platform.allowed = [str(kind) for kind in kinds]

    async def get_updates(self, p: Params) -> list[Json]:
        """A long poll; a newer one ends it."""
        if self.webhook.get("url"):
            raise conflict(USE_DELETE)
        self.choose(p)
        self.poll += 1
        mine = self.poll
        self.ring()
        platform = self.platform
        if offset := p.number("offset"):
            platform.confirm(offset)
        given = p.number("limit")
        limit = given if given and 1 <= given <= 100 else 100
        clock = asyncio.get_running_loop().time
        end = clock() + min(50, max(0, p.number("timeout") or 0))
        while True:
            if found := platform.batch(limit):
                return found
            left = end - clock()
            if left <= 0:
                return []
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.bell.wait(), left)
            if self.webhook.get("url"):
                raise conflict("terminated by setWebhook request")
            if self.poll != mine:
                raise conflict(ENDED)

    def set_webhook(self, p: Params) -> bool:
        """Set the webhook, or with no url remove it."""
        url, secret = p.text("url"), p.text("secret_token")
        # Plain http is allowed as by the official server in local mode: this one is on loopback.
        if url and not re.match(r"https?://[^\s/]+", url):
            raise bad("bad webhook: An HTTPS URL must be provided for webhook")
        if secret and not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", secret):
            raise bad("secret token contains unallowed characters")
        self.choose(p)
        if p.flag("drop_pending_updates"):
            self.platform.pending = []
        self.webhook = {"url": url, "secret": secret} if url else {}
        self.ring()
        return True

    def webhook_info(self) -> Json:
        """The state of the webhook."""
        info: Json = {
            "url": self.webhook.get("url", ""),
            "has_custom_certificate": False,
            "pending_update_count": len(self.platform.pending),
        }
        if self.platform.allowed:
            info["allowed_updates"] = self.platform.allowed
        info |= self.webhook.get("error", {})
        return info

    async def deliver(self) -> None:
        """Post updates to the webhook, in order, each until it is accepted."""
        platform = self.platform
        pause = 0.1
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            while True:
                hook = self.webhook
                if not hook or not (platform.again or platform.pending):
                    await self.bell.wait()
                    continue
                queue = platform.again or platform.pending
                update = queue[0]
                secret = hook["secret"]
                headers = {"X-Telegram-Bot-Api-Secret-Token": secret} if secret else {}
                try:
                    async with session.post(hook["url"], json=update, headers=headers) as answer:
                        problem = "" if 200 <= answer.status < 300 else f"{answer.status}"
                except (aiohttp.ClientError, TimeoutError) as error:
                    problem = str(error) or type(error).__name__
                if not problem:
                    pause = 0.1
                    # The queues may have been replaced while the bot was answering.
                    for queue in (platform.again, platform.pending):
                        if queue and queue[0] is update:
                            del queue[0]
                            break
                    continue
                hook["error"] = {
                    "last_error_date": int(platform.now()),
                    "last_error_message": f"Wrong response from the webhook: {problem}",
                }
                await asyncio.sleep(pause)
                pause = min(5, pause * 2)

    async def file(self, request: web.Request) -> web.Response:
        """The bytes of a file, as the platform keeps them."""
        path = request.match_info["path"]
        entry: Json = {"method": "file", "params": {"path": path}, "time": self.platform.now()}
        self.calls.append(entry)
        found = self.platform.files.at(path, self.platform.now())
        if request.match_info["token"] != self.platform.token or found is None:
            entry["status"] = 404
            return web.json_response(ApiError(404, "Not Found").body, status=404)
        fault = self.fault("file")
        if fault and fault.status != 200:
            return self.broken(request, entry, fault)
        entry["status"] = 200
        # A fault that says 200 is one that sends nothing.
        body = b"" if fault else found.data
        return web.Response(body=body, content_type="application/octet-stream")


async def serve(port: int, token: str, username: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = Server(Platform(token, username))
    door = Door(server.platform, server.calls)
    # Room above the documents' 50 MB, so that a refusal is an answer and not a torn connection.
    app = web.Application(client_max_size=64 * MB)
    app.router.add_route("*", "/bot{token:[^/]+}/{method}", server.handle)
    app.router.add_get("/file/bot{token:[^/]+}/{path:.+}", server.file)
    app.router.add_route("*", "/control/{name}", door.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    delivery = asyncio.create_task(server.deliver())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print(f"READY http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    delivery.cancel()
    await runner.cleanup()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default="123:TEST")
    parser.add_argument("--username", default="drawqueue_test_bot")
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.token, given.username))


if __name__ == "__main__":
    main()
