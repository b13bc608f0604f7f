"""Chutes' images on loopback: POST /generate with flat JSON, as its public documentation has it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.servers.remote import RemoteServer, picture

MODELS = ("qwen-image", "FLUX.1-dev", "JuggernautXL", "chroma")
# The fields, and between what their numbers lie.
FIELDS: dict[str, tuple[type, float, float]] = {
    "prompt": (str, 0, 0), "negative_prompt": (str, 0, 0), "model": (str, 0, 0),
    "width": (int, 128, 2048), "height": (int, 128, 2048), "num_inference_steps": (int, 1, 100),
    "guidance_scale": (float, 0, 20), "seed": (int, 0, 2**32 - 1),
}  # fmt: skip


class ChutesServer(RemoteServer):
    engine = "chutes"
    source = "chutes:qwen-image"

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/generate", self._draw)]

    def settings(self) -> dict[str, str]:
        return {"CHUTES_BASE_URL": self.address, "CHUTES_API_TOKEN": self.key}

    def refusal(self, status: int) -> Any:
        if status == 402:
            return {"detail": {"message": "Quota exceeded and account balance is $0.0, please pay"}}
        if status == 429:
            return {"detail": "Infrastructure is at maximum capacity, try again later"}
        return {"detail": f"refused with {status}"}

    def heard(self, call: tuple[str, str, Any]) -> str:
        return str(call[2]["prompt"])

    async def _draw(self, request: web.Request) -> web.Response:
        given = await request.json()
        if faults := [*_faults(given)]:
            return web.json_response({"detail": faults}, status=422)
        if given["model"] not in MODELS:
            return web.json_response({"detail": "No matching chute found!"}, status=404)
        said = f"{sorted(given.items())}"
        body = picture(said, (given.get("width", 1024), given.get("height", 1024)), "JPEG")
        return web.Response(body=body, content_type="image/jpeg")


def _faults(given: dict[str, Any]) -> list[dict[str, Any]]:
    found = [
        {"loc": ["body", name], "msg": "Field required", "type": "missing"}
        for name in ("model", "prompt")
        if name not in given
    ]
    for name, value in given.items():
        if name not in FIELDS:
            found.append(
                {"loc": ["body", name], "msg": "Extra inputs are not permitted", "type": "extra"}
            )
            continue
        kind, least, most = FIELDS[name]
        right = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
        if not right or (kind is not str and not least <= value <= most):
            told = f"Input should be from {least:g} to {most:g}" if most else "Input should be text"
            found.append({"loc": ["body", name], "msg": told, "type": "range"})
    return found
