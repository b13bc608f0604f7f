"""Who may ask what, how often and with which weight: one TOML file, every setting declared here.

A person, place or role is named as `platform:kind:id`. Nothing here looks at rows: who calls
brings the figures (`Spent`), and is told in words for the asker what stands in the way.
"""

import math
import re
import textwrap
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidOptions, NotAllowed, TooMuch, duration, nearest
from core.languages import tr, trn
from core.options import Mode, Request
from core.providers import provider_of
from core.settings import Chat, named, read

EVERYONE, MODERATOR = "everyone", "moderator"
_CLASS = re.compile(r"(?!none$)[a-z][a-z0-9_-]{0,31}")


class PolicyFault(Exception):
    """The file needs mending; `faults` holds a sentence for each mistake, with its line."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


def _named(name: str) -> str:
    if name in (EVERYONE, MODERATOR):
        return name
    try:
        return named(name)
    except ValueError as error:
        raise ValueError(
            f"{error}; write for example discord:123, discord:role:123, discord:guild:123, "
            f"telegram:chat:-100123, web:local, {MODERATOR} or {EVERYONE}"
        ) from None


Names = Annotated[tuple[Annotated[str, AfterValidator(_named)], ...], Field(strict=False)]


def _hour(text: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError(f'“{text[:60]}” is no time of day; write "06:00"')
    return text


# More than anybody has, and what every database holds.
MOST = 10**9


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limits(_Table):
    """How much may be asked for; 0 is no limit."""

    queued: int = Field(0, ge=0, le=MOST, description="Pictures in line at once.")
    running: int = Field(0, ge=0, le=MOST, description="Pictures being drawn at once.")
    jobs_per_day: int = Field(0, ge=0, le=MOST, description="Pictures a day.")
    seconds_per_day: float = Field(
        0, ge=0, le=MOST, allow_inf_nan=False, description="Seconds of drawing a day."
    )
    cost_per_day: float = Field(
        0, ge=0, le=MOST, allow_inf_nan=False,
        description="What a day's pictures may cost, by [prices]; what costs nothing is not "
        "counted.",
    )  # fmt: skip


class Class(Limits):
    """A class of people: their share of the drawing, and each person's limits in it."""

    weight: float = Field(
        1, ge=0.001, le=1000, allow_inf_nan=False,
        description="Share of the drawing, beside the other classes' weights.",
    )  # fmt: skip
    members: Names = Field(
        (),
        description="Who is in it. Who is in several has the heaviest, and may choose by /class.",
    )
    steps: int = Field(0, ge=0, le=MOST, description="Most denoising steps.")
    side: int = Field(0, ge=0, le=MOST, description="Most pixels a side.")
    count: int = Field(0, ge=0, le=MOST, description="Most pictures in one grid.")


class Line(_Table):
    """The queue as a whole."""

    longest: int = Field(10_000, ge=0, le=MOST, description="Pictures in line in all; 0: no limit.")
    cooldown: float = Field(
        0,
        ge=0,
        le=MOST,
        allow_inf_nan=False,
        description="Seconds a person waits between two requests.",
    )
    ask_above: int = Field(
        5,
        ge=1,
        le=MOST,
        description="Above how many pictures from one message to ask before queueing.",
    )
    permutations: int = Field(
        40, ge=1, le=1000, description="Most pictures from one message: {a, b} times --repeat."
    )
    day_starts: Annotated[str, AfterValidator(_hour)] = Field(
        "00:00", description='When a day\'s limits renew, in UTC: "06:00".'
    )

    @property
    def start(self) -> timedelta:
        hours, minutes = map(int, self.day_starts.split(":"))
        return timedelta(hours=hours, minutes=minutes)


class Access(_Table):
    """Who may ask at all."""

    allow: Names = Field((), description="Only these (a place, a role, a person); empty: everyone.")
    block: Names = Field((), description="None of these, whatever else they are.")


def _phrase(text: str) -> str:
    if not (plain := _plain(text)):
        raise ValueError("a word or phrase to refuse has letters in it")
    return plain


