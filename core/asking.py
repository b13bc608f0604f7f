"""What was asked for, and the answer, whichever chat it came from; and which picture is meant."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.cards import Button
from core.errors import UserError
from core.house import House
from core.languages import speaking, spoken, tr
from core.lifecycle import State
from core.lineage import Family
from core.media import Source
from core.people import Asker
from core.rows import Generation

# As many lines as the shortest of the chats' messages holds.
LISTED = 15


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
    # Whether the number and cost of many pictures were agreed to.
    agreed: bool = False
    # What was sent along or answered, checked and stored.
    pictures: tuple[Source, ...] = ()
    # Whether settings and presets are in what is given already.
    settled: bool = False
    # The generation whose card stands before the asker, who points at it.
    seen: int | None = None
    # The most bytes of a file that can be sent there; 0: it is fetched by a link.
    most: int = 0


@dataclass(frozen=True)
class Choice:
    """One thing to choose below some words, which make way for what is said to it.

    `id` is what the platform hands back: at most 64 bytes, Telegram's limit.
    """

    id: str
    label: str
    help: str = ""
    # Whether it is so now.
    now: bool = False


@dataclass(frozen=True)
class Reply:
    """The answer: words for the asker alone, or a generation whose card is shown.

    `fresh` says that the card is a new one here; otherwise it stands in the chat already.
    `others` came of the same message, and a poster draws their cards. `buttons` are what the
    words ask about, or turn their pages. `thumbnails` are finished ones that the words tell of,
    `family` a tree of them to be drawn beside the words.
    """

    text: str = ""
    generation: Generation | None = None
    fresh: bool = False
    others: tuple[int, ...] = ()
    buttons: tuple[Button, ...] = ()
    # The generation whose prompt and flags the words are, to be changed by who asked.
    edits: int | None = None
    # Pictures of what the words tell of: names and keys.
    samples: tuple[tuple[str, str], ...] = ()
    thumbnails: tuple[Generation, ...] = ()
    family: Family | None = None

    @property
    def small(self) -> tuple[tuple[str, str], ...]:
        """Every picture to show in small: names and keys."""
        drawn = ((f"#{one.id}", str(one.results[0]["key"])) for one in self.thumbnails)
        return (*self.samples, *drawn)

    # What may be chosen below the words, one of them.
    choices: tuple[Choice, ...] = ()
    # Stored files that are handed over with the words, to the asker alone: names and keys.
    files: tuple[tuple[str, str], ...] = ()
    # What it is said in.
    language: str = field(default_factory=spoken)

    @property
    def said(self) -> str:
        """The words, also where a card that stands elsewhere shows what was done."""
        if self.text or self.generation is None:
            return self.text
        one = self.generation
        with speaking(self.language):
            return tr("#{number} is {state}.", number=one.id, state=one.state.said)


def picture_number(value: Any) -> tuple[int, int | None]:
    """The generation of a picture that a person typed as `12`, `#12` or `12.2`, and its place.

    Raises UserError.
    """
    match = re.fullmatch(r"#?\s*(\d{1,12})(?:\.([1-9]))?", str(value or "").strip(), re.ASCII)
    if not match:
        raise UserError(
            tr(
                "Say which picture by its number, for example 12, or 12.2 for the second of "
                "several."
            )
        )
    return int(match[1]), int(match[2]) if match[2] else None


def generation_id(value: Any) -> int:
    """The id a person typed, as `12` or `#12`. Raises UserError."""
    match = re.fullmatch(r"#?\s*(\d{1,12})", str(value or "").strip(), re.ASCII)
    if not match:
        raise UserError(tr("Say which picture by its number, for example: 12"))
    return int(match[1])


def which_one(
    house: House, ask: Ask, states: frozenset[State], nothing: str, *, drawn: bool = False
) -> int:  # fmt: skip
    """The number that was given, else the newest in some states; `nothing` says that none is."""
    if ask.given.get("id"):
        return generation_id(ask.given["id"])
    newest = house.generations.of(ask.asker, states, 1, drawn=drawn)
    if not newest:
        raise UserError(tr(nothing))
    return newest[0].id


def one_picture(house: House, ask: Ask, nothing: str) -> tuple[int, int | None]:
    if ask.given.get("id"):
        return picture_number(ask.given["id"])
    return which_one(house, ask, frozenset({State.DONE}), nothing, drawn=True), None


def index_of(one: Generation, place: int | None) -> int:
    """The index of a picture that was named by its place, or is the only one. Raises UserError."""
    if place is None and len(one.results) > 1:
        raise UserError(
            tr(
                "#{number} holds several pictures: name one, {number}.1 to {number}.{last}.",
                number=one.id, last=len(one.results),
            )
        )  # fmt: skip
    return (place or 1) - 1
