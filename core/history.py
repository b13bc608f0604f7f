"""What somebody asked for, found again: by words, mode, state, model and date, page by page; its
family, its counts, and how one has it deleted.

A page is found by the number it goes on from, never by counting those before it. The button that
turns it carries the number of a question that is kept: filters and edges of the page it stands
under.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY

from core import costs, marks
from core.asking import Ask, Reply, generation_id, one_picture
from core.cards import ACTIONS, PAGES, Button, show_of
from core.database import SIGNS, WORDS, files, generations, now
from core.engine import MARK
from core.errors import InvalidOptions, NotAllowed, NotFound, UserError, duration
from core.house import House
from core.keeping import held_alone
from core.languages import mark, tr, trn
from core.lifecycle import FINAL, PENDING, State
from core.lineage import family
from core.lines import hosts_own, titled
from core.options import COMMAND_OF, Mode
from core.people import Asker
from core.policy import Audience, Show, policy
from core.rows import Generation
from core.settings import Chat, read

# What is kept of a page is kept like a question, under this command's name.
HISTORY = "history"
# Lines of a page: as many as a picture's caption holds on every chat.
PAGE = 8
PROMPT = 60
# Where everybody reads what is answered in a group.
OPEN = ("telegram",)
# The shortest beginning of a word that is looked for.
SHORTEST = 2
EXAMPLES = {
    "mode": "mode:remix",
    "state": "state:failed",
    "model": "model:starter",
    "since": "since:7d",
    "until": "until:2026-11-01",
    "before": "before:120",
    "chat": "chat:yes",
    "tag": "tag:sea",
    "favourite": "favourite:yes",
}
MODES = {COMMAND_OF[mode]: mode for mode in Mode} | {str(mode): mode for mode in Mode}
ANSWERS = ("yes", "no")
YES = ("yes",)
# A filter, words in quotes, or a word.
_PART = re.compile(r'(?:([A-Za-z_]+):)?(?:"([^"]*)"|[“„«]([^“”»]*)[“”»]|(\S*))')
_AGO = re.compile(r"([1-9][0-9]{0,3})\s*([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
# What is a picture, or was to be one.
_DRAWN = func.coalesce(generations.c.request["mode"].as_string(), "").not_in(
    [str(mode) for mode in Mode if mode.words]
)
_PARTED = str.maketrans(SIGNS.replace("*", ""), " " * (len(SIGNS) - 1))


@dataclass(frozen=True)
class Filters:
    """What is looked for. Moments are ISO 8601, so that a question can be kept as JSON."""

    words: str = ""
    mode: str = ""
    state: str = ""
    model: str = ""
    since: str = ""
    until: str = ""
    # Everybody's of this chat, and of this channel in it; empty: the asker's own, from anywhere.
    chat: str = ""
    channel: str = ""
    # What the asker keeps them under; everybody's are the asker's own, then.
    tag: str = ""
    favourite: str = ""

    def __str__(self) -> str:
        """The filters as one says them."""
        told = [f"“{self.words}”"] if self.words else []
        if self.mode:
            told.append(tr("mode {mode}", mode=self.mode))
        if self.state:
            told.append(tr("state {state}", state=self.state))
        if self.model:
            told.append(tr("model {model}", model=self.model))
        if self.since:
            told.append(tr("since {day}", day=self.since[:10]))
        if self.until:
            # The last day of it, not the midnight that ends that.
            last = datetime.fromisoformat(self.until) - timedelta(microseconds=1)
            told.append(tr("until {day}", day=last.date()))
        if self.tag:
            told.append(tr("tag {tag}", tag=self.tag))
        if self.favourite:
            told.append(tr("favourites"))
        return ", ".join(told)


def filtered(
    given: Mapping[str, Any], ask: Ask, *, called: Mapping[str, str] | None = None
) -> tuple[Filters, int | None]:
    """The filters that were given by name, or typed among the words, and where to go on from.

    `called`, where it is given, is what a program calls those that it knows by another name; its
    words hold none. Raises InvalidOptions naming every fault at once.
    """
    # What no database takes as text.
    told = {
        name: str(value or "").replace("\0", " ").encode(errors="replace").decode().strip()
        for name, value in given.items()
    }
    line = told.get("words", "")
    found: dict[str, str]
    faults: list[str]
    found, words, faults = _typed(line) if called is None else ({}, line, [])
    found |= {name: told[name] for name in EXAMPLES if told.get(name)}
    made: dict[str, str] = {}
    for name, value in found.items():
        try:
            made[name] = _VALUES[name](value)
        except UserError as error:
            faults.append(str(error))
        except ValueError as error:
            wrong = mark("“{name}:” {wrong}; got {value}.")
            if called is not None:
                name, wrong = called.get(name, name), mark("“{name}” {wrong}; got {value}.")
            faults.append(tr(wrong, name=name, wrong=str(error), value=value[:40]))
    if made.get("since") and made.get("until") and made["since"] >= made["until"]:
        early = mark("“since:” must be earlier than “until:”.")
        faults.append(tr(early if called is None else mark("“since” must be before “until”.")))
    if words and not _searched(words):
        faults.append(tr("Look for words or numbers: signs alone are not found."))
    if faults:
        raise InvalidOptions(faults)
    before = int(made.pop("before", 0)) or None
    if made.pop("chat", "") == "yes":
        made |= {"chat": ask.asker.chat, "channel": str(ask.address.get("channel") or "")}
        if not made["chat"]:
            raise UserError(tr("This chat is yours alone: /history shows all there is."))
    return Filters(words=words, **made), before


def _typed(line: str) -> tuple[dict[str, str], str, list[str]]:
    """Filters, words and faults of `lighthouse storm state:failed since:7d`."""
    found: dict[str, str] = {}
    words: list[str] = []
    faults: list[str] = []
    for part in _PART.finditer(line):
        name, value = (part[1] or "").lower(), part[2] or part[3] or part[4] or ""
        if not name:
            if value.startswith(("--", "—")):
                faults.append(tr("Filters are written without dashes, such as state:failed."))
            elif value:
                words.append(value)
        elif name not in EXAMPLES:
            faults.append(
                tr(
                    "There is no filter “{name}:”. Known: {names}. A word with a colon stands in "
                    "quotes.",
                    name=name[:20], names=", ".join(EXAMPLES.values()),
                )
            )  # fmt: skip
        elif not value:
            faults.append(
                tr("“{name}:” needs a value, such as {example}.", name=name, example=EXAMPLES[name])
            )
        elif name in found:
            faults.append(tr("“{name}:” stands there twice.", name=name))
        else:
            found[name] = value
    return found, " ".join(words), faults


def _one_of(known: Mapping[str, str], told: str) -> Any:
    def read_(value: str) -> str:
        if value.lower() not in known:
            raise ValueError(tr("must be one of {choices}", choices=tr(told)))
        return known[value.lower()]

    return read_


def _moment(value: str, *, end: bool = False) -> datetime:
    """`2026-11-01` (in UTC), or `7d` ago."""
    if ago := _AGO.fullmatch(value.lower()):
        return now() - int(ago[1]) * _UNITS[ago[2]]
    try:
        day = date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else None
        if day is None:
            raise ValueError
        return datetime.combine(day + timedelta(days=end), time(), UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            tr("must be a date such as 2026-11-01, or how long ago, such as 12h, 7d or 2w")
        ) from None


def _number(value: str) -> str:
    found = re.fullmatch(r"#?([0-9]{1,12})", value)
    if not found or not int(found[1]):
        raise ValueError(tr("must be a picture's number, such as 120"))
    return str(min(int(found[1]), 2**31 - 1))


_VALUES: dict[str, Any] = {
    "mode": _one_of({name: str(mode) for name, mode in MODES.items()}, ", ".join(
        COMMAND_OF.values())),
    "state": _one_of({str(state): str(state) for state in State}, ", ".join(State)),
    "model": lambda value: value,
    "since": lambda value: _moment(value).isoformat(),
    "until": lambda value: _moment(value, end=True).isoformat(),
    "before": _number,
    "chat": _one_of({word: word for word in ANSWERS}, mark("yes or no")),
    "tag": marks.tag_of,
    "favourite": _one_of({word: word for word in YES}, YES[0]),
}  # fmt: skip


# Finding


def _searched(words: str) -> list[str]:
    """The words to look for, as the databases part those of a prompt; `light*` begins one."""
    found = words.translate(_PARTED).split()
    return [word for word in found if any(map(str.isalnum, word))]


def find(
    house: House, ask: Ask, filters: Filters, limit: int, *, before: int | None = None,
    after: int | None = None, skip: int = 0, drawn: bool = False,
) -> list[Generation]:  # fmt: skip
    """What fits, newest first: the asker's own, or a shared chat's, older than `before`; or the
    next newer than `after`; without so many of the first; or only what is `drawn`, no words."""
    columns, request = generations.c, generations.c.request
    where: list[ColumnElement[bool]] = [columns.deleted.is_(None)]
    # What somebody keeps pictures under is told to nobody else.
    kept = filters.tag or filters.favourite
    if filters.chat:
        where += _public(filters)
        who = f"in:{filters.chat}"
    if kept or not filters.chat:
        person = house.people.get(ask.asker.platform, ask.asker.id).id
        where.append(columns.person == person)
        who = f"by:{person}"
    if filters.tag:
        where.append(marks.having(filters.tag))
    if filters.favourite:
        where.append(marks.having(marks.FAVOURITE))
    if filters.words:
        where.append(_worded(house, filters.words, who))
    if filters.mode:
        # Rows of the first versions name no mode.
        where.append(func.coalesce(request["mode"].as_string(), str(Mode.TEXT)) == filters.mode)
    if drawn:
        where.append(_DRAWN)
    if filters.model:
        where.append(func.lower(request["model"].as_string()) == filters.model.lower())
    if filters.state:
        where.append(columns.state == filters.state)
    if filters.since:
        where.append(columns.created >= datetime.fromisoformat(filters.since))
    if filters.until:
        where.append(columns.created < datetime.fromisoformat(filters.until))
    if before:
        where.append(columns.id < before)
    if after:
        where.append(columns.id > after)
    if drawn:
        where.append(columns.text.is_(None))
    order = columns.id.asc() if after else columns.id.desc()
    found = house.generations.found(
        select(generations).where(*where).order_by(order).limit(limit).offset(skip or None)
    )
    return found[::-1] if after else found


def _public(filters: Filters) -> list[ColumnElement[bool]]:
    """What everybody in a chat has seen there: nothing that is marked, however it was shown."""
    columns = generations.c
    where = [
        columns.chat == filters.chat,
        columns.state == State.DONE,
        columns.message.is_not(None),
        columns.undeliverable.is_(None),
        cast(columns.results, Text).not_like(f'%"{MARK}"%'),
    ]
    if filters.channel:
        # A thread counts as its channel, and may be one that few can read.
        where.append(columns.address["channel"].as_string() == filters.channel)
    return where


def _worded(house: House, words: str, who: str) -> ColumnElement[bool]:
    """Rows whose prompt has all these words, in any order."""
    whole, stems = [], []
    for word in _searched(words):
        stem = word.rstrip("*")
        if word != stem and len(stem) >= SHORTEST and "*" not in stem:
            stems.append(stem)
        else:
            whole += stem.split("*")
    if house.database.engine.dialect.name == "postgresql":
        told = who.replace("\\", "\\\\").replace("'", "''")
        query: Any = cast(literal(f"'{told}'", String), TSQUERY)
        simple = cast(literal("simple", String), REGCONFIG)
        if whole:
            query = query.op("&&")(func.plainto_tsquery(simple, " ".join(whole)))
        for stem in stems:
            query = query.op("&&")(func.to_tsquery(simple, f"'{stem}':*"))
        return literal_column(WORDS).op("@@")(query)
    if not _indexed(house):
        prompt = func.lower(generations.c.request["prompt"].as_string())
        held = [prompt.contains(word.lower(), autoescape=True) for word in (*whole, *stems)]
        return and_(*held)
    phrases = [*(f'"{word}"' for word in whole), *(f'"{stem}"*' for stem in stems)]
    match = text("prompts MATCH :phrases").bindparams(phrases=" ".join(phrases))
    rows: Select[Any] = select(literal_column("rowid")).select_from(text("prompts")).where(match)
    return generations.c.id.in_(rows)


def _indexed(house: House) -> bool:
    """Whether this SQLite had FTS5 when its tables were made."""
    with house.database.read() as connection:
        there = text("SELECT 1 FROM sqlite_master WHERE name = 'prompts'")
        return connection.execute(there).one_or_none() is not None


# Answering


def history(house: House, ask: Ask) -> Reply:
    filters, before = filtered(ask.given, ask)
    _may_look(ask, filters)
    return _page(house, ask, filters, before=before)


def turn(house: House, action: str, number: int, ask: Ask) -> Reply:
    """The page beside the one that a button stands under. Raises NotFound and NotAllowed."""
    try:
        kept = house.proposals.get(number, ask.asker)
    except NotAllowed:
        raise NotAllowed(
            tr("Only who asked for this list can turn its pages. /history shows you yours.")
        ) from None
    except NotFound:
        kept = None
    if kept is None or kept.command != HISTORY:
        raise NotFound(tr("That list is too old to be turned. Ask again with /history."))
    filters = Filters(**kept.given["filters"])
    _may_look(ask, filters)
    if action == PAGES[0]:
        return _page(house, ask, filters, after=int(kept.given["first"]))
    return _page(house, ask, filters, before=int(kept.given["last"]))


def _may_look(ask: Ask, filters: Filters) -> None:
    """Raises NotAllowed where what is asked for would reach whom it should not."""
    if filters.chat:
        if not read(Chat).shared_history:
            raise NotAllowed(
                tr("The host of this bot shares no chat's history. /history shows you yours.")
            )
        if filters.chat != ask.asker.chat:
            raise NotAllowed(tr("That is the history of another chat."))
    elif ask.asker.platform in OPEN and not _audience(ask).alone:
        raise NotAllowed(tr("Write /history to me alone, where nobody reads along."))


def _audience(ask: Ask) -> Audience:
    """Who reads the answer: beside the asker nobody, or it was refused."""
    return replace(Audience.of(ask.asker.platform, ask.address), aside=True)


def _page(
    house: House, ask: Ask, filters: Filters, *, before: int | None = None,
    after: int | None = None,
) -> Reply:  # fmt: skip
    found = find(house, ask, filters, PAGE + 1, before=before, after=after)
    if after and len(found) <= PAGE:
        # Fewer than a page are newer: the first page, with what has come since.
        before = after = None
        found = find(house, ask, filters, PAGE + 1)
    if not found:
        return Reply(_none(house, ask, filters, before))
    beyond = len(found) > PAGE
    shown = found[1:] if after and beyond else found[:PAGE]
    newer, older = (beyond, True) if after else (before is not None, beyond)
    lines = [_title(filters), *map(_line, shown)]
    turned = [way for way, there in zip(PAGES, (newer, older), strict=True) if there]
    buttons: tuple[Button, ...] = ()
    if turned:
        edges = {"first": shown[0].id, "last": shown[-1].id}
        number = house.proposals.keep(
            ask.asker, ask.event, HISTORY, {"filters": asdict(filters), **edges}, (), {}
        )
        buttons = tuple(Button(way, number, tr(ACTIONS[way])) for way in turned)
    audience = _audience(ask)
    small = tuple(
        one for one in shown
        if one.state == State.DONE and one.results and show_of(one, audience) == Show.PLAIN
    )  # fmt: skip
    return Reply("\n".join(lines), buttons=buttons, thumbnails=small)


def _title(filters: Filters) -> str:
    told = str(filters)
    if filters.chat:
        if told:
            return tr("Drawn in this chat, newest first ({filters}):", filters=told)
        return tr("Drawn in this chat, newest first:")
    if told:
        return tr("Your pictures, newest first ({filters}):", filters=told)
    return tr("Your pictures, newest first:")


def _line(one: Generation) -> str:
    told = one.request.prompt or (one.text or "")[: 2 * PROMPT]
    words = " ".join(told.split()) or COMMAND_OF[one.request.mode]
    words = words if len(words) <= PROMPT else words[: PROMPT - 1] + "…"
    return f"#{one.id} {one.state.said}, {_age(one)}: {words}"


def _age(one: Generation) -> str:
    seconds = max(0.0, (now() - one.created).total_seconds())
    if seconds < 2 * 86400:
        return tr("{time} ago", time=duration(round(seconds)))
    return trn("{n} day ago", "{n} days ago", round(seconds / 86400))


def _none(house: House, ask: Ask, filters: Filters, before: int | None) -> str:
    told, here = str(filters), bool(filters.chat)
    if before and told:
        in_chat = mark("There is nothing in this chat before #{number} ({filters}).")
        mine = mark("There is nothing of yours before #{number} ({filters}).")
        return tr(in_chat if here else mine, number=before, filters=told)
    if before:
        in_chat = mark("There is nothing in this chat before #{number}.")
        mine = mark("There is nothing of yours before #{number}.")
        return tr(in_chat if here else mine, number=before)
    if told:
        in_chat = mark("Nothing in this chat fits {filters}. Try fewer words, or /history alone.")
        mine = mark("Nothing of yours fits {filters}. Try fewer words, or /history alone.")
        return tr(in_chat if here else mine, filters=told)
    if here:
        return tr("Nothing was drawn in this chat yet.")
    return tr("You have no pictures yet. /imagine draws one.")


def stats(house: House, ask: Ask) -> Reply:
    """Counts and times, those of deleted ones too: they were drawn."""
    today, every = counts(house, ask.asker)
    told = [tr("You have asked for nothing yet. /imagine draws a picture.")]
    if every["total"]:
        told = [
            tr("Today: {figures}", figures=_counted(today)),
            tr("In all: {figures}", figures=_counted(every)),
        ]
    if costs.may_see(ask.asker):
        # What all of them cost is nothing for a group to read.
        if ask.asker.platform in OPEN and not _audience(ask).alone:
            told.append(tr("Write /stats to me alone to see what everybody's have cost."))
        else:
            told += costs.told(costs.everybodys(house.database))
    return Reply("\n".join(told))


def counts(house: House, asker: Asker) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """How much somebody asked for, the time it took, of that what engines elsewhere took by their
    lines, and what it cost, today and in all."""
    person = house.people.get(asker.platform, asker.id).id
    since = policy().began(now())
    columns = generations.c
    drawn = and_(columns.state == State.DONE, columns.charged > 0, _DRAWN)

    def number(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    figures = select(
        func.count().label("total"),
        *(number(columns.state == state).label(str(state)) for state in State),
        func.avg(case((drawn, columns.seconds))).label("average"),
        func.coalesce(func.sum(columns.cost), 0.0).label("cost"),
    ).where(columns.person == person)
    spent: Any = func.sum(columns.charged)
    times = (
        select(columns.line, spent)
        .where(columns.person == person, columns.state.in_(list(FINAL)), columns.charged > 0)
        .group_by(columns.line)
        .order_by(spent.desc(), columns.line)
    )
    found = []
    with house.database.read() as connection:
        for lately in (columns.created >= since, true()):
            one = connection.execute(figures.where(lately)).one()
            took = {row.line: row[1] for row in connection.execute(times.where(lately))}
            found.append({
                **one._mapping, "seconds": sum(took.values(), 0.0),
                "own": sum(seconds for line, seconds in took.items() if hosts_own(line)),
                "elsewhere": {line: took[line] for line in took if not hosts_own(line)},
            })  # fmt: skip
    return found[0], found[1]


def _counted(found: Mapping[str, Any]) -> str:
    # No language's words for them go with every number.
    told = [f"{state.said} {found[str(state)]}" for state in State
            if found[str(state)] or state in FINAL]  # fmt: skip
    words = [tr("{number} asked for: {states}.", number=found["total"], states=", ".join(told))]
    if found["average"] is not None:
        words.append(tr("{time} a drawing on average.", time=duration(found["average"])))
    elsewhere = found["elsewhere"]
    if found["own"] or not elsewhere:
        own = duration(found["own"])
        words.append(tr("{time} on the host's own machines (GPU time).", time=own))
    if elsewhere:
        told = [f"{titled(line)} {duration(seconds)}" for line, seconds in elsewhere.items()]
        # Translators: how long each engine elsewhere drew or wrote.
        words.append(tr("Elsewhere: {engines}.", engines=", ".join(told)))
    if policy().prices:
        words.append(tr("It cost the host {money}.", money=policy().said(found["cost"])))
    return " ".join(words)


def tree(house: House, ask: Ask) -> Reply:
    number, _place = one_picture(house, ask, mark("You have nothing to look at."))
    asked = house.generations.visible(number, ask.asker)
    found = family(house, asked, ask.asker, _audience(ask))
    if len(found.members) == 1:
        return Reply(
            tr("#{number} has no family yet: /vary, /remix or /upscale it, or /retry.",
               number=number)
        )  # fmt: skip
    title = tr("The family of #{number}:", number=number)
    return Reply("\n".join([title, *found.lines()]), family=found)


def delete(house: House, ask: Ask) -> Reply:
    number = generation_id(ask.given["id"])
    one = house.generations.own(number, ask.asker)
    if one.state in PENDING:
        raise NotAllowed(
            tr(
                "#{number} is still {state}: /cancel {number} first.",
                number=number, state=one.state.said,
            )
        )  # fmt: skip
    pictures = {str(result["key"]) for result in one.results}
    alone = held_alone(house, [number], pictures)
    # The files go first: with its row gone, nobody would know of them.
    for key in alone:
        house.media.delete(key)
    gone = house.generations.delete(number, ask.asker)
    words = tr("#{number} is deleted: its prompt is gone.", number=number)
    if pictures:
        words = trn(
            "#{number} is deleted: its picture and its prompt are gone.",
            "#{number} is deleted: its pictures and its prompt are gone.",
            len(pictures), number=number,
        )  # fmt: skip
    if one.message:
        words += f" {tr('Its card says so.')}"
    if stay := pictures - alone:
        words += f" {_kept_by(house, ask, stay)}"
    return Reply(words, gone)


def _kept_by(house: House, ask: Ask, keys: set[str]) -> str:
    """Which others of the asker's own need some files, in words; nobody else's is named."""
    person = house.people.get(ask.asker.platform, ask.asker.id).id
    columns = generations.c
    with house.database.read() as connection:
        ids = connection.execute(
            select(columns.id)
            .join(files, files.c.generation == columns.id)
            .where(files.c.key.in_(keys), columns.person == person)
            .order_by(columns.id)
            .distinct()
            .limit(PAGE)
        ).scalars().all()  # fmt: skip
    if not ids:
        return tr("Another request drew exactly the same and keeps the file.")
    named = ", ".join(f"#{id_}" for id_ in ids)
    return trn(
        "Needed by {pictures}, the file stays until that is deleted, too.",
        "Needed by {pictures}, the file stays until those are deleted, too.",
        len(ids), pictures=named,
    )  # fmt: skip