def _plain(text: str) -> str:
    """Words as they are compared: without capitals, accents and what no eye sees."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    seen = "".join(
        sign for sign in parts
        if sign.isspace() or not unicodedata.category(sign).startswith(("M", "C"))
    )  # fmt: skip
    return " ".join(seen.split())


class Words(_Table):
    """What is not drawn."""

    refuse: Annotated[tuple[Annotated[str, AfterValidator(_phrase)], ...], Field(strict=False)] = (
        Field(
            (),
            description="Words and phrases; what has one of them in it is not drawn, nor shown as "
            "words.",
        )
    )


class Show(StrEnum):
    """How a marked picture is shown, the most open first."""

    PLAIN = "plain"
    SPOILER = "spoiler"
    BLUR = "blur"
    WITHHOLD = "withhold"

    @property
    def hides(self) -> bool:
        """Whether the picture itself is not sent at all."""
        return self in (Show.BLUR, Show.WITHHOLD)


@dataclass(frozen=True)
class Audience:
    """Who sees a card: what the policy may call the place, the nearest first, and its kind."""

    names: tuple[str, ...] = ()
    # Nobody but the asker reads there.
    alone: bool = False
    # Discord made sure that all there are grown up.
    restricted: bool = False
    # The card is for the asker's eyes only, whoever else is there.
    aside: bool = False

    @classmethod
    def of(cls, platform: str, address: Mapping[str, Any]) -> "Audience":
        """Who reads at an address, as the chats note it in a row."""
        if platform == "discord":
            places = [("channel", "channel"), ("channel", "parent"), ("guild", "guild")]
            return cls(
                tuple(f"discord:{kind}:{address[key]}" for kind, key in places if address.get(key)),
                bool(address.get("alone")), bool(address.get("restricted")),
            )  # fmt: skip
        if platform == "telegram":
            chat = str(address.get("chat", ""))
            # A private chat has its person's number, and a group's is negative.
            return cls((f"telegram:chat:{chat}",), alone=chat.isdigit())
        return ALONE


ALONE = Audience(alone=True)
_PLACE = re.compile(r"discord:(channel|guild):|telegram:chat:")


def _place(name: str) -> str:
    try:
        found = named(name)
    except ValueError:
        found = ""
    if not _PLACE.match(found):
        raise ValueError(
            f"“{name.strip()[:60]}” names no place; write for example discord:channel:123, "
            "discord:guild:123 or telegram:chat:-100123"
        )
    return found


Places = Annotated[tuple[Annotated[str, AfterValidator(_place)], ...], Field(strict=False)]
How = Annotated[Show, Field(strict=False)]


class Marked(_Table):
    """How pictures are shown that a check has marked, or that it could not look at: plain,
    spoiler (covered until somebody presses), blur (nobody sees the picture), or withhold."""

    show: How = Field(Show.SPOILER, description="Where others read along.")
    restricted: How = Field(Show.PLAIN, description="In Discord's age-restricted channels.")
    alone: How = Field(
        Show.SPOILER,
        description="To the asker alone: in a chat with the bot, in the web chat, and by /show on "
        "Discord where it is blurred or withheld.",
    )
    plain: Places = Field((), description="Places where it is otherwise; the nearest counts.")
    spoiler: Places = Field((), description="The same, covered.")
    blur: Places = Field((), description="The same, blurred.")
    withhold: Places = Field((), description="The same, withheld.")

    def to(self, audience: Audience) -> Show:
        """How what is marked is shown to an audience."""
        otherwise = (how for name in audience.names for how in Show if name in self.among(how))
        usual = self.restricted if audience.restricted else self.show
        how = next(otherwise, self.alone if audience.alone else usual)
        if audience.aside and how.hides:
            return min(how, self.alone, key=list(Show).index)
        return how

    def among(self, how: Show) -> tuple[str, ...]:
        """The places where it is shown like that."""
        places: tuple[str, ...] = getattr(self, how)
        return places


def _sign(text: str) -> str:
    if not 0 < len(text.strip()) <= 8:
        raise ValueError('a currency has a sign or a short name: "$" or "EUR"')
    return text.strip()


class Money(_Table):
    """How money is told."""

    currency: Annotated[str, AfterValidator(_sign)] = Field(
        "$", description="The sign or the name of the currency that all prices are in."
    )


Price = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
DEFAULT = "fast"


class Policy(_Table):
    """The whole file."""

    classes: Mapping[str, Class] = Field({DEFAULT: Class(queued=200, members=(EVERYONE,))})
    chat: Limits = Limits()
    line: Line = Line()
    access: Access = Access()
    words: Words = Words()
    prices: Mapping[str, Price] = Field(
        {},
        description="What a picture, or an answer, costs the host, by the model's name, or by that "
        "of an engine for all its models; the longer name counts.",
    )
    money: Money = Money()
    marked: Marked = Marked()

    def entitled(self, names: Iterable[str], granted: str = "") -> list[str]:
        """The classes that somebody of these names may be in, the heaviest first."""
        own = {EVERYONE, *names}
        found = [
            name for name, one in self.classes.items()
            if name == granted or not own.isdisjoint(one.members)
        ]  # fmt: skip
        return sorted(found, key=lambda name: -self.classes[name].weight)

    def of_class(self, name: str) -> Class:
        """The class of that name; the lightest where a host took it away since."""
        return self.classes.get(name) or min(self.classes.values(), key=lambda one: one.weight)

    def day(self, moment: datetime) -> str:
        """The day whose limits a moment counts for."""
        return (moment.astimezone(UTC) - self.line.start).date().isoformat()

    def renews(self, moment: datetime) -> float:
        """Seconds until the next day's limits."""
        return (self.began(moment) + timedelta(days=1) - moment).total_seconds()

    def began(self, moment: datetime) -> datetime:
        """When the day began whose limits a moment counts for."""
        since = moment.astimezone(UTC) - self.line.start
        return since.replace(hour=0, minute=0, second=0, microsecond=0) + self.line.start

    # What stands in the way

    def open_to(self, names: Iterable[str]) -> None:
        """Raises NotAllowed for those whom the lists keep out."""
        own = {EVERYONE, *names}
        if not own.isdisjoint(self.access.block):
            raise NotAllowed(tr("The host of this bot does not let you draw here."))
        if self.access.allow and own.isdisjoint(self.access.allow):
            raise NotAllowed(
                tr("The host of this bot lets it draw in other places only, not here.")
            )

    def drawable(self, requests: Iterable[Request]) -> None:
        """Raises NotAllowed for a prompt that holds what the host refuses to draw."""
        for prompt in {one.prompt for one in requests} if self.words.refuse else ():
            if phrase := self._refused(prompt):
                raise NotAllowed(
                    tr("The host of this bot does not draw “{phrase}”.", phrase=phrase)
                )

    def sayable(self, words: str) -> bool:
        """Whether what a model wrote, in whatever markup, holds nothing that the host refuses."""
        return not self._refused(re.sub(r"[*_`~]", "", words))

    def _refused(self, words: str) -> str:
        plain = _plain(words) if self.words.refuse else ""
        found = (re.search(rf"(?<!\w){re.escape(one)}(?!\w)", plain) and one
                 for one in self.words.refuse)  # fmt: skip
        return next(filter(None, found), "")

    def suits(self, name: str, requests: Sequence[Request]) -> None:
        """Raises InvalidOptions naming everything that is more than the class may ask."""
        limits, faults = self.of_class(name), []
        if limits.steps and (asked := max(one.steps for one in requests)) > limits.steps:
            faults.append(
                trn(
                    "Class {name} draws at most {n} step; asked: {asked}.",
                    "Class {name} draws at most {n} steps; asked: {asked}.",
                    limits.steps, name=name, asked=asked,
                )
            )  # fmt: skip
        if limits.side and (asked := max(max(one.size) for one in requests)) > limits.side:
            faults.append(
                trn(
                    "Class {name} draws at most {n} pixel a side; asked: {asked}.",
                    "Class {name} draws at most {n} pixels a side; asked: {asked}.",
                    limits.side, name=name, asked=asked,
                )
            )  # fmt: skip
        if limits.count and (asked := max(one.count for one in requests)) > limits.count:
            faults.append(
                trn(
                    "Class {name} draws at most {n} picture in one grid; asked: {asked}.",
                    "Class {name} draws at most {n} pictures in one grid; asked: {asked}.",
                    limits.count, name=name, asked=asked,
                )
            )  # fmt: skip
        if faults:
            raise InvalidOptions(faults)

    def price(self, request: Request) -> float:
        """What a request costs the host from its asking to its end."""
        if request.enhance:
            return self.step(request) + self.step(replace(request, enhance=""))
        return self.step(request)

    def step(self, request: Request) -> float:
        """What it costs to do the next with a request: to write its prompt, else to draw it."""
        if request.enhance:
            return self.price_of(request.enhance, words=True) or 0.0
        if request.mode == Mode.UPSCALE:
            return 0.0  # Whoever drew it, this house makes it larger.
        return (self.price_of(request.model, request.mode.words) or 0.0) * request.count

    def price_of(self, model: str, words: bool = False) -> float | None:
        """What the host says a picture of a model costs, or an answer in words; None where nothing
        is said of it, nor of its engine."""
        if not self.prices:
            return None
        known = {name.lower(): price for name, price in self.prices.items()}
        name = model.lower()
        if not (elsewhere := provider_of(name)):
            return known.get(name)
        # An engine alone stands for its usual model, which is another one for words.
        full = name if words else ":".join(elsewhere).lower()
        return known.get(full, known.get(elsewhere[0]))

    def said(self, amount: float) -> str:
        """So much money in words, as exact as it must be: $12.00, $0.0035, 3.50 EUR."""
        places = 2 if not 0 < amount < 1 else max(2, min(9, 2 - math.floor(math.log10(amount))))
        whole, _, part = f"{amount:.{places}f}".partition(".")
        figure = f"{whole}.{part.rstrip('0').ljust(2, '0')}"
        currency = self.money.currency
        return f"{figure} {currency}" if currency[-1].isalpha() else f"{currency}{figure}"

    def room(self, name: str, jobs: int, seconds: float, person: "Spent", chat: "Spent",
             moment: datetime, *, again: bool = False, cost: float = 0.0) -> None:  # fmt: skip
        """Raises TooMuch when these jobs are more than the person or the chat has left.

        A job tried `again` is in the day's number already.
        """
        line = self.line
        if line.cooldown and person.last:
            # A clock that went back must not shut anybody out for long.
            since = max(0.0, (moment - person.last).total_seconds())
            if since < line.cooldown:
                wait = line.cooldown - since
                words = tr(
                    "One request every {pause}, please: yours can come in {wait}.",
                    pause=duration(line.cooldown), wait=duration(wait),
                )  # fmt: skip
                raise TooMuch(words, wait)
        for own, limits, spent in ((True, self.of_class(name), person), (False, self.chat, chat)):
            _left(own, limits, spent, jobs, 0 if again else jobs, seconds, self.renews(moment))
            self._money_left(own, limits, spent, cost, moment)

    def dearer(self, name: str, seconds: float, person: "Spent", chat: "Spent",
               moment: datetime, *, cost: float = 0.0) -> None:  # fmt: skip
        """Raises TooMuch when a job in line may not take so many seconds, or cost so much, more."""
        for own, limits, spent in ((True, self.of_class(name), person), (False, self.chat, chat)):
            if seconds > 0:
                _time_left(own, limits, spent, seconds, self.renews(moment))
            self._money_left(own, limits, spent, cost, moment)

    def _money_left(
        self, own: bool, limits: Limits, spent: "Spent", cost: float, moment: datetime
    ) -> None:
        # Prices are no binary fractions: three of 0.1 are a little more than 0.3.
        most = limits.cost_per_day * (1 + 1e-9)
        if not limits.cost_per_day or cost <= 0 or spent.money + cost <= most:
            return
        values = {
            "used": self.said(spent.money), "most": self.said(limits.cost_per_day),
            "more": self.said(cost),
        }  # fmt: skip
        if own:
            words = tr(
                "Your pictures of today cost {used} of at most {most}, with those that are not "
                "yet drawn; this would cost {more} more.",
                **values,
            )
        else:
            words = tr(
                "This chat's pictures of today cost {used} of at most {most}, with those that are "
                "not yet drawn; this would cost {more} more.",
                **values,
            )
        free = tr("What costs nothing may be asked for all the same.")
        renews = self.renews(moment)
        raise TooMuch(f"{words} {free} {_again(renews)}", renews)

    def running(self, name: str, person: int, chat: int) -> bool:
        """Whether another picture may be drawn beside those being drawn for person and chat."""
        own, all_ = self.of_class(name).running, self.chat.running
        return (not own or person < own) and (not all_ or chat < all_)


