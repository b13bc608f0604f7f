"""OpenAI's images, and those of servers that speak as it does: LocalAI, vLLM, Ollama, …

As the public reference has it (platform.openai.com/docs/api-reference/images). OpenAI's own models
take no seed: what they draw cannot be drawn again, and a request's seeds say nothing of it. Others
are given one with each picture.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log
from typing import Any

from PIL import Image, ImageChops, ImageFilter

from core.catalog import Model
from core.engine import NOTHING, EngineError, Report, ShowPreview, Stopped, TransientError
from core.options import Mode, Request
from core.providers import own_name, provider
from worker import frames
from worker.engines.calls import Caller, Calling, each
from worker.frames import Frame

Size = tuple[int, int]
Box = tuple[int, int, int, int]

# By what their names begin with: the models that answer in base64 unasked and refuse to be asked.
UNASKED = ("gpt-image", "chatgpt-image")
# The sizes of models that draw but a few, and how many pictures one call may ask for.
_THREE = ((1024, 1024), (1536, 1024), (1024, 1536))
SIZES: Mapping[str, tuple[Size, ...]] = {
    "gpt-image-1": _THREE,
    "chatgpt-image": _THREE,
    "dall-e-3": ((1024, 1024), (1792, 1024), (1024, 1792)),
    "dall-e-2": ((256, 256), (512, 512), (1024, 1024)),
}
AT_ONCE = {"dall-e-3": 1}
MOST = 10
# Of models that draw other sizes than these: sides are multiples of it, and none is longer than so
# many of the other.
STEP, LONGEST = 16, 3
# What its codes mean, as a status.
MEANS = {"insufficient_quota": 402, "billing_hard_limit_reached": 402, "model_not_found": 404}
FORBIDDEN = ("moderation_blocked", "content_policy_violation", "content_filter")


class OpenAI(Calling):
    """Draws with OpenAI's models, or with a server that speaks as OpenAI does."""

    def __init__(self) -> None:
        self.calls = Caller("openai", known=self._known)

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image.Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        name = own_name(model.source)
        width, height = size = nearest(name, (request.width, request.height))
        fields: dict[str, Any] = {
            "model": name, "prompt": request.prompt, "size": f"{width}x{height}"
        }  # fmt: skip
        if not name.startswith(UNASKED):
            fields["response_format"] = "b64_json"
        if request.mode == Mode.INPAINT:
            frame = frames.laid(request, pictures)
            image, mask, box = _on_canvas(frame, size)
            sent = [(_field(name), image), ("mask", mask)]
            drawn = self._edited(fields, sent, request, report)
            return [frame.kept(_cut(one, size, box, frame.image.size)) for one in drawn]
        if request.mode == Mode.REMIX:
            frame = frames.laid(replace(request, width=width, height=height), pictures)
            return self._edited(fields, [(_field(name), frame.image)], request, report)
        if "seed" in provider("openai", name).lacks:
            most = AT_ONCE.get(name, MOST)
            return self._several(
                request, report, most, lambda number: {"json": {**fields, "n": number}}
            )

        def one(seed: int, share: Callable[[], float]) -> Image.Image:
            given = {"json": {**fields, "n": 1, "seed": seed}}
            return self._asked("/images/generations", report, share, given)[0]

        return each(request, report, one)

    def _edited(
        self, fields: Mapping[str, Any], sent: list[tuple[str, Image.Image]], request: Request,
        report: Report,
    ) -> list[Image.Image]:  # fmt: skip
        """Pictures drawn over others."""
        files = [(field, ("image.png", _png(image), "image/png")) for field, image in sent]
        return self._several(
            request, report, MOST,
            lambda number: {"data": {**fields, "n": str(number)}, "files": files},
            "/images/edits",
        )  # fmt: skip

    def _several(
        self, request: Request, report: Report, most: int,
        given: Callable[[int], dict[str, Any]], path: str = "/images/generations",
    ) -> list[Image.Image]:  # fmt: skip
        """As many pictures as a request wants, in as few calls as the model allows."""
        done: list[Image.Image] = []

        def share() -> float:
            return len(done) / request.count

        while len(done) < request.count:
            if done and not report(share()):
                raise Stopped
            number = min(most, request.count - len(done))
            done += self._asked(path, report, share, given(number))
        return done[: request.count]

    def _asked(
        self, path: str, report: Report, share: Callable[[], float], given: Mapping[str, Any]
    ) -> list[Image.Image]:
        """The pictures of one call: in its answer, or at addresses, which soon lead nowhere."""
        told = self.calls.json("POST", path, report, paid=True, share=share, apart=True, **given)
        data = told.get("data") if isinstance(told, dict) else None
        found = [one for one in data or () if isinstance(one, dict)]
        if not found:
            raise TransientError(self.calls.no_picture())
        return [
            self.calls.fetch(str(one["url"]), report)
            if one.get("url")
            else self.calls.decoded(one.get("b64_json"))
            for one in found
        ]

    def _known(self, _status: int, _headers: Mapping[str, str], told: Any) -> EngineError | None:
        error = told.get("error") if isinstance(told, dict) else None
        code = str(error.get("code") or error.get("type")) if isinstance(error, dict) else ""
        if code in FORBIDDEN:
            return self.calls.forbidden()
        if code in MEANS:
            return self.calls.refused(MEANS[code], "")
        return None


def nearest(name: str, wanted: Size) -> Size:
    """The size to ask a model for: of few the nearest in shape, then in area."""
    width, height = wanted
    few = next((sizes for begin, sizes in SIZES.items() if name.startswith(begin)), ())
    if few:
        return min(
            few,
            key=lambda one: (
                round(abs(log(one[0] * height / one[1] / width)), 3),
                abs(log(one[0] * one[1] / width / height)),
            ),
        )
    if not name.startswith(UNASKED):
        return wanted
    width, height = max(width, height / LONGEST), max(height, width / LONGEST)  # type: ignore[assignment]
    return round(width / STEP) * STEP, round(height / STEP) * STEP


def _field(name: str) -> str:
    """What the picture to begin with is called: some models take several."""
    return "image[]" if name.startswith(UNASKED) else "image"


def _on_canvas(frame: Frame, size: Size) -> tuple[Image.Image, Image.Image, Box]:
    """A frame in the middle of a canvas of the size that is drawn, the mask for it, whose painted
    parts are transparent, and where the frame lies."""
    assert frame.mask
    scale = min(size[0] / frame.image.width, size[1] / frame.image.height)
    inner = round(frame.image.width * scale), round(frame.image.height * scale)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    # Around it lies what looks like it: hard edges would be drawn on.
    canvas = frame.image.resize(size).filter(ImageFilter.GaussianBlur(min(size) / 16))
    canvas.paste(frame.image.resize(inner, Image.Resampling.LANCZOS), (left, top))
    stays = Image.new("L", size, 255)
    stays.paste(ImageChops.invert(frame.mask).resize(inner), (left, top))
    mask = Image.new("RGBA", size)
    mask.putalpha(stays.point(lambda value: 255 if value >= 128 else 0))
    return canvas, mask, (left, top, left + inner[0], top + inner[1])


def _cut(drawn: Image.Image, size: Size, box: Box, to: Size) -> Image.Image:
    """The part of a drawing that a frame's picture is, at the frame's size."""
    across, down = drawn.width / size[0], drawn.height / size[1]
    where = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    return drawn.convert("RGB").resize(to, Image.Resampling.LANCZOS, box=where)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def made() -> OpenAI:
    return OpenAI()
