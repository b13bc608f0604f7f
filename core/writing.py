"""What one asks for that is made of words: an answer, its going on, and what a picture shows."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.asking import Ask, Reply, index_of, one_picture
from core.errors import InvalidOptions, NotFound, UserError
from core.house import House
from core.languages import mark, tr
from core.lifecycle import State
from core.options import PROMPT_LIMIT, SEED_LIMIT, Mode, Request
from core.proposals import escaped
from core.rows import Generation
from core.writers import captioners, writer, writers

# A model may be named behind all that is written; any other flag is a word of the prompt.
_NAMED = re.compile(r"\s+(?:--|—)model\s+(\S+)\s*$", re.IGNORECASE)
NOTHING_WRITES = mark("Nothing here writes: the host has set no DRAWQUEUE_TEXT_MODEL.")
NOTHING_DESCRIBES = mark(
    "Nothing here tells what a picture shows: the host has set no DRAWQUEUE_CAPTIONER."
)


def request_of(mode: Mode, prompt: str, model: str = "", sources: tuple[str, ...] = ()) -> Request:
    """A request for words, by the model that is named or the usual one. Raises InvalidOptions."""
    known = captioners() if mode == Mode.DESCRIBE else writers()
    chosen = writer(mode)
    if model:
        chosen = next((one for one in known.values() if one.name.lower() == model.lower()), None)
    if chosen is None and not known:
        raise UserError(tr(NOTHING_DESCRIBES if mode == Mode.DESCRIBE else NOTHING_WRITES))
    if chosen is None:
        told = tr("There is no model “{name}” that writes. On offer: {models}.",
                  name=model[:60], models=", ".join(known))  # fmt: skip
        raise InvalidOptions([told])
    return Request(
        prompt=prompt, negative_prompt="", width=1, height=1, steps=1, guidance=0.0,
        seed=secrets.randbelow(SEED_LIMIT + 1), sampler="", model=chosen.name, count=1, mode=mode,
        sources=sources,
    )  # fmt: skip


def write(house: House, ask: Ask) -> Reply:
    """Have an answer written; who answers one that was written goes on with it."""
    words = str(ask.given.get("prompt") or "").strip()
    model = str(ask.given.get("model") or "").strip()
    if named := _NAMED.search(words):
        words, model = words[: named.start()].strip(), named[1]
    if not words:
        raise UserError(tr("Write what to write, for example: a poem about the sea."))
    if len(words) > PROMPT_LIMIT:
        raise UserError(
            tr("That has {number} characters; {most} is the most.",
               number=len(words), most=PROMPT_LIMIT)
        )  # fmt: skip
    before = _seen(house, ask)
    return asked(house, ask, request_of(Mode.WRITE, words, model), before)


def describe(house: House, ask: Ask) -> Reply:
    """Have it said what a picture shows, as a prompt that would draw it."""
    if not captioners():
        raise UserError(tr(NOTHING_DESCRIBES))
    if ask.pictures:
        return asked(house, ask, request_of(Mode.DESCRIBE, "", sources=(ask.pictures[0].key,)))
    number, place = one_picture(house, ask, mark("Which picture? Send one along, or answer one."))
    old = house.generations.visible(number, ask.asker)
    key = str(old.picture(index_of(old, place))["key"])
    return asked(house, ask, request_of(Mode.DESCRIBE, "", sources=(key,)), old)


def go_on(house: House, ask: Ask, old: Generation) -> Reply:
    """Let what was written go on. Raises NotFound."""
    going_on(old)
    request = replace(request_of(Mode.WRITE, tr("Go on.")), model=old.request.model)
    return asked(house, ask, request, old)


def going_on(old: Generation) -> Generation:
    """What was written, where one can go on with it. Raises NotFound."""
    if old.request.mode != Mode.WRITE or not old.text:
        raise NotFound(tr("#{number} has no words to go on with.", number=old.id))
    return old


def drawn_from(old: Generation) -> Mapping[str, Any]:
    """What to draw from words: they are the prompt, whatever braces are in it. Raises NotFound."""
    if old.state != State.DONE or not old.text:
        raise NotFound(tr("#{number} has no words yet.", number=old.id))
    return {"prompt": escaped(" ".join(old.text.split()))[:PROMPT_LIMIT]}


def _seen(house: House, ask: Ask) -> Generation | None:
    """The answer that somebody goes on with, as its card stands before them."""
    if ask.seen is None:
        return None
    try:
        old = house.generations.visible(ask.seen, ask.asker)
    except UserError:
        return None
    return old if old.request.mode == Mode.WRITE and old.text else None


def asked(
    house: House, ask: Ask, request: Request, parent: Generation | None = None
) -> Reply:  # fmt: skip
    """Put a request for words in line. Raises what `submit` raises."""
    made = house.generations.submit(
        request, ask.asker, ask.event, ask.address, parent.id if parent else None, ask.message,
        house.tastes.manner(ask.asker),
    )  # fmt: skip
    return Reply(generation=made, fresh=True)