@dataclass(frozen=True)
class Spent:
    """What a person or a chat has in line, has used today, and when they last asked; what today's
    pictures have cost, and what those will cost that are not over."""

    queued: int = 0
    jobs: int = 0
    seconds: float = 0.0
    last: datetime | None = None
    cost: float = 0.0
    due: float = 0.0

    @property
    def money(self) -> float:
        """What today's pictures cost, when all are drawn."""
        return self.cost + self.due


def _left(
    own: bool, limits: Limits, spent: Spent, jobs: int, fresh: int, seconds: float, renews: float
) -> None:
    """Raises TooMuch when jobs are more than the asker, or else the chat, has left."""
    if limits.queued and spent.queued + jobs > limits.queued:
        say = _too_many_of_yours if own else _too_many_of_the_chat
        raise TooMuch(say(jobs, spent.queued, limits.queued))
    if limits.jobs_per_day and spent.jobs + fresh > limits.jobs_per_day:
        say = _too_many_today if own else _too_many_here_today
        raise TooMuch(f"{say(jobs, spent.jobs, limits.jobs_per_day)} {_again(renews)}", renews)
    _time_left(own, limits, spent, seconds, renews)


def _time_left(own: bool, limits: Limits, spent: Spent, seconds: float, renews: float) -> None:
    if not limits.seconds_per_day or spent.seconds + seconds <= limits.seconds_per_day:
        return
    values = {
        "used": duration(spent.seconds), "most": duration(limits.seconds_per_day),
        "more": duration(seconds),
    }  # fmt: skip
    if own:
        words = tr(
            "You have used {used} of {most} of drawing today; this would take about {more} more.",
            **values,
        )
    else:
        words = tr(
            "This chat has used {used} of {most} of drawing today; this would take about {more} "
            "more.",
            **values,
        )
    raise TooMuch(f"{words} {_again(renews)}", renews)


