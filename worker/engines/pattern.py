"""A deterministic engine that draws and writes without a model, for tests of everything else.

Words in the prompt steer it: `sleep:S` takes S seconds a step, or a word, `crash:segv` ends the
process, `fail:ask`, `fail:transient`, `fail:give-up`, `fail:bug` and `fail:oom` raise; what is
written has `words:N` words, and goes wrong in its middle.
"""

import hashlib
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from PIL import Image, ImageDraw

from core.catalog import Model
from core.engine import (
    NOTHING,
    AskDifferently,
    GiveUp,
    Report,
    Say,
    ShowPreview,
    Stopped,
    TransientError,
    Turn,
)
from core.languages import tr
from core.options import Mode, Request
from worker import frames, previews

STEP_SECONDS = 0.02
# So many words are written where nobody says, of these.
LENGTH = 12
VOCABULARY = (
    *("a", "lighthouse", "the", "sea", "grey", "waves", "old", "stone", "warm", "light", "in"),
    *("fog", "gulls", "over", "quiet", "water", "and", "slow", "red", "boats", "under", "clouds"),
)
_STEERING = re.compile(r"\s*\b(?:sleep|words|fail|crash):\S+")


class Pattern:
    """Draws coloured tiles that depend on the request alone, and writes words that do."""

    # Nothing is loaded, so whatever was asked for is there.
    held: Collection[str] = ("pattern",)

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        report(model.name, 1.0)

    def draw(
        self, model: Model, request: Request, report: Report,
        pictures: Mapping[str, Image.Image] = NOTHING, show: ShowPreview | None = None,
    ) -> list[Image.Image]:  # fmt: skip
        _misbehave(request.prompt)
        pause = _steered(request.prompt, "sleep", STEP_SECONDS)
        clock = previews.Clock()
        for step in range(request.passes):
            time.sleep(pause)
            share = (step + 1) / request.passes
            if not report(share):
                raise Stopped
            if show and clock.due(share):
                show(_unfinished(request, share))
                clock.made()
        if request.mode == Mode.UPSCALE:
            return [frames.enlarged(pictures[request.sources[0]], request)]
        tiles = [_tiles(request, seed) for seed in request.seeds]
        if request.style_strength:
            style = pictures[request.sources[-1]].convert("RGB").resize(tiles[0].size)
            tiles = [Image.blend(one, style, request.style_strength) for one in tiles]
        if not request.begun:
            return tiles
        frame = frames.laid(request, pictures)
        return [frame.kept(Image.blend(frame.image, one, request.strength)) for one in tiles]

    def write(
        self, model: Model, request: Request, say: Say, talk: Sequence[Turn],
        pictures: Mapping[str, Image.Image] = NOTHING,
    ) -> str:  # fmt: skip
        asked = talk[-1].words
        pause = _steered(asked, "sleep", STEP_SECONDS)
        words = _words(request, talk, pictures, int(_steered(asked, "words", LENGTH)))
        for number in range(len(words) + 1):
            if number == len(words) // 2:
                _misbehave(asked)
            if not say(" ".join(words[:number])):
                raise Stopped
            time.sleep(pause if number < len(words) else 0)
        return " ".join(words)


def _steered(prompt: str, by: str, usual: float) -> float:
    found = re.search(rf"{by}:([\d.]+)", prompt)
    return float(found[1]) if found else usual


def _words(
    request: Request, talk: Sequence[Turn], pictures: Mapping[str, Image.Image], number: int
) -> list[str]:  # fmt: skip
    """Which time it answers in this talk, what it is asked, and words that follow from all that."""
    shown = [pictures[key].tobytes() for key in request.sources]
    told = repr((request.seed, talk)).encode() + b"".join(shown)
    times = sum(turn.role == "user" for turn in talk)
    asked = _STEERING.sub("", talk[-1].words).split()
    chosen = (
        VOCABULARY[hashlib.sha256(told + str(place).encode()).digest()[0] % len(VOCABULARY)]
        for place in range(number)
    )
    return [f"({times})", *asked, *chosen][: max(1, number)]


def _misbehave(prompt: str) -> None:
    if "crash:segv" in prompt:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "fail:ask" in prompt:
        raise AskDifferently(tr("This pattern cannot be drawn. Ask for another."))
    if "fail:transient" in prompt:
        raise TransientError(tr("The pattern got stuck."))
    if "fail:give-up" in prompt:
        raise GiveUp(tr("The pattern engine is out of order."))
    if "fail:bug" in prompt:
        raise RuntimeError("a bug with a secret path")
    if "fail:oom" in prompt:
        raise MemoryError


def _unfinished(request: Request, share: float) -> Image.Image:
    """The tiles, the greyer the less of them is drawn."""
    small = [_tiles(request, seed).reduce(2) for seed in request.seeds]
    return previews.sheet(
        [Image.blend(Image.new("RGB", one.size, "grey"), one, share) for one in small]
    )


def _tiles(request: Request, seed: int) -> Image.Image:
    image = Image.new("RGB", (request.width, request.height))
    pen = ImageDraw.Draw(image)
    side = max(8, request.width // 8)
    for top in range(0, request.height, side):
        for left in range(0, request.width, side):
            told = f"{request.prompt}|{seed}|{left}|{top}".encode()
            colour = tuple(hashlib.sha256(told).digest()[:3])
            pen.rectangle((left, top, left + side, top + side), fill=colour)
    return image
