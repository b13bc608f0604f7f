"""Every command, declared once: its name, aliases, summary, and what it takes and answers.

Chats register, parse and describe their commands from this table.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core import catalog, options
from core.cards import status_line, waiting_line
from core.errors import NotAllowed, UserError
from core.generations import Asker, Generation
from core.house import House
from core.lifecycle import PENDING, RUNNING, State

# As many lines as the shortest of the chats' messages holds.
LISTED = 15
Takes = Literal["options", "id", "nothing"]


@dataclass(frozen=True)
class Ask:
    """One command as it came in: who, where, the event's unique id, and what was given."""

    asker: Asker
    event: str
    address: Mapping[str, Any]
    given: Mapping[str, Any]
    faults: tuple[str, ...] = ()
    # The message that stands in the chat already and will be the card.
    message: str | None = None


@dataclass(frozen=True)
class Reply:
    """The answer: words for the asker alone, or a generation whose card is shown.

    `fresh` says that the card is a new one here; otherwise it stands in the chat already.
    """

    text: str = ""
    generation: Generation | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Command:
    """One command of every chat."""

    name: str
    summary: str
    takes: Takes
    run: Callable[[House, Ask], Reply]
    aliases: tuple[str, ...] = ()


def _imagine(house: House, ask: Ask) -> Reply:
    wanted = catalog.requested(ask.given, ask.faults)
    made = house.generations.submit(wanted, ask.asker, ask.event, ask.address, message=ask.message)
    return Reply(generation=made, fresh=True)


def generation_id(value: Any) -> int:
    """The id a person typed, as `12` or `#12`. Raises UserError."""
    match = re.fullmatch(r"#?\s*(\d{1,12})", str(value or "").strip(), re.ASCII)
    if not match:
        raise UserError("Say which picture by its number, for example: 12")
    return int(match[1])


def _which(house: House, ask: Ask, states: frozenset[State], what: str) -> int:
    if ask.given.get("id"):
        return generation_id(ask.given["id"])
    newest = house.generations.of(ask.asker, states, 1)
    if not newest:
        raise UserError(f"You have nothing to {what}.")
    return newest[0].id


def _status(house: House, one: Generation) -> str:
    status = status_line(one, house.generations.standing(one), house.generations.progress(one))
    return f"#{one.id} {status}: {one.request.prompt[:60]}"


def _queue(house: House, ask: Ask) -> Reply:
    mine = house.generations.of(ask.asker, PENDING)
    lines = [_status(house, one) for one in mine[::-1][:LISTED]]
    if len(mine) > LISTED:
        lines.append(f"… and {len(mine) - LISTED} more.")
    counts = house.generations.counts()
    running = sum(counts.get(state, 0) for state in RUNNING)
    everybody = f"In all: {counts.get(State.QUEUED, 0)} queued, {running} running."
    return Reply("\n".join(lines or ["You have nothing in the queue."]) + f"\n{everybody}")


def _show(house: House, ask: Ask) -> Reply:
    found = house.generations.visible(_which(house, ask, frozenset(State), "show"), ask.asker)
    if found.state in PENDING:
        # Its card stands elsewhere and moves there; a second one would stand still.
        return Reply(_status(house, found))
    return Reply(generation=found, fresh=True)


def _cancel(house: House, ask: Ask) -> Reply:
    return Reply(
        generation=house.generations.cancel(_which(house, ask, PENDING, "cancel"), ask.asker)
    )


def _retry(house: House, ask: Ask) -> Reply:
    which = _which(house, ask, frozenset(State) - PENDING, "retry")
    return _again(house, ask, house.generations.visible(which, ask.asker), new_seed=False)


def _again(house: House, ask: Ask, old: Generation, *, new_seed: bool) -> Reply:
    made = house.generations.redo(
        old.id, ask.asker, ask.event, new_seed=new_seed, address=ask.address or None,
        message=ask.message,
    )  # fmt: skip
    return Reply(generation=made, fresh=made.id != old.id)


def _models(house: House, ask: Ask) -> Reply:
    lines = [
        f"{model.name}: {model.size}×{model.size}, {model.steps} steps, "
        f"up to {model.largest} pixels a side"
        for model in catalog.models().values()
    ]
    return Reply("\n".join(lines))


def _quiet(house: House, ask: Ask) -> Reply:
    if house.people.turn_quiet(ask.asker):
        return Reply(
            "I will not mention you any more when a picture took long. /quiet again to undo."
        )
    return Reply("I will mention you again when a picture took long.")


def _help(house: House, ask: Ask) -> Reply:
    lines = [f"/{command.name}: {command.summary}" for command in COMMANDS]
    lines += ["", "Flags of /imagine: " + options.flag_names()]
    lines += ["Example: /imagine a red crown on a blue background --seed 7"]
    return Reply("\n".join(lines))


COMMANDS: tuple[Command, ...] = (
    Command("imagine", "Draw a picture from a prompt.", "options", _imagine, ("generate", "draw")),
    Command("queue", "See your pictures in line, and how busy it is.", "nothing", _queue),
    Command("show", "Show a picture again by its number.", "id", _show),
    Command("cancel", "Cancel your newest picture, or one by its number.", "id", _cancel),
    Command("retry", "Draw a picture again by its number.", "id", _retry),
    Command("models", "List what can draw.", "nothing", _models),
    Command("quiet", "Turn the mention after a long wait off, or on again.", "nothing", _quiet),
    Command("help", "What I can do.", "nothing", _help, ("start",)),
)
BY_NAME: Mapping[str, Command] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}


def run(house: House, name: str, ask: Ask) -> Reply:
    """Run a command. Raises UserError with words for the asker."""
    command = BY_NAME.get(name)
    if command is None:
        raise UserError(f"There is no /{name[:30]}. Try /help.")
    return command.run(house, ask)


def press(house: House, action: str, generation: int, ask: Ask) -> Reply:
    """What a button does; only for who asked, or a moderator. Raises UserError."""
    old = house.generations.get(generation)
    own = (old.platform, old.asker) == (ask.asker.platform, ask.asker.id)
    if not own and not ask.asker.moderator:
        raise NotAllowed("Only the person who asked for this picture, or a moderator, can do that.")
    if action == "why":
        if old.state != State.QUEUED:
            return Reply(_status(house, old))
        return Reply(waiting_line(house.generations.standing(old)))
    if action == "cancel":
        return Reply(generation=house.generations.cancel(generation, ask.asker))
    return _again(house, ask, old, new_seed=action == "reseed")


def from_text(text: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Split a typed line into command, given options and faults; plain text is a prompt."""
    match = re.match(r"/([A-Za-z_]+)(?:@\w+)?(?:\s+|$)", text.strip())
    if not match:
        name, rest = "imagine", text.strip()
    else:
        name, rest = match[1].lower(), text.strip()[match.end() :]
    command = BY_NAME.get(name)
    if command is None or command.takes == "nothing":
        return name, {}, ()
    if command.takes == "id":
        return name, {"id": rest.strip()} if rest.strip() else {}, ()
    given, faults = options.split_flags(rest)
    return name, given, tuple(faults)
