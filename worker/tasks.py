"""Every function that RQ calls."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from redis.exceptions import RedisError
from rq import get_current_job
from rq.timeouts import JobTimeoutException

from core import writers
from core.catalog import Model, every_model, models
from core.database import AWAY, patiently
from core.engine import (
    AskDifferently,
    EngineError,
    GiveUp,
    Stopped,
    TransientError,
    TryAnother,
    Turn,
    Wait,
)
from core.errors import UserError, report
from core.generations import PAUSES
from core.house import House
from core.languages import speaking, tr
from core.lifecycle import State
from core.options import Mode, Request
from core.policy import policy
from core.providers import PROVIDERS
from core.queue import COLLECT, DRAW, TASK
from core.rows import Generation
from core.wordings import enhanced, talk_for
from worker.finishing import BEAT_EVERY_SECONDS, DATABASE_SECONDS, Drawing, Finisher, Heart
from worker.warm import WarmEngine

if TYPE_CHECKING:
    from PIL.Image import Image

    from worker.remote import Branch

log = logging.getLogger("drawqueue")

ALLOWED = frozenset({TASK, COLLECT})
PROGRESS_EVERY_SECONDS = 0.3
# After a fault, what waits elsewhere is asked for again.
ASK_AGAIN_SECONDS = 20.0


class DrawingFailed(Exception):
    """Fails the RQ job too, so that an operator's Requeue means failed → queued."""


class Studio:
    """What a task works with, set once by the worker's process."""

    house: House
    # Its name, as RQ and the line know it.
    worker: str
    # The models of this machine, and what asks those of others.
    engine: WarmEngine
    branch: "Branch"
    finisher: Finisher
    # The jobs that an operator stopped.
    stopped: set[str] = set()  # noqa: RUF012 - the process's own
    # The worker goes away: what is being drawn is put back in front of the line.
    leaving = threading.Event()


def generate(generation_id: int) -> None:
    """Claim one generation, draw or write it, and hand it over to be finished; the next may then
    begin.

    A loser of the claim returns quietly. What is told of it is in its asker's language.
    """
    job = get_current_job()
    name = job.id if job else ""
    Studio.stopped.discard(name)
    # A worker without its database has nothing better to do than to wait for it, and would
    # otherwise fail its way through the whole line.
    claim = partial(Studio.house.generations.claim, generation_id, name)
    claimed = patiently(claim, DATABASE_SECONDS)
    if claimed is not None:
        with speaking(claimed.language):
            _attempt(claimed, _make)


def collect(generation_id: int) -> None:
    """Look after a drawing that another machine has taken on, and finish it when it is done.

    Who comes too early, or second, returns quietly.
    """
    take_up = partial(Studio.house.elsewhere.take_up, generation_id)
    waiting = patiently(take_up, DATABASE_SECONDS)
    if waiting is not None:
        with speaking(waiting.language):
            _attempt(waiting, Studio.branch.fetch)


def _attempt(claimed: Generation, act: "Callable[[Generation, Heart, float], None]") -> None:
    """Do something for what was claimed, and note what became of it. Raises DrawingFailed."""
    house = Studio.house
    begun = time.monotonic()
    heart = Heart(house.queue, claimed)
    try:
        act(claimed, heart, begun)
    except BaseException as error:
        heart.stop()
        # What was drawn in vain was drawn for its asker all the same.
        with contextlib.suppress(RedisError):
            line = house.queue.line(claimed.line)
            line.ended(claimed.id, claimed.attempt, time.monotonic() - begun)
        failed = patiently(partial(_ended, claimed, error), DATABASE_SECONDS)
        if failed and claimed.state == State.WAITING:
            # The job that an operator would requeue is the one that handed it out.
            with contextlib.suppress(RedisError):
                what = type(error).__name__
                house.queue.line(claimed.line).failed(claimed.id, claimed.attempt, what)
        elif failed:
            raise DrawingFailed(type(error).__name__) from None
        if not isinstance(error, Exception):
            raise


