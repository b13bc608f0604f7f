"""Stability AI's v2beta on loopback: forms in, pictures out, as its public reference has it."""

from __future__ import annotations

import io
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.remote import RemoteServer, parts_of, picture, said_in

SHAPES = ("16:9", "1:1", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21")
COMMON = {"prompt", "negative_prompt", "seed", "output_format", "aspect_ratio"}
KNOWN = {
    "core": COMMON | {"style_preset"},
    "ultra": COMMON | {"image", "strength"},
    "sd3": COMMON | {"image", "strength", "mode", "model", "cfg_scale"},
}
MODELS = ("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium")
NAMES = {
    400: "bad_request", 401: "unauthorized", 402: "payment_required", 403: "content_moderation",
    413: "payload_too_large", 429: "rate_limit_exceeded", 500: "internal_error",
}  # fmt: skip
MOST_BYTES = 10 * 2**20


class StabilityServer(RemoteServer):
    engine = "stability"
    source = "stability:core"

    def __init__(self) -> None:
        super().__init__()
        # Words that its check of what comes in, and of what goes out, finds.
        self.flagged, self.filtered = "forbidden fruit", "a blurred thing"
        # The forms that came, by their fields' names.
        self.forms: list[dict[str, list[tuple[str, bytes]]]] = []

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v2beta/stable-image/generate/{which:core|ultra|sd3}", self._draw)]

    def settings(self) -> dict[str, str]:
        return {"STABILITY_BASE_URL": self.address, "STABILITY_API_KEY": self.key}

    def refusal(self, status: int, words: str = "") -> Any:
        return {
            "id": "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4", "name": NAMES[status],
            "errors": [words or f"refused with {status}"],
        }  # fmt: skip

    def heard(self, call: tuple[str, str, Any]) -> str:
        return said_in(call[2])

    async def _draw(self, request: web.Request) -> web.Response:
        which = request.match_info["which"]
        if request.content_type != "multipart/form-data":
            return self._no(400, "content-type: must be multipart/form-data")
        if request.headers.get("accept") not in ("image/*", "application/json"):
            return self._no(400, "accept: must be image/* or application/json")
        body = await request.read()
        if len(body) > MOST_BYTES:
            return self._no(413, "payloads cannot be larger than 10MiB in size")
        form = parts_of(body, request.headers["content-type"])
        self.forms.append(form)
        if fault := _fault(which, form):
            return self._no(400, fault)
        said = form["prompt"][0][1].decode()
        if self.flagged in said:
            return self._no(403, "Your request was flagged by our content moderation system")
        size = _size(form)
        drawn = picture(f"{sorted(form)}|{said}|{form['seed']}", size)
        reason = "CONTENT_FILTERED" if self.filtered in said else "SUCCESS"
        return web.Response(
            body=drawn, content_type="image/png", headers={"finish-reason": reason, "seed": "1"}
        )

    def _no(self, status: int, words: str) -> web.Response:
        return web.json_response(self.refusal(status, words), status=status)


def _fault(which: str, form: dict[str, list[tuple[str, bytes]]]) -> str:
    text = {name: parts[0][1].decode() for name, parts in form.items() if name != "image"}
    for name in form.keys() - KNOWN[which]:
        return f"{name}: unrecognized field"
    if not 1 <= len(text.get("prompt", "")) <= 10_000:
        return "prompt: is required"
    if text.get("aspect_ratio", "1:1") not in SHAPES:
        return f"aspect_ratio: must be one of {', '.join(SHAPES)}"
    if not 0 <= int(text.get("seed", "0")) <= 4_294_967_294:
        return "seed: must be from 0 to 4294967294"
    if text.get("output_format", "png") not in ("png", "jpeg", "webp"):
        return "output_format: must be one of jpeg, png, webp"
    if text.get("model", MODELS[0]) not in MODELS:
        return f"model: must be one of {', '.join(MODELS)}"
    if not 1 <= float(text.get("cfg_scale", "1")) <= 10:
        return "cfg_scale: must be from 1 to 10"
    begins = which == "sd3" and text.get("mode") == "image-to-image"
    if (begins or "image" in form) and not ("image" in form and "strength" in form):
        return "image: and strength are required for image-to-image"
    if "image" in form and which == "sd3" and (not begins or "aspect_ratio" in form):
        return "mode: must be image-to-image, without an aspect_ratio"
    return ""


def _size(form: dict[str, list[tuple[str, bytes]]]) -> tuple[int, int]:
    """A megapixel or so in the shape that is wanted, here an eighth of it a side."""
    if "image" in form:
        with Image.open(io.BytesIO(form["image"][0][1])) as image:
            return image.size
    across, down = map(int, form["aspect_ratio"][0][1].decode().split(":"))
    return round(128 * (across / down) ** 0.5), round(128 * (down / across) ** 0.5)
