"""Pollinations: one GET request is one picture, the prompt in its path.

As its public documentation has it (pollinations/pollinations: APIDOCS.md, image.pollinations.ai).
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from PIL.Image import Image

from core.catalog import Model
from core.engine import (
    NOTHING,
    AskDifferently,
    EngineError,
    Report,
    ShowPreview,
    Stopped,
    TransientError,
)
from core.languages import tr
from core.options import Request
from core.policy import policy
from core.providers import PROVIDERS, own_name
from worker.engines.calls import Caller, Calling, each

# What it says to who comes without a token while another such one is drawn, though its status asks
# for money; and what its own check of pictures says.
BUSY, UNSAFE = "queue full", ("nsfw", "content_policy_violation", "content moderation")


class Pollinations(Calling):
    """Draws with whatever Pollinations has, with a token or without."""

    def __init__(self) -> None:
        self.calls = Caller("pollinations", known=self._known)
        # The models that it lists; empty as long as nobody asked.
        self._listed: frozenset[str] = frozenset()

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image]:  # fmt: skip
        name = own_name(model.source)
        self._look_for(name, report)
        # A prompt of dots would be another path.
        path = f"/prompt/{quote(request.prompt, safe='').replace('.', '%2E')}"
        given = {
            "width": request.width, "height": request.height, "model": name,
            "nologo": "true", "private": "true",
        }  # fmt: skip
        if policy().marked.show.hides:
            given["safe"] = "true"

        def one(seed: int, share: Callable[[], float]) -> Image:
            return self.calls.picture(
                "GET", path, report, again=True, paid=True, share=share,
                params={**given, "seed": seed},
            )  # fmt: skip

        return each(request, report, one)

    def _look_for(self, name: str, report: Report) -> None:
        """Make sure that a model is there: of one that it does not know, it says nothing and draws
        with its usual one."""
        provider = PROVIDERS["pollinations"]
        if name == provider.usual:
            return
        if not self._listed:
            with contextlib.suppress(AskDifferently, TransientError):
                self._listed = _names(self.calls.json("GET", "/models", report, again=True))
        if not self._listed or name in self._listed:
            return
        if name not in provider.known:
            raise self.calls.refused(404, "")
        told = tr(
            "{engine} has no {model} at the moment: it draws with {usual}.",
            engine=provider.title, model=name, usual=provider.usual,
        )  # fmt: skip
        if not report(0.0, told):
            raise Stopped

    def _known(self, status: int, _headers: Mapping[str, str], told: Any) -> EngineError | None:
        said = str(told).lower() if told else ""
        if status == 402 and BUSY in said:
            return self.calls.refused(429, "")
        if status >= 400 and any(words in said for words in UNSAFE):
            return self.calls.forbidden()
        if status in (414, 431):
            return AskDifferently(
                tr("This prompt is too long for {engine}.", engine=PROVIDERS["pollinations"].title)
            )
        return None


def _names(listed: Any) -> frozenset[str]:
    """The models in a list of names, or of facts by name."""
    every = listed if isinstance(listed, list) else []
    return frozenset(
        str(one.get("name", one.get("id"))) if isinstance(one, dict) else str(one) for one in every
    )


def made() -> Pollinations:
    return Pollinations()
