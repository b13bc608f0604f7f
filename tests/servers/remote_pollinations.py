"""Pollinations on loopback, as its public documentation has it (APIDOCS.md): pictures by GET."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.servers.remote import RemoteServer, picture

MODELS = ("flux", "turbo", "gptimage", "kontext")
# It draws no more pixels than this, and says nothing of it.
MOST_PIXELS = 1024 * 1024


class PollinationsServer(RemoteServer):
    engine = "pollinations"
    source = "pollinations:flux"

    def __init__(self) -> None:
        super().__init__()
        # What its next pictures meet instead: a status and a body.
        self.refusals: list[tuple[int, Any]] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/prompt/{prompt:.+}", self._draw), web.get("/models", self._models)]

    def settings(self) -> dict[str, str]:
        return {"POLLINATIONS_BASE_URL": self.address, "POLLINATIONS_TOKEN": self.key}

    def refusal(self, status: int) -> Any:
        name = {400: "Bad Request", 401: "Unauthorized", 402: "Payment Required",
                429: "Too Many Requests"}.get(status, "Internal Server Error")  # fmt: skip
        return {
            "error": name, "message": f"refused with {status}", "requestId": "sant3k",
            "requestParameters": {}, "queueInfo": None,
        }  # fmt: skip

    def heard(self, call: tuple[str, str, Any]) -> str:
        path = call[1].partition("?")[0]
        return unquote(path.removeprefix("/prompt/")) if path.startswith("/prompt/") else ""

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response(list(MODELS))

    async def _draw(self, request: web.Request) -> web.Response:
        if self.refusals:
            status, body = self.refusals.pop(0)
            return web.json_response(body, status=status)
        if "/" in request.rel_url.raw_path.removeprefix("/prompt/"):
            return web.json_response({"error": "Not Found"}, status=404)
        given = request.query
        # What it does not know it draws with its usual model.
        model = given.get("model") if given.get("model") in MODELS else "flux"
        size = (_number(given.get("width"), 1024), _number(given.get("height"), 1024))
        if (pixels := size[0] * size[1]) > MOST_PIXELS:
            share = (MOST_PIXELS / pixels) ** 0.5
            size = (int(size[0] * share), int(size[1] * share))
        said = f"{request.match_info['prompt']}|{_number(given.get('seed'), 42)}|{model}"
        return web.Response(body=picture(said, size, "JPEG"), content_type="image/jpeg")


def _number(text: str | None, usual: int) -> int:
    return int(text) if text and text.isdigit() else usual