def _too_many_of_yours(jobs: int, before: int, most: int) -> str:
    # Translators: where a form is also that of 21, write {n} instead of one.
    return trn(
        "You have {queued} of at most {most} pictures in line; one more would be too many. "
        "Wait for one, or cancel one.",
        "You have {queued} of at most {most} pictures in line; {n} more would be too many. "
        "Wait for one, or cancel one.",
        jobs, queued=before, most=most,
    )  # fmt: skip


def _too_many_of_the_chat(jobs: int, before: int, most: int) -> str:
    # Translators: where a form is also that of 21, write {n} instead of one.
    return trn(
        "This chat has {queued} of at most {most} pictures in line; one more would be too many. "
        "Wait for one, or cancel one.",
        "This chat has {queued} of at most {most} pictures in line; {n} more would be too many. "
        "Wait for one, or cancel one.",
        jobs, queued=before, most=most,
    )  # fmt: skip


def _too_many_today(jobs: int, before: int, most: int) -> str:
    # Translators: where a form is also that of 21, write {n} instead of one.
    return trn(
        "You have asked for {asked} of {most} pictures today; one more would be too many.",
        "You have asked for {asked} of {most} pictures today; {n} more would be too many.",
        jobs, asked=before, most=most,
    )  # fmt: skip


def _too_many_here_today(jobs: int, before: int, most: int) -> str:
    # Translators: where a form is also that of 21, write {n} instead of one.
    return trn(
        "This chat has asked for {asked} of {most} pictures today; one more would be too many.",
        "This chat has asked for {asked} of {most} pictures today; {n} more would be too many.",
        jobs, asked=before, most=most,
    )  # fmt: skip


