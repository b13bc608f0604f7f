"""A better prompt that is shown before it is drawn: asked for, asked for again, and used."""

import contextlib
from dataclasses import replace

from core.asking import Ask, Reply
from core.drawing import draw
from core.errors import NotFound, TooLate, UserError
from core.house import House
from core.languages import tr
from core.options import Mode
from core.proposals import escaped
from core.rows import Generation
from core.writers import writer
from core.writing import asked, request_of


def propose(house: House, ask: Ask, number: int) -> Reply:
    """Let a better prompt for a picture be written, and shown. Raises UserError."""
    return _asked(house, ask, house.generations.touchable(number, ask.asker))


def again(house: House, ask: Ask, old: Generation) -> Reply:
    """Let another one be written in place of one that was. Raises UserError."""
    picture = _picture(house, ask, old)
    return _asked(house, ask, picture or old, old.request.prompt)


def _asked(house: House, ask: Ask, about: Generation, words: str = "") -> Reply:
    if writer(Mode.ENHANCE) is None:
        raise UserError(tr("Nothing here writes prompts."))
    words = words or about.request.original or about.request.prompt
    if not words or about.request.mode == Mode.UPSCALE:
        raise UserError(tr("#{number} has no words that could be enhanced.", number=about.id))
    return asked(house, ask, request_of(Mode.ENHANCE, words), about)


def use(house: House, ask: Ask, proposal: Generation) -> Reply:
    """Draw a better prompt that was shown: in the place of its picture while that waits, else
    anew with all that the picture was asked for with. Raises UserError."""
    if proposal.request.mode != Mode.ENHANCE or not proposal.text:
        raise NotFound(tr("#{number} shows no better prompt.", number=proposal.id))
    event = f"use:{proposal.id}:{ask.asker.id}"
    picture = _picture(house, ask, proposal)
    if picture is None:
        given = {"prompt": escaped(proposal.text), "enhance": False}
        return draw(house, replace(ask, event=event, given=given), Mode.TEXT)
    wanted = replace(
        picture.request, prompt=proposal.text, original=proposal.request.prompt, enhance=""
    )
    with contextlib.suppress(TooLate):
        changed = house.generations.edit(picture.id, wanted, ask.asker)
        told = tr("#{number} is drawn from the better prompt.", number=changed.id)
        return Reply(told, changed)
    if picture.request == wanted:
        return Reply(generation=picture)
    # Pressed twice, it is drawn once.
    made = house.generations.submit(
        wanted, ask.asker, event, ask.address, picture.id, ask.message,
        house.tastes.manner(ask.asker),
    )  # fmt: skip
    return Reply(generation=made, fresh=True)


def _picture(house: House, ask: Ask, proposal: Generation) -> Generation | None:
    """The picture that a better prompt was asked for; None where it is gone."""
    if proposal.parent is None:
        return None
    with contextlib.suppress(NotFound):
        found = house.generations.visible(proposal.parent, ask.asker)
        return found if not found.request.mode.words else None
    return None
