"""What asks engines on other machines, from many threads: drawings are begun, fetched and sealed,
words are passed on as they come."""

import io
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from core import catalog
from core.database import patiently
from core.engine import (
    MARK,
    UNCHECKED,
    AskDifferently,
    Deferred,
    EngineError,
    Remote,
    Say,
    Stopped,
    Task,
    TransientError,
    Turn,
    Writer,
)
from core.errors import report
from core.house import House
from core.languages import tr
from core.options import Mode, Request
from core.providers import PROVIDERS
from core.rows import Generation
from core.settings import Safety, read
from core.uploads import flat, upright
from worker import engines, frames, previews, tasks
from worker.finishing import DATABASE_SECONDS, Drawing, Heart, finish
from worker.hands import PLACE
from worker.warm import WarmEngine

if TYPE_CHECKING:
    from PIL.Image import Image

    from core.catalog import Model

# Decoding and sealing takes memory, and a core: so many pictures at once.
AT_ONCE = max(2, os.cpu_count() or 2)
# How often Redis is asked whether to stop what tells no progress.
STOP_SECONDS = 1.0
# What a classifier is shown of a picture, in pixels a side: none looks at more.
LOOKED_AT = 768


class Branch:
    """The engines on other machines, and what becomes of what they answer."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._making = threading.Lock()
        self._made: dict[str, Remote] = {}
        self._writers: dict[str, Writer] = {}
        self._sealing = threading.Semaphore(AT_ONCE)
        # Looks at what came, where the host has that done: on this machine, in its own process.
        self._looking = threading.Lock()
        self._eyes = WarmEngine(read(Safety).device, 0, 0)

    def draw(self, claimed: Generation, heart: Heart, begun: float) -> None:
        """Have a drawing made, or let another machine take it on. Raises EngineError."""
        model, request = tasks.model_of(claimed), claimed.request
        pictures = opened(tasks.stored_pictures(claimed))
        if request.mode == Mode.UPSCALE:
            if request.upscaler != catalog.LANCZOS:
                raise AskDifferently(catalog.gone_upscaler(request.upscaler))
            images = [frames.enlarged(pictures[request.sources[0]], request)]
            self._finish(claimed, model, images, begun, heart)
            return
        engine: Any = self.engine(model.engine)
        told = report_of(claimed)
        if hasattr(engine, "begin"):
            self._begin(engine, claimed, model, told, pictures)
            heart.stop()
            return
        show = None
        if previews.wanted() and not read(Safety).classifier:
            keep = tasks.shows(claimed)
            show = lambda preview: keep(previews.encoded(preview))  # noqa: E731
        images = engine.draw(model, request, told, pictures, show)
        self._finish(claimed, model, images, begun, heart)

    def _begin(
        self, engine: Deferred, claimed: Generation, model: "Model", told: Any,
        pictures: "Mapping[str, Image]",
    ) -> None:  # fmt: skip
        elsewhere = self._house.elsewhere
        announce = partial(elsewhere.announce, claimed, model.engine)
        callback = patiently(announce, DATABASE_SECONDS)
        if callback is None:
            raise Stopped
        task = engine.begin(model, claimed.request, told, callback, pictures)
        patiently(partial(elsewhere.hand_out, claimed, task), DATABASE_SECONDS)
        if claimed.job in tasks.Studio.stopped:
            # What was taken on by then is noted.
            raise Stopped

    def fetch(self, waiting: Generation, heart: Heart, begun: float) -> None:
        """Fetch a drawing that another machine has taken on, where it is done. Raises
        EngineError."""
        model, elsewhere = tasks.model_of(waiting), self._house.elsewhere
        task = waiting.task or {}
        engine: Any = self.engine(model.engine)
        if not task.get("name") and not task.get("news"):
            # Nobody knows what it is called, and nobody sent word of it.
            raise TransientError(tr("{engine} lost this.", engine=PROVIDERS[model.engine].title))
        found = engine.collect(
            model, waiting.request, report_of(waiting), str(task.get("name", "")), task.get("news")
        )
        if isinstance(found, Task):
            ask_again = partial(elsewhere.ask_again, waiting, found.again, found=found, stale=True)
            patiently(ask_again, DATABASE_SECONDS)
            if elsewhere.too_late(waiting):
                raise TransientError(
                    tr("{engine} took too long to answer.", engine=PROVIDERS[model.engine].title)
                )
            heart.stop()
            return
        since = waiting.started.timestamp() if waiting.started else time.time()
        self._finish(waiting, model, found, time.monotonic() - (time.time() - since), heart)

    def write(
        self, model: "Model", request: Request, say: Say, talk: Sequence[Turn],
        pictures: Mapping[str, bytes],
    ) -> str:  # fmt: skip
        """What a model elsewhere writes. Raises EngineError."""
        return self.writer(model.engine).write(model, request, say, talk, opened(pictures))

    def ready(self, name: str) -> None:
        """Make an engine, and what writes there, before the first job."""
        if PROVIDERS[name].draws:
            self.engine(name)
        if PROVIDERS[name].writes:
            self.writer(name)

    def engine(self, name: str) -> Remote:
        """The engine of that name, made once."""
        with self._making:
            if name not in self._made:
                self._made[name] = engines.remote(name)
            return self._made[name]

    def writer(self, name: str) -> Writer:
        """What writes there, made once."""
        with self._making:
            if name not in self._writers:
                from worker.engines import chat

                self._writers[name] = chat.writer(name)
            return self._writers[name]

    def close(self) -> None:
        """Let go of connections and of who looks."""
        for engine in self._made.values():
            engine.close()
        self._eyes.kill()

    def _finish(
        self, claimed: Generation, model: "Model", images: "Sequence[Image]", begun: float,
        heart: Heart,
    ) -> None:  # fmt: skip
        """Decode, look at, seal and note what came, few at a time. Raises EngineError."""
        seconds = time.monotonic() - begun
        wanted, title = claimed.request.count, PROVIDERS[model.engine].title
        if len(images) < wanted:
            raise TransientError(tr("{engine} answered without a picture.", engine=title))
        # The other machine is asked for the next one meanwhile.
        if place := PLACE.get():
            place.step_back()
        with self._sealing:
            whole = []
            for image in images[:wanted]:
                try:
                    image.load()
                    whole.append(upright(image))
                except Exception as error:  # Decoders meet broken files with whatever they have.
                    fault = report(f"a picture of {title} could not be read", error)
                    raise TransientError(
                        tr("{engine} sent a damaged picture. (fault {fault})",
                           engine=title, fault=fault)
                    ) from None  # fmt: skip
                finally:
                    image.close()
            self._mark(model, whole)
            finish(self._house, Drawing(claimed, model, whole, seconds, heart))
        heart.stop()

    def _mark(self, model: "Model", images: "Sequence[Image]") -> None:
        """Note on each picture whether it is for everybody, where the host has that looked at."""
        for image in images:
            image.info = {}
        if not read(Safety).classifier:
            return
        try:
            with self._looking:
                seen = self._eyes.look(model, [_small(image) for image in images])
            marks = [one.info.get(MARK) for one in seen]
        except EngineError as error:
            report("pictures of other machines could not be looked at", error)
            marks = [UNCHECKED] * len(images)
        for image, mark in zip(images, marks, strict=True):
            if mark:
                image.info[MARK] = mark


def opened(pictures: Mapping[str, bytes]) -> "dict[str, Image]":
    """Stored pictures, decoded, by their keys."""
    from PIL import Image

    found = {key: Image.open(io.BytesIO(data)) for key, data in pictures.items()}
    for image in found.values():
        image.load()
    return dict(found)


def report_of(claimed: Generation) -> Any:
    """What an engine tells how far it is."""
    # Who claimed it has just said that it is alive.
    beat, asked = tasks.beats(claimed), time.monotonic()

    def told(share: float, words: str = "") -> bool:
        nonlocal asked
        moment = time.monotonic()
        # As long as nobody knows how far it is, there is but a stop to hear of.
        if not share and not words and moment - asked < STOP_SECONDS:
            return not tasks.halted(claimed)
        asked = moment
        return beat(share, words)

    return told


def _small(image: "Image") -> bytes:
    seen = flat(image, "white")
    seen.thumbnail((LOOKED_AT, LOOKED_AT))
    out = io.BytesIO()
    seen.save(out, "JPEG", quality=90)
    return out.getvalue()