def _again(renews: float) -> str:
    return tr("It renews in {wait}; /quota shows what is left.", wait=duration(renews))


def told(policy: Policy, name: str, choice: Sequence[str], person: Spent, chat: Spent,
         moment: datetime) -> str:  # fmt: skip
    """What is left to somebody, in lines for them."""
    own = policy.of_class(name)
    lines = [tr("Your class: {name}, weight {weight}.", name=name, weight=f"{own.weight:g}")]
    if len(choice) > 1:
        lines[0] += " " + tr("Yours to choose by /class: {classes}.", classes=", ".join(choice))
    if mine := _figures(policy, own, person):
        lines.append(tr("You: {figures}.", figures=mine))
    if ours := _figures(policy, policy.chat, chat):
        lines.append(tr("This chat: {figures}.", figures=ours))
    caps = []
    if own.steps:
        caps.append(trn("{n} step", "{n} steps", own.steps))
    if own.side:
        caps.append(trn("{n} pixel a side", "{n} pixels a side", own.side))
    if own.count:
        caps.append(trn("{n} picture in a grid", "{n} pictures in a grid", own.count))
    if caps:
        # Translators: {limits} are such as: 20 steps, 4 pictures in a grid.
        lines.append(tr("At most {limits}.", limits=", ".join(caps)))
    if len(lines) == 1:
        lines.append(tr("There is no limit on what you ask for."))
    if policy.prices:
        spent = policy.said(person.cost)
        lines.append(tr("What was drawn for you today has cost the host {money}.", money=spent))
    lines.append(tr("A new day begins in {wait}.", wait=duration(policy.renews(moment))))
    return "\n".join(lines)


