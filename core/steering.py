"""What people see of what they asked for, and do with it: in line, over, or long ago."""

import contextlib

from core import enhancing, options
from core.asking import LISTED, Ask, Reply, generation_id, picture_number, which_one
from core.cards import status_line
from core.errors import NotAllowed, NotFound, UserError
from core.generations import FIRST
from core.house import House
from core.languages import mark, tr, trn
from core.lifecycle import PENDING, RUNNING, State
from core.options import Mode
from core.rows import Generation

NOTHING_TO_CANCEL = mark("You have nothing to cancel.")
# What cancels everything of one's own in place of a number.
ALL = "all"


def queue(house: House, ask: Ask) -> Reply:
    """What of the asker's own stands in line, and how much of everybody's."""
    mine = house.generations.pending(ask.asker)
    lines = [status(house, one) for one in mine[:LISTED]]
    if len(mine) > LISTED:
        lines.append(tr("… and {number} more.", number=len(mine) - LISTED))
    counts = house.generations.counts()
    running = sum(counts.get(state, 0) for state in RUNNING)
    everybody = tr(
        "In all: {queued} queued, {running} running.",
        queued=counts.get(State.QUEUED, 0), running=running,
    )  # fmt: skip
    return Reply("\n".join([*(lines or [tr("You have nothing in the queue.")]), everybody]))


def status(house: House, one: Generation) -> str:
    """One of those, in a line."""
    told = status_line(one, house.generations.standing(one), house.generations.progress(one))
    prompt = one.request.prompt[:60]
    return tr("#{number} {status}: {prompt}", number=one.id, status=told, prompt=prompt)


def show(house: House, ask: Ask) -> Reply:
    """A card of the asker's own again, or how it is while that still moves. Raises UserError."""
    place = None
    if ask.given.get("id"):
        which, place = picture_number(ask.given["id"])
    else:
        which = which_one(house, ask, frozenset(State), mark("You have nothing to show."))
    found = house.generations.visible(which, ask.asker)
    if place and found.state == State.DONE:
        # Its card shows them all; one that is not there is told.
        found.picture(place - 1)
    if found.state in PENDING:
        # Its card stands elsewhere and moves there; a second one would stand still.
        return Reply(status(house, found))
    return Reply(generation=found, fresh=True)


def identify(house: House, ask: Ask) -> Reply:
    """What made a picture: by the recipe in its file, or by its looks among the asker's own.

    Raises UserError."""
    if ask.given.get("id"):
        return show(house, ask)
    if not ask.pictures:
        raise UserError(tr("Which picture? Send one along, or answer one with this command."))
    # Decoders of pictures, which few commands need.
    from core import receipts

    brought = ask.pictures[0]
    receipt = receipts.read(brought.receipt)
    if receipt and receipt.generation:
        with contextlib.suppress(NotFound):
            one = house.generations.visible(receipt.generation, ask.asker)
            if one.request.prompt == receipt.given.get("prompt"):
                return Reply(generation=one, fresh=True)
    known = [
        receipts.Known(number, str(one["look"]), int(one["width"]), int(one["height"]))
        for number, results in house.generations.finished(ask.asker)
        for one in results
        if one.get("look")
    ]
    number = receipts.nearest(house.uploads.opened(brought), known)
    if number:
        return Reply(generation=house.generations.get(number), fresh=True)
    if receipt is None:
        raise UserError(
            tr(
                "I do not know that picture: it is none of yours that I keep, and its file says "
                "nothing of how it was made."
            )
        )
    says = tr("Its file says how it was made. To draw it here:")
    if receipt.begun:
        says = tr(
            "Its file says how it was made. It began with another picture, which no file holds. To "
            "draw it here:"
        )
    return Reply(f"{says}\n{receipt.line()}")


def cancel(house: House, ask: Ask) -> Reply:
    """End the newest, one by its number, or all. Raises UserError."""
    if str(ask.given.get("id") or "").strip().lower() == ALL:
        ended = house.generations.cancel_all(ask.asker)
        if not ended:
            raise UserError(tr(NOTHING_TO_CANCEL))
        return Reply(trn("{n} picture is cancelled.", "{n} pictures are cancelled.", ended))
    which = which_one(house, ask, PENDING, NOTHING_TO_CANCEL)
    return Reply(generation=house.generations.cancel(which, ask.asker))


def retry(house: House, ask: Ask) -> Reply:
    """Draw one again by its number. Raises UserError."""
    nothing = mark("You have nothing to retry.")
    which = which_one(house, ask, frozenset(State) - PENDING, nothing)
    return again(house, ask, house.generations.visible(which, ask.asker))


def again(house: House, ask: Ask, old: Generation, *, new_seed: bool = False) -> Reply:
    """Draw or write one again; in its place where it was not done. Raises UserError."""
    if old.request.mode == Mode.ENHANCE:
        return enhancing.again(house, ask, old)
    # The same words from the same seed would be no other.
    new_seed = new_seed or (old.request.mode.words and old.state == State.DONE)
    made = house.generations.redo(
        old.id, ask.asker, ask.event, new_seed=new_seed, address=ask.address or None,
        message=ask.message, manner=house.tastes.manner(ask.asker),
    )  # fmt: skip
    return Reply(generation=made, fresh=made.id != old.id)


def priority(house: House, ask: Ask) -> Reply:
    """Move one among the asker's own. Raises UserError."""
    nothing = mark("You have nothing to move.")
    which = which_one(house, ask, frozenset({State.QUEUED}), nothing)
    level = options.PRIORITIES.index(ask.given["level"])
    moved = house.generations.move(which, ask.asker, level)
    return Reply(status(house, moved))


def first(house: House, ask: Ask) -> Reply:
    """Move one before everybody's, for moderators. Raises UserError."""
    if not ask.asker.trusted:
        raise NotAllowed(tr("Only a moderator whom the host lists can put a picture first."))
    moved = house.generations.move(generation_id(ask.given["id"]), ask.asker, FIRST)
    return Reply(status(house, moved))
