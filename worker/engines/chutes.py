"""Chutes: a prompt and its options as flat JSON, a picture's bytes as the answer.

As its public documentation has it (chutes.ai/docs, the image endpoint /generate).
"""

from collections.abc import Callable, Mapping
from typing import Any

from PIL.Image import Image

from core.catalog import Model
from core.engine import NOTHING, Report, ShowPreview
from core.options import Request
from core.providers import own_name
from worker.engines.calls import Caller, Calling, each


class Chutes(Calling):
    """Draws with a model that somebody runs on Chutes."""

    def __init__(self) -> None:
        self.calls = Caller("chutes")

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image]:  # fmt: skip
        body: dict[str, Any] = {
            "model": own_name(model.source), "prompt": request.prompt, "width": request.width,
            "height": request.height, "num_inference_steps": request.steps,
            "guidance_scale": request.guidance,
        }  # fmt: skip
        if request.negative_prompt:
            body["negative_prompt"] = request.negative_prompt

        def one(seed: int, share: Callable[[], float]) -> Image:
            return self.calls.picture(
                "POST", "/generate", report, paid=True, share=share, json={**body, "seed": seed}
            )

        return each(request, report, one)


def made() -> Chutes:
    return Chutes()