def _figures(policy: Policy, limits: Limits, spent: Spent) -> str:
    """What is used of limits, in phrases; empty where there are none."""
    parts = []
    if limits.queued:
        parts.append(tr("{used} of {most} in line", used=spent.queued, most=limits.queued))
    if limits.running:
        parts.append(tr("at most {most} drawn at once", most=limits.running))
    if limits.jobs_per_day:
        parts.append(
            tr("{used} of {most} pictures today", used=spent.jobs, most=limits.jobs_per_day)
        )
    if limits.seconds_per_day:
        used, most = duration(spent.seconds), duration(limits.seconds_per_day)
        parts.append(tr("{used} of {most} of drawing today", used=used, most=most))
    if limits.cost_per_day:
        used, most = policy.said(spent.money), policy.said(limits.cost_per_day)
        # Translators: {used} and {most} are money, such as: $0.12 of $1.00.
        parts.append(tr("{used} of {most} for what is drawn today", used=used, most=most))
    return ", ".join(parts)


# The file


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line on which each table and key stands; tomllib itself forgets them."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    # As TOML counts them: other signs that end a line elsewhere may stand in a comment.
    for number, line in enumerate(text.split("\n"), 1):
        if head := re.match(r"\s*\[{1,2}([^\[\]#]+)\]", line):
            table = _path(head[1])
            found.setdefault(table, number)
        elif key := re.match(r"\s*((?:\"[^\"]*\"|'[^']*'|[\w.-])+)\s*=", line):
            path = _path(key[1])
            for most in range(1, len(path) + 1):
                found.setdefault((*table, *path[:most]), number)
    return found


def _path(dotted: str) -> tuple[str, ...]:
    # A name in quotes may have dots in it.
    parts = re.findall(r"\"([^\"]*)\"|'([^']*)'|([^.\"']+)", dotted)
    return tuple(double or single or plain.strip() for double, single, plain in parts)


def _known(table: Sequence[str]) -> list[str]:
    """The settings that a table of the file may hold."""
    kind: Any = Policy
    if table:
        kind = Class if table[0] == "classes" else Policy.model_fields[table[0]].annotation
    return sorted(kind.model_fields)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


# What pydantic's names of kinds mean to who writes the file.
_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a number with an end",
    "string_type": "text in quotes",
    "tuple_type": 'a list, such as ["everyone"]',
    "model_type": "a table, as in policy.example.toml",
    "dict_type": "tables, such as [classes.fast]",
}


def _word(error: Any, place: tuple[str, ...]) -> str:
    *table, name = place
    where = ".".join(place)[:80]
    got = f"got {_short(error.get('input'))}"
    kind = error["type"]
    match kind:
        case "extra_forbidden":
            known = _known(table)
            near = nearest(name, known)
            hint = f" Did you mean “{near}”?" if near else f" Known: {', '.join(known)}."
            return f"there is no setting “{where}”.{hint}"
        case "value_error":
            return f"“{where}”: {error['ctx']['error']}."
        case "enum":
            return f"“{where}” must be one of {', '.join(Show)}; {got}."
        case "greater_than_equal":
            return f"“{where}” must be at least {error['ctx']['ge']:g}; {got}."
        case "less_than_equal":
            return f"“{where}” must be at most {error['ctx']['le']:.0f}; {got}."
        case "dict_type" | "mapping_type" if name == "prices":
            return f"“{where}” must be a table, such as [prices]; {got}."
        case "float_type" if table[:1] == ["prices"] and isinstance(error.get("input"), dict):
            return f"“{where}”: a name with dots in it stands in quotes; {got}."
        case _:
            return f"“{where}” must be {_KINDS.get(kind, 'different')}; {got}."


