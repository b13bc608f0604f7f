"""Every function that RQ calls."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError
from rq import get_current_job

from core.catalog import models
from core.engine import AskDifferently, EngineError, Picture, Stopped, TransientError
from core.errors import report
from core.generations import Generation
from core.house import House
from core.lifecycle import State
from core.queue import ALIVE_SECONDS, TASK
from worker.warm import WarmEngine

log = logging.getLogger("drawqueue")

ALLOWED = frozenset({TASK})
PROGRESS_EVERY_SECONDS = 0.3
# Often enough that one beat may fail.
BEAT_EVERY_SECONDS = ALIVE_SECONDS / 3


class DrawingFailed(Exception):
    """Fails the RQ job too, so that an operator's Requeue means failed → queued."""


class Studio:
    """What a task works with, set once by the worker's process."""

    house: House
    engine: WarmEngine
    stop_requested = False


def generate(generation_id: int) -> None:
    """Draw one generation: claim, draw, store, finish. A loser of the claim returns quietly."""
    house = Studio.house
    job = get_current_job()
    Studio.stop_requested = False
    claimed = house.generations.claim(generation_id, job.id if job else "")
    if claimed is None:
        return
    begun = time.monotonic()
    done = None
    try:
        with _alive(claimed):
            pictures = _draw(claimed)
            results = [_store(claimed, index, picture) for index, picture in enumerate(pictures)]
            done = house.generations.finish(claimed, results, time.monotonic() - begun)
    except Stopped:
        # Cancelled already, or stopped through RQ: then the row does not know yet.
        if Studio.stop_requested:
            house.generations.fail(claimed, "An operator stopped this.")
            raise DrawingFailed("stopped") from None
        return
    except TransientError as error:
        again = house.generations.restart(claimed, str(error), at_once=False)
        if again and again.state == State.FAILED:
            raise DrawingFailed(type(error).__name__) from None
    except EngineError as error:
        house.generations.fail(claimed, str(error))
        raise DrawingFailed(type(error).__name__) from None
    except Exception as error:
        words = "It took too long and was stopped." if _timed_out(error) else (
            f"Something went wrong. (fault {report('generate failed', error)})"
        )  # fmt: skip
        house.generations.fail(claimed, words)
        raise DrawingFailed(type(error).__name__) from None
    finally:
        if not done:
            # What was drawn in vain was drawn for its asker all the same.
            with contextlib.suppress(RedisError):
                house.queue.ended(claimed.id, claimed.attempt, time.monotonic() - begun)


@contextlib.contextmanager
def _alive(claimed: Generation) -> Iterator[None]:
    """Say all the while that somebody works on it, however long a storage takes to answer."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_EVERY_SECONDS):
            # Redis away for a moment: keep drawing, the row decides at the end.
            with contextlib.suppress(RedisError):
                Studio.house.queue.beat(claimed.id, claimed.attempt, None)

    threading.Thread(target=beat, daemon=True, name="heart").start()
    try:
        yield
    finally:
        over.set()


def _timed_out(error: Exception) -> bool:
    from rq.timeouts import JobTimeoutException

    return isinstance(error, JobTimeoutException)


def _draw(claimed: Generation) -> list[Picture]:
    model = models().get(claimed.request.model)
    if model is None:
        raise AskDifferently(f"The model {claimed.request.model} is no longer on offer.")
    told = said = 0.0

    def beat(share: float | None) -> bool:
        nonlocal told, said
        if Studio.stop_requested:
            return False
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

    return Studio.engine.draw(model, claimed.request, beat)


def _store(claimed: Generation, index: int, picture: Picture) -> dict[str, Any]:
    key = Studio.house.media.save(claimed.id, f"{index + 1}.png", picture.png)
    return {
        "key": key,
        "seed": picture.seed,
        "width": picture.width,
        "height": picture.height,
        "bytes": len(picture.png),
    }
