"""What becomes of a drawing while the engine is at the next one: sealed, stored, noted.

The GPU waits for no encoder, storage or database: one thread does this behind its back, a
drawing at a time. Its heart goes on beating, so that nobody takes the worker for dead.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from core import thumbnails
from core.catalog import Model, revision
from core.database import patiently
from core.engine import MARK
from core.errors import report
from core.house import House
from core.languages import speaking, tr
from core.policy import policy
from core.queue import ALIVE_SECONDS, WorkQueue
from core.receipts import Picture, sealed
from core.rows import Generation

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("drawqueue")

# Often enough that one beat may fail.
BEAT_EVERY_SECONDS = ALIVE_SECONDS / 3
# How long a storage or a database that is away is waited for, a finished drawing in hand.
STORE_PAUSES = (1.0, 5.0, 15.0)
DATABASE_SECONDS = 300.0


class Heart:
    """Says all the while that somebody works on an attempt, however long a storage takes.

    One thread does so for all attempts of the process.
    """

    _beating: "set[Heart]" = set()  # noqa: RUF012 - the process's own
    _lock = threading.Lock()
    _thread: threading.Thread | None = None

    def __init__(self, line: WorkQueue, claimed: Generation) -> None:
        self._line, self._claimed = line, claimed
        self._due = time.monotonic() + BEAT_EVERY_SECONDS
        with Heart._lock:
            Heart._beating.add(self)
            if Heart._thread is None:
                Heart._thread = threading.Thread(target=_beat, daemon=True, name="hearts")
                Heart._thread.start()

    def stop(self) -> None:
        with Heart._lock:
            Heart._beating.discard(self)

    @classmethod
    def due(cls) -> "list[Heart]":
        """Those that have been silent for as long as they may be."""
        with cls._lock:
            return [one for one in cls._beating if one._due <= time.monotonic()]

    def beat(self) -> None:
        """Say it once."""
        self._due = time.monotonic() + BEAT_EVERY_SECONDS
        # Redis away for a moment: keep drawing, the row decides at the end.
        with contextlib.suppress(RedisError):
            self._line.beat(self._claimed.id, self._claimed.attempt, None)


def _beat() -> None:
    while True:
        for heart in Heart.due():
            try:
                heart.beat()
            except Exception as error:  # One that fails must not silence the others.
                report("a heart did not beat", error)
        time.sleep(BEAT_EVERY_SECONDS / 20)


@dataclass(frozen=True)
class Drawing:
    """What an engine drew for an attempt, one image for each seed, and the seconds it took."""

    claimed: Generation
    model: Model
    images: "Sequence[Image]"
    seconds: float
    heart: Heart
    # What it cost, where who drew it says so.
    cost: float | None = None


class Finisher:
    """The thread that finishes drawings; one may be waiting while another is in hand."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._waiting: queue.Queue[Drawing] = queue.Queue(maxsize=1)
        threading.Thread(target=self._work, daemon=True, name="finisher").start()

    def take(self, drawing: Drawing) -> None:
        """Finish a drawing soon; waits where two are not yet finished."""
        self._waiting.put(drawing)

    def drain(self, seconds: float) -> bool:
        """Wait until everything is finished; False when that took too long."""
        end = time.monotonic() + seconds
        while self._waiting.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.02)
        return not self._waiting.unfinished_tasks

    def _work(self) -> None:
        while True:
            drawing = self._waiting.get()
            try:
                with speaking(drawing.claimed.language):
                    self._finish(drawing)
            except Exception as error:  # Its row is still generating: the sweep has it drawn again.
                report(f"#{drawing.claimed.id} could not be finished", error)
            finally:
                drawing.heart.stop()
                self._waiting.task_done()

    def _finish(self, drawing: Drawing) -> None:
        finish(self._house, drawing)


def finish(house: House, drawing: Drawing) -> None:
    """Seal, store and note what was drawn, or say why that could not be done."""
    claimed = drawing.claimed
    stored: list[dict[str, Any]] = []
    words = ""
    try:
        for index, (image, seed) in enumerate(
            zip(drawing.images, claimed.request.seeds, strict=True)
        ):
            picture = sealed(image, claimed.id, claimed.request, seed)
            mark = image.info.get(MARK)
            kept = _store(house, claimed, index, picture)
            stored.append({**kept, MARK: mark} if mark else kept)
    except Exception as error:
        fault = report(f"the pictures of #{claimed.id} could not be stored", error)
        words = tr(
            "The picture could not be kept; the host has to look. (fault {fault})", fault=fault
        )
    if not words:
        finish = partial(
            house.generations.finish, claimed, stored, drawing.seconds, revision(drawing.model),
            cost=drawing.cost,
        )  # fmt: skip
        if patiently(finish, DATABASE_SECONDS):
            # Behind the picture, which nobody waits longer for.
            for image, one in zip(drawing.images, stored, strict=True):
                thumbnails.keep(house.media, one["key"], image)
            return
    for one in stored:
        with contextlib.suppress(Exception):
            house.media.delete(one["key"])
    paid = policy().step(claimed.request) if drawing.cost is None else drawing.cost
    fail = partial(house.generations.fail, claimed, words, paid)
    if words and patiently(fail, DATABASE_SECONDS):
        with contextlib.suppress(RedisError):
            house.queue.line(claimed.line).failed(claimed.id, claimed.attempt, words)
    # What was drawn in vain was drawn for its asker all the same.
    with contextlib.suppress(RedisError):
        house.queue.line(claimed.line).ended(claimed.id, claimed.attempt, drawing.seconds)


def _store(house: House, claimed: Generation, index: int, picture: Picture) -> dict[str, Any]:
    for pause in (*STORE_PAUSES, None):
        try:
            key = house.media.save(claimed.id, f"{index + 1}.png", picture.png)
            break
        except Exception as error:
            if pause is None:
                raise
            log.warning("#%d is not stored yet: %s", claimed.id, type(error).__name__)
            time.sleep(pause)
    return {
        "key": key,
        "seed": picture.seed,
        "width": picture.width,
        "height": picture.height,
        "bytes": len(picture.png),
        "look": picture.look,
    }