def parse(text: str, name: str = "policy.toml") -> Policy:
    """A policy from the file's text. Raises PolicyFault with every mistake, by line and meaning."""
    try:
        made = Policy.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        bare = re.search(r"^[ \t]*[\w.-]+[:/][^=\n]*=", text, re.MULTILINE)
        hint = " A name with : or / in it stands in quotes." if bare else ""
        raise PolicyFault([f"{name} is not TOML: {error}.{hint}"]) from None
    except RecursionError:
        raise PolicyFault([f"{name} is nested too deeply."]) from None
    except ValidationError as error:
        lines, found = _lines(text), []
        for one in error.errors():
            place = tuple(part for part in one["loc"] if isinstance(part, str))
            at = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
            found.append((at, f"{name}, line {at}: {_word(one, place)}"))
        raise PolicyFault([words for _at, words in sorted(found)]) from None
    except (ValueError, OverflowError):
        # Python turns no more than some thousand digits into a number.
        raise PolicyFault([f"{name}: there is a number in it that is too long to read."]) from None
    lines = _lines(text)
    faults = [
        f"{name}, line {lines.get(('classes', one), 1)}: “{one}” is no name of a class; "
        "use up to 32 small letters, digits, - and _."
        for one in made.classes
        if not _CLASS.fullmatch(one)
    ]
    if not any(EVERYONE in one.members for one in made.classes.values()):
        faults.append(
            f'{name}, line {lines.get(("classes",), 1)}: no class has members = ["{EVERYONE}"]; '
            "whoever is in no class could ask for nothing."
        )
    for spot in dict.fromkeys(spot for how in Show for spot in made.marked.among(how)):
        hows = [how for how in Show if spot in made.marked.among(how)]
        if len(hows) > 1:
            faults.append(
                f"{name}, line {lines.get(('marked', hows[-1]), 1)}: {spot} stands in "
                f"“{hows[0]}” and in “{hows[-1]}”; leave it in one."
            )
    if faults:
        raise PolicyFault(faults)
    return made


@cache
def policy() -> Policy:
    """The host's policy, read on first use; without a file everybody is equal.

    Raises PolicyFault.
    """
    path = read(Chat).policy
    named = "policy" in read(Chat).model_fields_set
    try:
        if path == Path() or not (named or path.exists()):
            return Policy()
        return parse(path.read_text("utf-8-sig"), path.name)
    except UnicodeDecodeError:
        raise PolicyFault([f"{path} is not UTF-8. Save the file as UTF-8."]) from None
    except FileNotFoundError:
        raise PolicyFault([f"{path} cannot be read: it is not there."]) from None
    except OSError as error:
        raise PolicyFault([f"{str(path)[:200]} cannot be read: {error.strerror}."]) from None


# What the example shows.
PRICED = {"openai": 0.04, '"kie:seedream/4.5-text-to-image"': 0.0325}


def example() -> str:
    """`policy.example.toml`, written from the declarations."""
    out = [
        "# Who may ask what, how often and with which weight. Copy to policy.toml and change it.",
        "# A person, place or role is named as discord:1, discord:role:1, discord:channel:1,",
        "# discord:guild:1, telegram:1, telegram:chat:-1, web:local, moderator or everyone; /quota",
        "# tells everybody their own name. discord:user:1 is discord:1.",
    ]
    shown: list[tuple[str, type[_Table], Mapping[str, Any]]] = [
        ("classes.turbo", Class, {"weight": 4, "members": ["discord:role:123", MODERATOR]}),
        ("classes.fast", Class, {"weight": 2, "members": [EVERYONE], "queued": 200}),
        ("classes.relax", Class, {"weight": 1, "members": [EVERYONE], "queued": 20, "running": 1}),
        ("chat", Limits, {}),
        ("line", Line, {}),
        ("access", Access, {}),
        ("words", Words, {}),
        ("money", Money, {}),
        ("marked", Marked, {}),
    ]
    explained: set[type[_Table]] = set()
    for table, kind, values in shown:
        about = re.sub(r"\n\s*", "\n# ", (kind.__doc__ or "").strip())
        if table == "chat":
            about = "How much may be asked for in one chat or channel, by all in it; 0 is no limit."
        out += ["", f"# {about}" if kind not in explained else "", f"[{table}]"]
        for name, field in kind.model_fields.items():
            if kind not in explained:
                out.append(f"# {field.description}")
            out.append(
                f"{'' if name in values else '#'}{name} = {_toml(values.get(name, field.default))}"
            )
        explained.add(kind)
    lines = textwrap.wrap(str(Policy.model_fields["prices"].description), 88)
    out += ["", *(f"# {line}" for line in lines), "[prices]"]
    out += [f"#{name} = {price}" for name, price in PRICED.items()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f"{value}"
