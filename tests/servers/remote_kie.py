"""kie.ai on the wire: tasks that are created, asked for and told of, and pictures that die.

As its public documentation has it (docs.kie.ai, Market: Seedream 4.5, Get Task Details): refusals
come with status 200, the code is in the body; of too many calls alone the status tells. What was
asked for is told again with each record, the callback's address too.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.servers.remote import Handler, RemoteServer, picture

RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16", "2:3", "3:2", "21:9")
# What may be wrong with the callbacks.
CALLBACKS = ("once", "never", "twice", "early", "forged", "of another")


@dataclass
class Made:
    """A task as the server has it."""

    name: str
    asked: dict[str, Any]
    takes: float
    # Its failCode and failMsg, where it fails.
    failure: tuple[str, str] | None
    addresses: list[str]
    since: float = field(default_factory=time.monotonic)

    @property
    def state(self) -> str:
        gone = (time.monotonic() - self.since) / max(self.takes, 1e-9)
        if gone >= 1:
            return "fail" if self.failure else "success"
        return ("waiting", "queuing", "generating")[int(gone * 3)]


class KieServer(RemoteServer):
    """Tasks take `seconds`; what else may happen to them is said before they are created."""

    engine = "kie"
    source = "kie"
    key = "kie-key"

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, Made] = {}
        self.callbacks = "once"
        # Callbacks come so long after a task is done.
        self.late = 0.0
        # Why the next tasks fail, one each.
        self.failures: list[tuple[str, str]] = []
        # How many pictures a task names, and for how long they are there.
        self.pictures = 1
        self.lives = 60.0
        # What its records say in place of what they should, and who is not known yet.
        self.garbled: dict[str, Any] = {}
        self.unknown = False
        # What became of the callbacks; and what the pictures were fetched with.
        self.told: list[tuple[str, int]] = []
        self.fetched: list[dict[str, str]] = []
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def seconds(self) -> float:  # type: ignore[override]
        """How long an answer takes: no time. What is set is how long a task does."""
        return 0.0

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self.takes = seconds

    # What it says for itself

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/jobs/createTask", self._create),
            web.get("/api/v1/jobs/recordInfo", self._record),
        ]

    def settings(self) -> dict[str, str]:
        return {"KIE_API_BASE_URL": f"{self.address}/api/v1", "KIE_API_KEY": self.key}

    def refusal(self, status: int) -> Any:
        return {"code": status, "msg": f"refused with {status}", "data": None}

    def heard(self, call: tuple[str, str, Any]) -> str:
        given = call[2]
        return str(given["input"]["prompt"]) if call[1].endswith("/createTask") else ""

    def allowed(self, request: web.Request) -> bool:
        return True  # As everything else it refuses, this has a code of its own.

    @property
    def created(self) -> list[dict[str, Any]]:
        """The bodies with which tasks were asked for."""
        return [given for _method, path, given in self.asked if path.endswith("/createTask")]

    @property
    def polled(self) -> int:
        """How often a task was asked for."""
        return sum("/recordInfo" in path for _method, path, _given in self.asked)

    # On the wire

    async def _start(self) -> None:
        await super()._start()
        self._session = aiohttp.ClientSession()
        kept = web.Application()
        kept.add_routes([web.get("/files/{name}", self._file)])
        self._kept = web.AppRunner(kept, shutdown_timeout=0.1)
        await self._kept.setup()
        await web.TCPSite(self._kept, "127.0.0.1", 0).start()
        host, port = self._kept.addresses[0][:2]
        self._files = f"http://{host}:{port}/files"

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        super().__exit__(*error)

    async def _end(self) -> None:
        for one in self._telling:
            one.cancel()
        await self._session.close()
        await self._kept.cleanup()

    async def _met(
        self, trouble: str, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response(self.refusal(401))
        if trouble.isdigit() and trouble != "429":
            return web.json_response(self.refusal(int(trouble)))
        if trouble == "busy":
            return web.json_response(self.refusal(429))
        return await super()._met(trouble, request, handler)

    async def _create(self, request: web.Request) -> web.Response:
        given = await request.json()
        if fault := _fault(given):
            return web.json_response({"code": 422, "msg": fault, "data": None})
        name = secrets.token_hex(16)
        failure = self.failures.pop(0) if self.failures else None
        number = len(self.tasks)
        said = f"{given['input']['prompt']} {number}"
        addresses = [
            f"{self._files}/{name}-{index}.png?said={index}" for index in range(self.pictures)
        ]
        takes = 0.0 if self.callbacks == "early" else self.takes
        made = Made(name, {**given, "said": said}, takes, failure, addresses)
        self.tasks[name] = made
        if "callBackUrl" in given and self.callbacks != "never":
            telling = asyncio.ensure_future(self._tell(made, given["callBackUrl"]))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
            if self.callbacks == "early":
                await telling
        return web.json_response({"code": 200, "msg": "success", "data": {"taskId": name}})

    async def _tell(self, made: Made, address: str) -> None:
        await asyncio.sleep(made.takes + self.late)
        failed = made.failure is not None
        body = {
            "code": 501 if failed else 200, "data": self._data(made),
            "msg": f"Playground task {'failed' if failed else 'completed successfully'}.",
        }  # fmt: skip
        if self.callbacks == "forged":
            address = f"{address.rpartition('/')[0]}/{secrets.token_urlsafe(24)}"
        if self.callbacks == "of another":
            body["data"]["taskId"] = secrets.token_hex(16)
        for _ in range(2 if self.callbacks == "twice" else 1):
            async with self._session.post(address, json=body) as answer:
                self.told.append((made.name, answer.status))

    async def _record(self, request: web.Request) -> web.Response:
        name = request.query.get("taskId")
        if not name:
            fault = {"code": 400, "msg": "taskId parameter is required"}
            return web.json_response(fault)
        made = self.tasks.get(name)
        if made is None or self.unknown:
            return web.json_response({"code": 422, "msg": "recordInfo is null", "data": None})
        return web.json_response({"code": 200, "msg": "success", "data": self._data(made)})

    def _data(self, made: Made) -> dict[str, Any]:
        asked = {key: value for key, value in made.asked.items() if key != "said"}
        code, words = made.failure or ("", "")
        over = made.state in ("success", "fail")
        data = {
            "taskId": made.name, "model": made.asked["model"], "state": made.state,
            "param": json.dumps(asked), "resultJson": "", "failCode": "", "failMsg": "",
            "costTime": round(made.takes * 1000) if over else None,
            "createTime": round(time.time() * 1000),
            "completeTime": round(time.time() * 1000) if over else None,
        }  # fmt: skip
        if made.state == "fail":
            data |= {"failCode": code, "failMsg": words, "resultJson": None}
        if made.state == "success":
            data["resultJson"] = json.dumps({"resultUrls": made.addresses})
        return data | self.garbled

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(dict(request.headers))
        made = self.tasks.get(request.match_info["name"].partition("-")[0])
        if made is None or time.monotonic() > made.since + made.takes + self.lives:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        said = f"{made.asked['said']} {request.query['said']}"
        return web.Response(body=picture(said, (96, 64), "JPEG"), content_type="image/jpeg")


def _fault(given: Any) -> str:
    """What is wrong with what a task is asked for with, in their words."""
    if not isinstance(given, dict) or not isinstance(given.get("input"), dict):
        return "The input cannot be null"
    if set(given) - {"model", "input", "callBackUrl"}:
        return "unexpected fields"
    told = given["input"]
    if given.get("model") != "seedream/4.5-text-to-image":
        return "The model name you specified is not supported"
    if set(told) != {"prompt", "aspect_ratio", "quality"}:
        return "The input has other fields than the model"
    if not isinstance(told["prompt"], str) or not 0 < len(told["prompt"]) <= 3000:
        return "The prompt has at most 3000 characters"
    if told["aspect_ratio"] not in RATIOS:
        return "aspect_ratio is not within the range of allowed options"
    if told["quality"] not in ("basic", "high"):
        return "quality is not within the range of allowed options"
    if not str(given.get("callBackUrl", "http")).startswith("http"):
        return "callBackUrl is no address"
    return ""
