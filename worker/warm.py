"""One engine process that keeps its pipelines warm, and the parent's end of it.

The parent knows no torch: a crash, an endless loop or a leak in a drawing takes this process
along and nothing else. It dies with its parent.
"""

import io
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from core import engine, offers
from core.catalog import Model
from core.engine import EngineError, Say, Stopped, TransientError, Turn
from core.errors import report as report_fault
from core.languages import speak, spoken, tr
from core.offers import Offer
from core.options import Mode, Request
from core.supervisor import end_with_parent

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("drawqueue")

STOP_GRACE_SECONDS = 20


# Told the share drawn (None: the engine lives) and words for the asker; answers whether to go on.
Beat = Callable[[float | None, str], bool]
# Given previews, encoded.
ShowPreview = Callable[[bytes], None]


@dataclass(frozen=True)
class Work:
    """What the child is asked to do."""

    model: Model
    request: Request | None
    # What the request begins with: stored pictures by their keys.
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    # What was said before, where words are asked for, the asker's own last.
    talk: tuple[Turn, ...] = ()
    # Whether the pictures are but to be looked at, for marks.
    looks: bool = False
    # What moderators have on offer, which this process reads nowhere.
    offers: tuple[Offer, ...] = field(default_factory=offers.told)
    # The language of whom it is for.
    language: str = field(default_factory=spoken)


def _child(pipe: Connection, parent: int, device: str, threads: int, memory_gb: float) -> None:
    # Elsewhere than on Linux the pipe's end does that.
    end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # Ctrl-C reaches the whole group; the parent decides what becomes of the drawing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    from worker import engines, previews
    from worker.safety import Inspector

    inspector = Inspector(device)
    made: dict[str, Any] = {}
    # What the sources of models are called.
    names: dict[str, str] = {}

    def answer(kind: str, value: object) -> None:
        # The parent listens no longer than until the answer.
        held = {names[source] for one in made.values() for source in one.held if source in names}
        pipe.send(("held", held))
        pipe.send((kind, value))

    while True:
        try:
            work = pipe.recv()
        except EOFError:
            return
        if not isinstance(work, Work):
            continue  # A stop that came when the drawing was over already.
        offers.show(work.offers)
        speak(work.language)
        try:
            pictures = {key: _opened(data) for key, data in work.pictures.items()}
            if work.looks:
                answer("done", inspector.marked(work.model, list(pictures.values())))
                continue
            if work.model.engine not in made:
                made[work.model.engine] = engines.make(
                    work.model.engine, device, threads, memory_gb
                )
            artist = made[work.model.engine]
            names[work.model.source] = work.model.name
            if work.request is None or work.request.mode != Mode.UPSCALE:
                begun = time.monotonic()
                fresh = work.model.source not in artist.held
                artist.load(work.model, lambda name, share: pipe.send(("loading", (name, share))))
                if fresh:
                    pipe.send(("loaded", time.monotonic() - begun))
            if work.request is None:
                inspector.load(work.model)
                answer("done", [])
                continue

            def on() -> bool:
                # A stop is the only thing the parent says while a drawing runs.
                if pipe.poll():
                    pipe.recv()
                    return False
                return True

            def report(share: float, words: str = "") -> bool:
                pipe.send(("progress", (share, words)))
                return on()

            def say(words: str) -> bool:
                pipe.send(("said", words))
                return on()

            def show(preview: "Image") -> None:
                pipe.send(("preview", previews.encoded(preview)))

            if work.talk:
                told = artist.write(work.model, work.request, say, work.talk, pictures)
                answer("done", told)
                continue
            # What is looked at before anybody sees it is not shown before.
            seen = show if previews.wanted() and not inspector.active(work.model) else None
            drawn = artist.draw(work.model, work.request, report, pictures, seen)
            answer("done", inspector.marked(work.model, drawn))
        except EngineError as error:
            answer("error", error)
        except MemoryError as error:
            fault = report_fault("out of memory", error)
            words = tr(
                "This machine ran out of memory. Ask for a smaller picture. (fault {fault})",
                fault=fault,
            )
            answer("error", engine.AskDifferently(words))
        except Exception as error:  # A bug of an engine must not end the warm process.
            fault = report_fault("the engine failed", error)
            words = tr("Something went wrong while drawing. (fault {fault})", fault=fault)
            answer("error", engine.GiveUp(words))


def _opened(data: bytes) -> "Image":
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    image.load()
    return image


