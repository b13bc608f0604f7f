"""Every function that RQ calls."""

import contextlib
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from redis.exceptions import RedisError
from rq import get_current_job
from rq.timeouts import JobTimeoutException

from core.catalog import Model, every_model, models
from core.database import AWAY, patiently
from core.engine import AskDifferently, EngineError, Stopped, TransientError
from core.errors import report
from core.generations import Generation
from core.house import House
from core.languages import speaking, tr
from core.lifecycle import State
from core.queue import TASK
from worker.finishing import BEAT_EVERY_SECONDS, DATABASE_SECONDS, Drawing, Finisher, Heart
from worker.warm import WarmEngine

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger("drawqueue")

ALLOWED = frozenset({TASK})
PROGRESS_EVERY_SECONDS = 0.3


class DrawingFailed(Exception):
    """Fails the RQ job too, so that an operator's Requeue means failed → queued."""


class Studio:
    """What a task works with, set once by the worker's process."""

    house: House
    # Its name, as RQ and the line know it.
    worker: str
    engine: WarmEngine
    finisher: Finisher
    stop_requested = False
    # The worker goes away: what is being drawn is put back in front of the line.
    leaving = threading.Event()


def generate(generation_id: int) -> None:
    """Claim one generation, draw it, and hand it over to be finished; the next may then begin.

    A loser of the claim returns quietly. What is told of it is in its asker's language.
    """
    house = Studio.house
    job = get_current_job()
    name = job.id if job else ""
    Studio.stop_requested = False
    # A worker without its database has nothing better to do than to wait for it, and would
    # otherwise fail its way through the whole line.
    claimed = patiently(partial(house.generations.claim, generation_id, name), DATABASE_SECONDS)
    if claimed is None:
        return
    with speaking(claimed.language):
        _generate(claimed)


def _generate(claimed: Generation) -> None:
    """Draw what was claimed. Raises DrawingFailed."""
    house = Studio.house
    begun = time.monotonic()
    heart = Heart(house.queue, claimed)
    try:
        model = _model(claimed.request.model)
        if model is None:
            raise AskDifferently(
                tr("The model {name} is no longer on offer.", name=claimed.request.model)
            )
        images = _draw(claimed, model)
        seconds = time.monotonic() - begun
        if loading := Studio.engine.loading:
            # Whose turn it was when a model had to be loaded is chance: nobody is charged for it.
            seconds = max(0.0, seconds - loading)
            with contextlib.suppress(RedisError):
                house.queue.pace.learn_loading(model.name, loading)
        Studio.finisher.take(Drawing(claimed, model, images, seconds, heart))
    except BaseException as error:
        heart.stop()
        # What was drawn in vain was drawn for its asker all the same.
        with contextlib.suppress(RedisError):
            house.queue.draw.ended(claimed.id, claimed.attempt, time.monotonic() - begun)
        if patiently(partial(_ended, claimed, error), DATABASE_SECONDS):
            raise DrawingFailed(type(error).__name__) from None
        if not isinstance(error, Exception):
            raise


def _model(name: str) -> Model | None:
    """What draws, hidden or not: a model that was added just now may not be known yet."""
    found = models().get(name) or every_model().get(name)
    if found is None:
        with contextlib.suppress(*AWAY):
            Studio.house.registry.refresh()
        found = every_model().get(name)
    return found


def _ended(claimed: Generation, error: BaseException) -> bool:
    """Note why an attempt came to nothing; whether its generation has failed by that."""
    generations = Studio.house.generations
    if Studio.leaving.is_set() or not isinstance(error, Exception):
        generations.put_back(claimed, tr("The worker is being restarted; this is drawn next."))
        return False
    match error:
        case Stopped():
            # Cancelled already, or stopped through RQ: then the row does not know yet.
            if Studio.stop_requested:
                generations.fail(claimed, tr("An operator stopped this."))
            return Studio.stop_requested
        case TransientError():
            again = generations.restart(claimed, str(error), at_once=False)
            return bool(again and again.state == State.FAILED)
        case EngineError():
            words = str(error)
        case JobTimeoutException():
            words = tr("It took too long and was stopped.")
        case _:
            fault = report("generate failed", error)
            words = tr("Something went wrong. (fault {fault})", fault=fault)
    generations.fail(claimed, words)
    return True


def _draw(claimed: Generation, model: Model) -> "list[Image]":
    told = said = 0.0

    def beat(share: float | None, words: str) -> bool:
        nonlocal told, said
        if Studio.stop_requested or Studio.leaving.is_set():
            return False
        if words:
            with contextlib.suppress(*AWAY):
                Studio.house.generations.tell(claimed, words)
        moment = time.monotonic()
        if share is None and moment - said < BEAT_EVERY_SECONDS:
            return True
        show = share is not None and (moment - told > PROGRESS_EVERY_SECONDS or share >= 1)
        if show:
            told = moment
        said = moment
        try:
            return Studio.house.queue.beat(claimed.id, claimed.attempt, share if show else None)
        except RedisError as error:
            # Redis away for a moment: keep drawing, the row decides at the end.
            log.warning("no beat for #%d: %s", claimed.id, type(error).__name__)
            return True

    def show(preview: bytes) -> None:
        with contextlib.suppress(RedisError):
            Studio.house.queue.preview(claimed.id, claimed.attempt, preview)

    return Studio.engine.draw(model, claimed.request, beat, _pictures(claimed), show)


def _pictures(claimed: Generation) -> dict[str, bytes]:
    """What the request begins with, from the storage."""
    try:
        return {key: Studio.house.media.load(key) for key in claimed.request.held}
    except FileNotFoundError:
        raise AskDifferently(
            tr("The picture that this begins with is not kept any more.")
        ) from None
    except Exception as error:
        fault = report(f"the pictures of #{claimed.id} could not be fetched", error)
        raise TransientError(
            tr("The storage does not answer. (fault {fault})", fault=fault)
        ) from error