def _make(claimed: Generation, heart: Heart, begun: float) -> None:
    request = claimed.request
    if request.enhance:
        _enhance(claimed, heart, begun)
        return
    model = model_of(claimed)
    # A house that has GPUs makes pictures larger on them, whoever drew those.
    larger = request.mode == Mode.UPSCALE and claimed.line == DRAW
    if request.mode.words:
        text = _write(claimed, model)
        if request.mode == Mode.ENHANCE:
            text = _proposed(request, text)
        finish = partial(
            Studio.house.generations.finish, claimed, [], time.monotonic() - begun, text=text
        )
        patiently(finish, DATABASE_SECONDS)
        heart.stop()
    elif model.engine in PROVIDERS and not larger:
        Studio.branch.draw(claimed, heart, begun)
    else:
        images = _draw(claimed, _here(model))
        seconds = time.monotonic() - begun
        if loading := Studio.engine.loading:
            # Whose turn it was when a model had to be loaded is chance: nobody is charged for it.
            seconds = max(0.0, seconds - loading)
            with contextlib.suppress(RedisError):
                Studio.house.queue.pace.learn_loading(model.name, loading)
        Studio.finisher.take(Drawing(claimed, model, images, seconds, heart))


def _here(model: Model) -> Model:
    """What stands on this machine for a model elsewhere, whose pictures are made larger here.

    Raises AskDifferently.
    """
    if model.engine not in PROVIDERS:
        return model
    found = [one for one in every_model().values() if one.engine not in PROVIDERS]
    if not found:
        raise AskDifferently(tr("The model {name} is no longer on offer.", name=model.name))
    return found[0]


def model_of(claimed: Generation) -> Model:
    """What draws or writes, hidden or not: a model that was added just now may not be known yet.

    Raises AskDifferently.
    """
    name = claimed.request.model
    if claimed.request.mode.words:
        found = {**writers.writers(), **writers.captioners()}.get(name)
    else:
        found = models().get(name) or every_model().get(name)
        if found is None:
            with contextlib.suppress(*AWAY):
                Studio.house.registry.refresh()
            found = every_model().get(name)
    if found is None:
        raise AskDifferently(tr("The model {name} is no longer on offer.", name=name))
    return found


def _enhance(claimed: Generation, heart: Heart, begun: float) -> None:
    """Have a better prompt written; the drawing then gets its fair place in line.

    Whatever goes wrong, what was asked for is drawn.
    """
    generations, asked = Studio.house.generations, claimed.request.prompt
    prompt, words, written = None, "", False
    try:
        model = writers.writers().get(claimed.request.enhance)
        if model is None:
            raise GiveUp(tr("Nothing here writes any more."))
        answer = _write(claimed, model)
        written, prompt = True, enhanced(asked, answer)
        if prompt == asked:
            prompt, words = None, tr("Drawn as you wrote it: no better prompt came of it.")
    except Stopped:
        raise
    except EngineError as error:
        if Studio.leaving.is_set():
            # The engine goes away with its worker: another one writes it.
            raise
        words = tr("Drawn as you wrote it: {reason}", reason=str(error))
    except JobTimeoutException:
        words = tr("Drawn as you wrote it: writing a better prompt took too long.")
    except Exception as error:
        fault = report(f"the prompt of #{claimed.id} could not be enhanced", error)
        words = tr("Drawn as you wrote it. (fault {fault})", fault=fault)
    with contextlib.suppress(RedisError):
        line = Studio.house.queue.line(claimed.line)
        taken = claimed.request if prompt else None
        line.ended(claimed.id, claimed.attempt, time.monotonic() - begun, taken)
    then = partial(generations.enhanced, claimed, prompt, words, written=written)
    patiently(then, DATABASE_SECONDS)
    heart.stop()


def _proposed(request: Request, answer: str) -> str:
    """The better prompt that an answer makes, to be shown. Raises AskDifferently."""
    found = enhanced(request.prompt, answer)
    if found == request.prompt:
        raise AskDifferently(tr("No better prompt came of it. Try again, or in other words."))
    try:
        policy().drawable([replace(request, prompt=found)])
    except UserError:
        told = tr("The better prompt was one that is not drawn here. Try again.")
        raise AskDifferently(told) from None
    return found


def _write(claimed: Generation, model: Model) -> str:
    """What a model writes for a request, shown as it grows. Raises EngineError."""
    queue, told, longest = Studio.house.queue, 0.0, 0
    beat, fitting = beats(claimed), True

    def say(words: str) -> bool:
        nonlocal told, longest, fitting
        moment = time.monotonic()
        # The first words are told at once.
        if not longest or moment - told > PROGRESS_EVERY_SECONDS:
            told, longest = moment, len(words)
            fitting = policy().sayable(words)
            if not fitting:
                return False
            with contextlib.suppress(RedisError):
                queue.say(claimed.id, claimed.attempt, words)
        return beat(None, "")

    request, pictures = claimed.request, dict[str, bytes]()
    if request.enhance:
        # Its pictures are for who draws alone.
        request = replace(request, mode=Mode.ENHANCE, sources=(), mask="")
    else:
        pictures = stored_pictures(claimed)
    talk = talk_for(request, _before(claimed))
    try:
        if model.engine in PROVIDERS:
            written = Studio.branch.write(model, request, say, talk, pictures)
        else:
            written = Studio.engine.write(
                model, request, say, beat, talk, pictures, _loading(claimed, model)
            )
    except Stopped:
        if fitting:
            raise
        written = ""
    if not fitting or not policy().sayable(written):
        raise AskDifferently(
            tr("What was written is not shown: it says what the host of this bot refuses.")
        )
    return written


