"""Stability AI: a form with a prompt, a shape and perhaps a picture; the answer is a picture.

As its public documentation has it (platform.stability.ai/docs/api-reference, v2beta, Generate).
"""

import io
from collections.abc import Callable, Mapping
from math import log
from typing import Any

from PIL.Image import Image

from core.catalog import Model
from core.engine import NOTHING, EngineError, Report, ShowPreview
from core.options import Mode, Request
from core.providers import own_name, provider
from worker import frames
from worker.engines.calls import Caller, Calling, each

PATH = "/v2beta/stable-image/generate"
# What has a path of its own; any other is a model of the path of Stable Diffusion 3.
ALONE = ("core", "ultra")
SD3 = "sd3"
SHAPES = ((16, 9), (1, 1), (21, 9), (2, 3), (3, 2), (4, 5), (5, 4), (9, 16), (9, 21))
# 0 would be any seed, and there is none above.
LARGEST_SEED = 4_294_967_294
# A request has at most 10 MiB, and is not only a picture.
MOST_BYTES = 9 * 2**20
# Who asks too often is not heard for so long.
PAUSE_SECONDS = 60.0


class Stability(Calling):
    """Draws with Stability's models, or with a server that speaks as Stability does."""

    def __init__(self) -> None:
        self.calls = Caller("stability", known=self._known)

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image]:  # fmt: skip
        name = own_name(model.source)
        path = f"{PATH}/{name if name in ALONE else SD3}"
        form = _form(name, request, pictures)

        def one(seed: int, share: Callable[[], float]) -> Image:
            return self.calls.picture(
                "POST", path, report, paid=True, share=share, headers={"Accept": "image/*"},
                files=[*form, ("seed", (None, str(1 + (seed - 1) % LARGEST_SEED)))],
            )  # fmt: skip

        return each(request, report, one)

    def _known(self, status: int, headers: Mapping[str, str], told: Any) -> EngineError | None:
        name = told.get("name") if isinstance(told, dict) else None
        # What its check of pictures hides comes blurred.
        filtered = headers.get("finish-reason") == "CONTENT_FILTERED"
        if filtered or (status == 403 and name == "content_moderation"):
            return self.calls.forbidden()
        if status == 429 and "retry-after" not in headers:
            return self.calls.refused(429, "", PAUSE_SECONDS)
        return None


def _form(
    name: str, request: Request, pictures: Mapping[str, Image]
) -> list[tuple[str, tuple[Any, ...]]]:
    """The fields of a form, but the seed."""
    lacks = provider("stability", name).lacks
    fields: dict[str, str] = {"prompt": request.prompt, "output_format": "png"}
    if request.negative_prompt and "negative_prompt" not in lacks:
        fields["negative_prompt"] = request.negative_prompt
    if "guidance" not in lacks:
        fields["cfg_scale"] = f"{request.guidance:g}"
    if name not in (*ALONE, SD3):
        fields["model"] = name
    files: list[tuple[str, tuple[Any, ...]]] = []
    if request.mode == Mode.REMIX:
        fields["strength"] = f"{request.strength:g}"
        files = [("image", _sent(frames.laid(request, pictures).image))]
    if name not in ALONE:
        fields["mode"] = "image-to-image" if files else "text-to-image"
    if not files:
        across, down = min(
            SHAPES, key=lambda one: abs(log(one[0] / one[1] * request.height / request.width))
        )
        fields["aspect_ratio"] = f"{across}:{down}"
    return [*((key, (None, value)) for key, value in fields.items()), *files]


def _sent(image: Image) -> tuple[str, bytes, str]:
    """A picture as a form's file, as small as it must be."""
    for kind, how in (("PNG", {}), ("JPEG", {"quality": 95}), ("JPEG", {"quality": 80})):
        out = io.BytesIO()
        image.save(out, kind, **how)
        if out.tell() <= MOST_BYTES:
            break
    return f"image.{kind.lower()}", out.getvalue(), f"image/{kind.lower()}"


def made() -> Stability:
    return Stability()
