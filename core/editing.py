"""Another prompt, other flags for a picture that waits: the same job, in the same place in line."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from core import catalog, flags, options
from core.asking import Ask, Reply, which_one
from core.drawing import ADDRESS, SENT, drawn_here, inherited, named_in, with_tastes
from core.errors import TooLate, UserError
from core.house import House
from core.languages import mark, tr, trn
from core.lifecycle import State
from core.media import Source
from core.options import COMMAND_OF, Mode, Option, Options, Request
from core.proposals import escaped
from core.rows import PLAINLY, Generation

WORDS = Option("words", mark("The new prompt and flags; empty: see those it has."))
SIZE = ("aspect", "width", "height")


def line(one: Generation) -> str:
    """The prompt and flags of a request as one types them: said of it again, they change nothing.

    What a model does where nothing is said, and the size that a picture brings along, are left out.
    """
    request = one.request
    usual = _usual(request)
    given: dict[str, Any] = {
        option.name: value
        for option in options.of(request.mode)
        if (value := request.told.get(option.name)) != usual.get(option.name)
        and not (option.name in SIZE and request.sources)
    }
    if request.model == next(iter(catalog.models())):
        given.pop("model", None)
    if request.enhance:
        given["enhance"] = True
    if request.loras:
        given["lora"] = ", ".join(f"{name}:{weight:g}" for name, weight in request.loras)
    if catalog.repeats(request):
        given["seed"] = request.seed
    return options.typed({**given, "prompt": escaped(request.prompt)})


def _usual(request: Request) -> dict[str, Any]:
    """What a request for the same model would be, had nothing but a prompt been given."""
    bare = Options.model_construct(prompt=request.prompt, model=request.model, zoom=1.0)
    as_large = Source("", request.width, request.height, white=1.0, generation=1)
    # As with a mask: whatever frames it was asked for with is what was said.
    masked = 2 if request.mode == Mode.INPAINT else 0
    sources = [as_large] * max(len(request.held), masked)
    try:
        settled = catalog.settle(bare, request.seed, request.mode, sources)
    except UserError:
        return {}  # A model that is gone since: all is said.
    return {**settled.told, "model": ""}


def edit(house: House, ask: Ask) -> Reply:
    nothing = mark("You have nothing to edit.")
    number = which_one(house, ask, frozenset({State.QUEUED}), nothing)
    text = str(ask.given.get("words") or "").strip()
    if not text:
        now = line(house.generations.editable(number, ask.asker))
        told = tr("#{number} is to be drawn from these words. To change them:", number=number)
        return Reply(f"{told}\n/edit {number} {now}")
    return change(house, ask, number, text)


def change(house: House, ask: Ask, number: int, text: str, *, whole: bool = False) -> Reply:
    """Draw a queued picture from other words.

    They are the `whole` of what it was asked for with, or what `line` told and somebody changed: in
    a whole, a size that is left out is the usual one. Raises UserError.
    """
    old = house.generations.get(number)
    try:
        house.generations.editable(number, ask.asker)
        request = _wanted(house, ask, old, text, whole)
        changed = house.generations.edit(number, request, ask.asker)
    except TooLate as error:
        if whole:
            with contextlib.suppress(UserError):
                if _wanted(house, ask, old, text, whole) == old.request:
                    return Reply(generation=old)  # No word of it was changed.
        if old.request.mode != Mode.TEXT:
            raise
        # The words are not lost.
        anew = f"/{COMMAND_OF[Mode.TEXT]} {_bare(old, text)}"
        told = f"{error} {tr('To have this drawn as well:')}\n{anew[:1500]}"
        raise TooLate(told) from None
    if changed.state == State.DONE:
        told = tr("#{number} is changed. It was drawn before and is there at once.", number=number)
    elif changed.version == old.version:
        told = tr("#{number} is the same as before. It keeps its place in line.", number=number)
    elif changed.attempt != old.attempt:
        told = tr("#{number} is changed.", number=number)
    else:
        told = tr("#{number} is changed. It keeps its place in line.", number=number)
    return Reply(told, changed)


def _wanted(house: House, ask: Ask, old: Generation, text: str, whole: bool) -> Request:
    """The request that a text makes of an old one, read as a new one is."""
    was, mode = old.request, old.request.mode
    given, faults = flags.split_flags(_bare(old, text))
    given, named, looks = named_in(given, mode)
    _same_pictures(house, ask, old, [*named, *looks])
    if given.get("preset") and not whole:
        raise UserError(tr("An edit takes no --preset: ask for a new picture with it."))
    if whole:
        # What the pictures brought along, they bring along again, and so does what was set.
        said = {name: value for name, value in given.items() if value not in (None, "")}
        brought = inherited([was], said) if was.sources else {}
        given, _manner = with_tastes(house, ask.asker, said, brought, mode)
    lacks = catalog.meant(str(given.get("model") or "")).family.lacks
    if str(given.get("seed")) == str(was.seed) and "seed" in lacks:
        # It stood in the line already: nobody asks for it.
        del given["seed"]
    kept = was.seed if given.get("seed") in (None, "") else None
    wanted = catalog.requested(given, faults, mode)
    if "priority" in given and options.PRIORITIES.index(wanted.priority) != old.priority:
        raise UserError(
            tr(
                "An edit keeps the picture's place: /priority {level} {number} moves it.",
                level=wanted.priority, number=old.id,
            )
        )  # fmt: skip
    requests = house.proposals.requests(wanted, mode, _sources(house, was), kept)
    if len(requests) > 1:
        raise UserError(
            trn(
                "That makes {n} picture, and #{number} is one. Ask for the others anew.",
                "That makes {n} pictures, and #{number} is one. Ask for the others anew.",
                len(requests), number=old.id,
            )
        )  # fmt: skip
    made = requests[0]
    sized = wanted.pan != (was.pan or None) or any(given.get(name) for name in SIZE)
    if was.sources and not whole and not sized:
        made = replace(made, width=was.width, height=was.height)
    return _as_written(made, old, whole)


def _as_written(made: Request, old: Generation, whole: bool) -> Request:
    """A request with the prompt that was written out before, where its words are the same."""
    was = old.request
    same = made.prompt == was.prompt and not made.enhance
    # What somebody wrote once asks for no other prompt when it comes again.
    asked = whole and made.enhance and made.prompt == (was.original or was.prompt)
    if (asked and (was.original or old.manner.get(PLAINLY))) or (same and was.original):
        return replace(made, prompt=was.prompt, original=was.original, enhance="")
    return made


def _bare(old: Generation, text: str) -> str:
    """A typed line without the command in front of it. Raises UserError for another command."""
    # The table of commands holds this one, too.
    from core.commands import TYPED, called

    match = TYPED.match(text)
    if match is None:
        return text
    command, mode = called(match[1].lower()), old.request.mode
    # Words with a picture draw that anew, whichever of the two commands they come with.
    may = {mode, Mode.TEXT} if mode in (Mode.REMIX, Mode.STYLE) else {mode}
    if command is None or command.mode not in may:
        raise UserError(
            tr(
                "#{number} was asked for by /{command}, and an edit keeps that.",
                number=old.id, command=COMMAND_OF[mode],
            )
        )  # fmt: skip
    return text[match.end() :]


def _same_pictures(house: House, ask: Ask, old: Generation, named: Sequence[str]) -> None:
    """Raises UserError where a text names other pictures than the request begins with."""
    keys = [
        drawn_here(house, ask, word)[1].key
        for word in named
        if not SENT.fullmatch(word) and not ADDRESS.match(word)
    ]
    # What was fetched from an address is known by no name any more.
    if len(named) > len(old.request.held) or not set(keys) <= set(old.request.held):
        raise UserError(
            tr(
                "An edit changes words and flags of #{number}, not the pictures that it begins "
                "with. For others, ask anew.",
                number=old.id,
            )
        )


def _sources(house: House, request: Request) -> list[Source]:
    """The pictures of a request as they were when it was made; only the first one's size counts."""
    if not request.held:
        return []
    first = house.uploads.stored(request.held[0])
    return [replace(first, key=key, white=1.0) for key in request.held]