def _loading(claimed: Generation, model: Model) -> Callable[[str, float], None]:
    """Tells the asker, once, that the model must be loaded before it writes."""
    told = model.name in Studio.engine.held

    def loading(_name: str, share: float) -> None:
        nonlocal told
        if told or share >= 1:
            return
        told = True
        words = tr("{model} is being loaded: the first words take a while.", model=model.name)
        with contextlib.suppress(*AWAY):
            Studio.house.generations.tell(claimed, words)

    return loading


def _before(claimed: Generation) -> list[Turn]:
    """What was said before in a talk that goes on, the oldest first."""
    turns: list[Turn] = []
    if claimed.request.mode != Mode.WRITE:
        return turns
    for one in Studio.house.generations.talk(claimed):
        turns += [Turn("user", one.request.prompt), Turn("assistant", one.text or "")]
    return turns


def _ended(claimed: Generation, error: BaseException) -> bool:
    """Note why an attempt came to nothing; whether its generation has failed by that."""
    generations, elsewhere = Studio.house.generations, Studio.house.elsewhere
    waiting, task = claimed.state == State.WAITING, claimed.task or {}
    # What nobody knows a name of can only be begun again.
    known = waiting and bool(task.get("name") or task.get("news"))
    if Studio.leaving.is_set() or not isinstance(error, Exception):
        if waiting:
            elsewhere.ask_again(claimed, 0)
        else:
            told = tr("The worker is being restarted; this is drawn next.")
            generations.put_back(claimed, told)
        return False
    match error:
        case Stopped():
            # Cancelled already, or stopped through RQ: then the row does not know yet.
            if claimed.job in Studio.stopped:
                Studio.stopped.discard(claimed.job)
                generations.fail(claimed, tr("An operator stopped this."))
                return True
            return False
        case TransientError() if known and not elsewhere.too_late(claimed):
            seconds = error.seconds if isinstance(error, Wait) else ASK_AGAIN_SECONDS
            elsewhere.ask_again(claimed, seconds)
            return False
        case Wait() if not waiting:
            again = elsewhere.postpone(claimed, error.seconds, str(error))
            return bool(again and again.state == State.FAILED)
        case TransientError() if not known:
            # Elsewhere another engine may do what this one could not, often as it was tried.
            if claimed.restarts >= len(PAUSES) and elsewhere.stand_in(claimed, str(error)):
                return False
            again = generations.restart(claimed, str(error), at_once=False)
            return bool(again and again.state == State.FAILED)
        case TransientError() | TryAnother() | GiveUp():
            if elsewhere.stand_in(claimed, str(error)):
                return False
            words = str(error)
        case EngineError():
            words = str(error)
        case JobTimeoutException():
            words = tr("It took too long and was stopped.")
        case _:
            fault = report("generate failed", error)
            words = tr("Something went wrong. (fault {fault})", fault=fault)
    generations.fail(claimed, words)
    return True


def halted(claimed: Generation) -> bool:
    """Whether this process knows that an attempt shall stop."""
    return claimed.job in Studio.stopped or Studio.leaving.is_set()


def beats(claimed: Generation) -> Callable[[float | None, str], bool]:
    """What is told how far an attempt is (None: it goes on), and words for its asker; it answers
    whether to go on."""
    told = said = 0.0

    def beat(share: float | None, words: str) -> bool:
        nonlocal told, said
        if halted(claimed):
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

    return beat


def shows(claimed: Generation) -> Callable[[bytes], None]:
    """What is given previews of an attempt."""

    def show(preview: bytes) -> None:
        with contextlib.suppress(RedisError):
            Studio.house.queue.preview(claimed.id, claimed.attempt, preview)

    return show


def _draw(claimed: Generation, model: Model) -> "list[Image]":
    return Studio.engine.draw(
        model, claimed.request, beats(claimed), stored_pictures(claimed), shows(claimed)
    )


def stored_pictures(claimed: Generation) -> dict[str, bytes]:
    """What the request begins with, from the storage. Raises EngineError."""
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