class WarmEngine:
    """The parent's end: starts the engine process when needed, and talks to it."""

    def __init__(self, device: str, threads: int, memory_gb: float) -> None:
        self._settings = (device, threads, memory_gb)
        self._process: Any = None
        self._pipe: Connection | None = None
        # The models that are loaded, by name.
        self.held: frozenset[str] = frozenset()
        # The seconds of the last drawing in which its model was loaded.
        self.loading = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _ready(self) -> Connection:
        if self._pipe and self._process.is_alive():
            return self._pipe
        self.kill()
        # Spawned, not forked: CUDA forbids fork after it was initialised, and threads run here.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_child, args=(theirs, os.getpid(), *self._settings), daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def load(self, model: Model, report: Callable[[str, float], None]) -> None:
        """Load a model ahead of the first drawing. Raises EngineError."""
        self._talk(Work(model, None), lambda _share, _words: True, report)

    def draw(
        self, model: Model, request: Request, beat: Beat,
        pictures: Mapping[str, bytes] = engine.NOTHING, show: ShowPreview = lambda _preview: None,
    ) -> "list[Image]":  # fmt: skip
        """Draw; `beat` hears the share at each step (None: still there) and says whether to go on.

        `pictures` are PNGs by their keys; `show` is given previews. Raises EngineError;
        TransientError when the process died.
        """
        work = Work(model, request, dict(pictures))
        return list(self._talk(work, beat, lambda _name, _share: None, show))

    def write(
        self, model: Model, request: Request, say: Say, beat: Beat, talk: Sequence[Turn],
        pictures: Mapping[str, bytes] = engine.NOTHING,
        loading: Callable[[str, float], None] = lambda _name, _share: None,
    ) -> str:  # fmt: skip
        """Write the answer to a talk; `say` hears it grow, `beat` that the engine lives, and either
        may stop it; `loading` is told what is loaded first. Raises EngineError, as `draw` does."""
        work = Work(model, request, dict(pictures), tuple(talk))
        return str(self._talk(work, beat, loading, say=say))

    def look(self, model: Model, pictures: Sequence[bytes]) -> "list[Image]":
        """The pictures that another machine drew, with their marks. Raises EngineError."""
        named = {str(place): one for place, one in enumerate(pictures)}
        work = Work(model, None, named, looks=True)
        return list(self._talk(work, lambda _share, _words: True, lambda _name, _share: None))

    def _talk(
        self, work: Work, beat: Beat, loading: Callable[[str, float], None],
        show: ShowPreview = lambda _preview: None, say: Say = lambda _words: True,
    ) -> Any:  # fmt: skip
        pipe = self._ready()
        stopping = self.loading = 0.0
        try:
            pipe.send(work)
            while True:
                share, words = None, ""
                if pipe.poll(1.0):
                    kind, value = pipe.recv()
                    if kind == "done":
                        return value
                    if kind == "said" and not stopping and not say(value):
                        pipe.send("stop")
                        stopping = 1.0
                    if kind == "error":
                        if value.spent:
                            self.kill()
                        raise value
                    if kind == "loading":
                        loading(*value)
                    if kind == "loaded":
                        self.loading = value
                    if kind == "held":
                        self.held = frozenset(value)
                    if kind == "preview" and not stopping:
                        show(value)
                    if kind == "progress":
                        share, words = value
                elif stopping:
                    stopping += 1.0
                if not stopping and not beat(share, words):
                    pipe.send("stop")
                    stopping = 1.0
                if stopping > STOP_GRACE_SECONDS:
                    self.kill()
                    raise Stopped
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            code = None
            if self._process:
                self._process.join(5)
                code = self._process.exitcode
            self.kill()
            log.warning("the engine process died (exit %s); the next drawing starts another", code)
            raise TransientError(tr("The engine crashed while drawing this.")) from error
        except EngineError:
            raise
        except BaseException:
            # A time-out or shutdown struck mid-drawing: the answer under way belongs to nobody.
            self.abandon()
            raise

    def abandon(self) -> None:
        """Stop the drawing under way, keeping the process warm when it answers soon."""
        if self._pipe is None:
            return
        try:
            self._pipe.send("stop")
            waited = 0.0
            while waited < STOP_GRACE_SECONDS:
                if self._pipe.poll(0.5):
                    kind, value = self._pipe.recv()
                    if kind == "held":
                        self.held = frozenset(value)
                    if kind in ("done", "error"):
                        return
                else:
                    waited += 0.5
        except (EOFError, OSError):
            pass
        self.kill()

    def end(self) -> None:
        """End the engine process from another thread: whoever talks to it hears of it."""
        if self._process:
            self._process.kill()

    def kill(self) -> None:
        """End the engine process now."""
        if self._process and self._process.is_alive():
            self._process.kill()
            self._process.join(5)
        if self._pipe:
            self._pipe.close()
        self._pipe = self._process = None
        self.held = frozenset()
