"""OpenAI's images on loopback, and a LocalAI beside them, as their public references have them."""

from __future__ import annotations

import base64
import io
from typing import Any

from aiohttp import web
from PIL import Image

from tests.servers.remote import RemoteServer, parts_of, picture, said_in

THREE = ("1024x1024", "1536x1024", "1024x1536")
SIZES = {
    "gpt-image-1": THREE,
    "dall-e-3": ("1024x1024", "1792x1024", "1024x1792"),
    "dall-e-2": ("256x256", "512x512", "1024x1024"),
}
FIELDS = {"model", "prompt", "n", "size", "quality", "background", "moderation", "user"}
# What one model takes and others refuse.
EXTRA = {
    "gpt-image-1": {"output_format", "output_compression"},
    "dall-e-3": {"response_format", "style"},
    "dall-e-2": {"response_format"},
}
AT_HOME = "stablediffusion"


class OpenAIServer(RemoteServer):
    engine = "openai"
    source = "openai:gpt-image-1"

    def __init__(self) -> None:
        super().__init__()
        # What its next pictures meet instead: a status and the code of an error.
        self.refusals: list[tuple[int, str]] = []
        # Whether the server at home sends addresses, and how many pictures it sends at most.
        self.addresses, self.most = False, 10
        self.fetched: list[dict[str, str]] = []
        # The forms that came, by their fields' names.
        self.forms: list[dict[str, list[tuple[str, bytes]]]] = []

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/images/generations", self._draw),
            web.post("/v1/images/edits", self._edit),
            web.get("/generated-images/{name}.png", self._file),
        ]

    def settings(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": f"{self.address}/v1", "OPENAI_API_KEY": self.key}

    def allowed(self, request: web.Request) -> bool:
        return request.path.startswith("/generated-images/") or super().allowed(request)

    def refusal(self, status: int) -> Any:
        kinds = {402: "billing", 429: "rate_limit_exceeded", 401: "invalid_api_key"}
        return _error(f"refused with {status}", kinds.get(status))

    def heard(self, call: tuple[str, str, Any]) -> str:
        return str(call[2]["prompt"]) if isinstance(call[2], dict) else said_in(call[2])

    async def _draw(self, request: web.Request) -> web.Response:
        given = await request.json()
        model = given.get("model")
        if self.refusals:
            return self._refused()
        if model == AT_HOME:
            return self._at_home(given)
        if fault := _fault(model, given):
            return web.json_response(fault, status=404 if "does not exist" in str(fault) else 400)
        if model == "dall-e-3" and given.get("n", 1) != 1:
            return _no("You must provide n=1 for this model.", "n")
        size = _sides(given["size"])
        drawn = [picture(f"{given['prompt']}|{one}", size) for one in range(given.get("n", 1))]
        if model != "gpt-image-1" and given.get("response_format", "url") == "url":
            return self._answer([{"url": f"{self.address}/generated-images/a.png"} for _ in drawn])
        return self._answer([{"b64_json": base64.b64encode(one).decode()} for one in drawn])

    def _at_home(self, given: dict[str, Any]) -> web.Response:
        """LocalAI: any size, and whatever else one says; pictures, or where they lie."""
        number = min(given.get("n", 1), self.most)
        width, height = _sides(given["size"])
        said = [f"{given['prompt']}|{given.get('seed')}|{one}" for one in range(number)]
        if self.addresses:
            where = f"{self.address}/generated-images/{width}x{height}.png"
            return self._answer([{"url": where} for _ in said])
        pictures = [picture(one, (width, height)) for one in said]
        return self._answer([{"b64_json": base64.b64encode(one).decode()} for one in pictures])

    async def _edit(self, request: web.Request) -> web.Response:
        if self.refusals:
            return self._refused()
        form = parts_of(await request.read(), request.headers["content-type"])
        self.forms.append(form)
        images = ("image", "image[]", "mask")
        given: dict[str, Any] = {
            name: parts[0][1].decode() for name, parts in form.items() if name not in images
        }
        given["n"] = int(given.get("n", "1"))
        model = given.get("model")
        if model not in ("gpt-image-1", "dall-e-2"):
            return _no("Value must be 'dall-e-2' or 'gpt-image-1'.", "model")
        if fault := _fault(model, given):
            return web.json_response(fault, status=400)
        sent = form.get("image[]" if model == "gpt-image-1" else "image")
        if not sent:
            return _no("Missing required parameter: 'image'.", "image")
        with Image.open(io.BytesIO(sent[0][1])) as image:
            image.load()
            if model == "dall-e-2" and (image.width != image.height or "mask" not in form):
                return _no("Uploaded image must be a square PNG with a mask.", "image")
            drawn = Image.new("RGB", _sides(given["size"]), "red")
            if "mask" in form:
                with Image.open(io.BytesIO(form["mask"][0][1])) as mask:
                    if mask.size != image.size or mask.format != "PNG" or mask.mode != "RGBA":
                        return _no("Invalid mask image format - mask size does not match.", "mask")
                    # What is opaque in the mask stays, nearly: the model draws all anew.
                    stays = mask.getchannel("A").resize(drawn.size)
                    kept = image.convert("RGB").resize(drawn.size).point(lambda value: value ^ 1)
                    drawn.paste(kept, (0, 0), stays)
        out = io.BytesIO()
        drawn.save(out, "PNG")
        every = [{"b64_json": base64.b64encode(out.getvalue()).decode()}] * given["n"]
        return self._answer(every)

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(dict(request.headers))
        width, height = _sides(request.match_info["name"])
        return web.Response(body=picture("a file", (width, height)), content_type="image/png")

    def _refused(self) -> web.Response:
        status, code = self.refusals.pop(0)
        return web.json_response(_error("Your request was rejected: req_1.", code), status=status)

    def _answer(self, data: list[dict[str, str]]) -> web.Response:
        return web.json_response({"created": 1_713_833_628, "data": data, "usage": {}})


def _fault(model: Any, given: dict[str, Any]) -> Any:
    if model not in SIZES:
        return _error(f"The model '{model}' does not exist.", "model_not_found")
    for name in given.keys() - FIELDS - EXTRA[model]:
        return _error(f"Unknown parameter: '{name}'.", "unknown_parameter", name)
    if not given.get("prompt"):
        return _error("Missing required parameter: 'prompt'.", "missing_required_parameter")
    if given.get("size") not in SIZES[model]:
        told = f"Invalid value: '{given.get('size')}'. Supported values are: {SIZES[model]}."
        return _error(told, "invalid_value", "size")
    if not 1 <= given.get("n", 1) <= 10:
        return _error("Invalid 'n': expected a value <= 10.", "integer_above_max_value", "n")
    return None


def _sides(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height or width)


def _error(words: str, code: str | None, param: str | None = None) -> Any:
    kind = "image_generation_user_error" if code == "moderation_blocked" else (
        "insufficient_quota" if code == "insufficient_quota" else "invalid_request_error"
    )  # fmt: skip
    return {"error": {"message": words, "type": kind, "param": param, "code": code}}


def _no(words: str, param: str) -> web.Response:
    return web.json_response(_error(words, "invalid_value", param), status=400)
