"""`/forget`: everything of a person goes, wherever it is kept; what stays is told, and why.

The note that somebody leaves and whatever is kept in a few rows go in one transaction. Pictures go
after it, some at a time: at once by whoever was asked, the rest by the worker's sweep. Whoever is
killed in between, another goes on; each step may be done twice. What the chats show is taken away
by their posters, from rows that hold nothing else any more.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from core.asking import Ask, Reply
from core.cards import QUESTIONS, Button
from core.database import AWAY, generations, leavers, metadata, now, one_at_a_time, usage
from core.errors import report
from core.export import let_go
from core.history import YES
from core.house import House
from core.keeping import held_alone
from core.languages import tr, trn
from core.lifecycle import FINAL, PENDING, State
from core.people import KEY, Person, copy_usage
from core.policy import policy
from core.reports import told_anew, unname
from core.rows import Generation

log = logging.getLogger("drawqueue")

# What is kept of the question, like that of many pictures, under this command's name.
FORGET = "forget"
# Pictures that go together, and for how long somebody waits before the rest is left to a sweep.
BATCH = 100
AT_ONCE_SECONDS = 8.0
# For how long one process has a leaver for itself, unless it says again that it has.
TURN_SECONDS = 60


@dataclass(frozen=True)
class Gone:
    """Rows that go with a person: those that name an account of theirs in a column, or as platform
    and id in two, or as the id of a `platform`; or those that belong to a row `of` another table
    which goes."""

    by: tuple[str, ...]
    of: str = ""
    platform: str = ""


@dataclass(frozen=True)
class Unnamed:
    """Rows that stay, and forget the person where these columns name an account of theirs."""

    by: tuple[str, ...]


@dataclass(frozen=True)
class Emptied:
    """Rows that stay with nothing of a person in them: which columns are emptied, and which stay.

    Every column is in one of the two.
    """

    columns: tuple[str, ...]
    stay: tuple[str, ...]


@dataclass(frozen=True)
class Nobody:
    """Rows that are nobody's, and why that is so."""

    why: str


# How each table forgets a person: whoever adds a table, or a column to one whose rows stay, says
# it here, or the tests fail.
HOW: Mapping[str, Gone | Unnamed | Emptied | Nobody] = {
    # The number stays, so that no other picture gets it, and what the host counts. The message
    # and its address go as soon as a poster has taken the message away.
    "generations": Emptied(
        ("event", "asker", "asker_name", "address", "request", "parent", "manner", "person",
         "chat", "class_name", "error", "results", "fingerprint", "message", "undeliverable",
         "task", "text"),
        ("id", "platform", "priority", "charged", "cost", "line", "due", "state", "attempt",
         "restarts", "version", "enqueued", "seconds", "deleted", "removed", "created", "started",
         "ended",
         "shown_version", "shown_media", "editor", "editor_until", "mentioned"),
    ),
    "files": Gone(("generation",), of="generations"),
    "marks": Gone(("generation",), of="generations"),
    "shared": Gone(("generation",), of="generations"),
    "people": Gone(("platform", "id")),
    "links": Gone(("platform", "id")),
    # Goes when the day's limits renew.
    "usage": Gone(("who",)),
    "leavers": Gone(("person",)),
    "proposals": Gone(("platform", "asker")),
    "updates": Nobody("a body is emptied when it is handled, seconds after it came"),
    "secrets": Nobody("what links are signed with"),
    "keys": Gone(("owner",)),
    "accounts": Gone(("id",), platform="web"),
    "sessions": Gone(("account",)),
    "offered": Unnamed(("added_by",)),
    "tastes": Gone(("who",)),
    "presets": Gone(("owner",)),
    "shares": Gone(("preset",), of="presets"),
    # What moderators decided stays; who reported, and who decided, is nobody any more.
    "reports": Emptied(
        ("reporter", "reporter_name", "reason", "decided_by", "decided_name"),
        ("generation", "created", "decision", "decided", "words", "fingerprint"),
    ),
    # With its files.
    "exports": Gone(("person",)),
    "notices": Nobody("moderators' messages, which are shown anew without a name"),
}  # fmt: skip
# Those whose rows do not go at once.
LATER = ("generations", "usage", "leavers", "exports")


def forget(house: House, ask: Ask) -> Reply:
    """`/forget`: tell what goes and what stays; agreed to, do it."""
    if str(ask.given.get("sure") or "").strip().lower() not in YES and not ask.agreed:
        number = house.proposals.keep(ask.asker, ask.event, FORGET, {}, (), ask.address)
        labels = tr("Yes, forget me"), tr("No, keep everything")
        buttons = (
            Button(action, number, label) for action, label in zip(QUESTIONS, labels, strict=True)
        )
        return Reply(_question(house, ask), buttons=tuple(buttons))
    person = house.people.get(ask.asker.platform, ask.asker.id)
    leaver = _leave(house, person)
    over = False
    try:
        over = _go_on(house, leaver, AT_ONCE_SECONDS)
    except (RedisError, *AWAY) as error:
        log.warning("forgetting is left to the sweep: %s", type(error).__name__)
    except Exception as error:  # A storage that is away: it is noted, and goes on by itself.
        report("forgetting is left to the sweep", error)
    if over:
        told = tr("Everything of yours is forgotten.")
    else:
        told = tr("You are being forgotten: what is left goes by itself in a few minutes.")
    if ask.asker.platform == "web":
        return Reply(told + " " + tr("Reload this page to see that nothing is left."))
    return Reply(told + " " + tr("My messages with your pictures go one after the other."))


def _question(house: House, ask: Ask) -> str:
    person = house.people.get(ask.asker.platform, ask.asker.id)
    with house.database.read() as connection:
        names = _names(connection, person)
        asked = connection.execute(
            select(func.count()).where(_theirs(names), generations.c.deleted.is_(None))
        ).scalar_one()
        presets, keys, accounts, sessions = (
            connection.execute(
                select(func.count()).select_from(metadata.tables[table]).where(_named(table, names))
            ).scalar_one()
            for table in ("presets", "keys", "accounts", "sessions")
        )
    goes = [
        trn(
            "your {n} request: its prompt, its pictures, and what you sent along",
            "your {n} requests: their prompts, their pictures, and what you sent along", asked,
        ),
        tr("your settings, the questions I asked you, your class, the mention you turned off"),
        trn("{n} preset of yours, also where you share it",
            "{n} presets of yours, also where you share them", presets) if presets else "",
        trn("{n} key for programs, which works no more",
            "{n} keys for programs, which work no more", keys) if keys else "",
        tr("your account of the web chat, with its password") if accounts else "",
        tr("every browser that you are signed in with") if sessions else "",
        tr("my messages with your pictures. Telegram lets me delete them for 48 hours; out of "
           "older ones I take the picture and the words")
        if any(name.startswith("telegram:") for name in names)
        else tr("my messages with your pictures"),
    ]  # fmt: skip
    stays = [
        tr("how much you drew today and reported in this hour, until it renews: nobody gets a "
           "second quota by leaving"),
        tr("the numbers of your pictures, with nothing in them: no other picture gets them"),
        tr("a picture that somebody else's request shows just the same"),
        tr("what you wrote yourself, and what /show put into a chat again: I keep no list of "
           "those, please delete them there"),
        tr("what moderators decided of a picture, without your name"),
        tr("my messages where I cannot get to any more"),
    ]  # fmt: skip
    lines = [tr("Shall I forget everything of yours, for good? That goes:")]
    lines += [f"• {line}" for line in goes if line]
    if others := [name for name in person.everyone if name != ask.asker.account]:
        told = tr("It counts for all your accounts, which are then by themselves: {accounts}",
                  accounts=", ".join(others))  # fmt: skip
        lines.append(told)
    lines.append(tr("That stays, and why:"))
    lines += [f"• {line}" for line in stays]
    lines.append(tr("/export gives you a copy of it first."))
    return "\n".join(lines)


# What is theirs


def _names(connection: Connection, person: Person) -> list[str]:
    """All that a person is called: accounts, keys of theirs among them, and chats of theirs alone.

    What was asked for by each of them is found by these.
    """
    people, keys = metadata.tables["people"], metadata.tables["keys"]
    rows = connection.execute(
        select(people.c.platform, people.c.id).where(people.c.person == person.id)
    )
    names = [*person.everyone, *(f"{row.platform}:{row.id}" for row in rows)]
    owned = select(keys.c.id).where(keys.c.owner.in_(names))
    names += [f"web:{KEY}{number}" for number in connection.execute(owned).scalars()]
    alone = select(generations.c.chat).where(
        generations.c.person == person.id, generations.c.address["alone"].as_boolean()
    )
    names += connection.execute(alone.distinct()).scalars()
    # Telegram's private chats have their person's number.
    names += [name.replace(":", ":chat:", 1) for name in names if name.startswith("telegram:")]
    return [name for name in dict.fromkeys(names) if name]


def _named(table: str, names: Sequence[str]) -> ColumnElement[bool]:
    """The rows of a table that name one of these."""
    how, columns = HOW[table], metadata.tables[table].c
    assert isinstance(how, Gone | Unnamed)
    if isinstance(how, Gone) and how.platform:
        own = f"{how.platform}:"
        ids = [name.removeprefix(own) for name in names if name.startswith(own)]
        return columns[how.by[0]].in_(ids)
    if len(how.by) == 1 or isinstance(how, Unnamed):
        return or_(*(columns[name].in_(names) for name in how.by))
    platform, id_ = (columns[name] for name in how.by)
    pairs = (name.split(":", 1) for name in names)
    return or_(*(and_(platform == one, id_ == other) for one, other in pairs))


def _theirs(names: Sequence[str]) -> ColumnElement[bool]:
    # A row that is forgotten is nobody's.
    return generations.c.person.in_(names)


# Step by step


def _leave(house: House, person: Person) -> Row[Any]:
    """Note that somebody leaves, and empty whatever goes at once."""
    day = policy().day(now())
    with house.database.write() as connection:
        one_at_a_time(connection, person.id)
        known = connection.execute(select(leavers).where(leavers.c.person == person.id)).first()
        names = dict.fromkeys([*(known.names if known else ()), *_names(connection, person)])
        newest = connection.execute(select(func.max(generations.c.id))).scalar_one() or 0
        row = {
            "person": person.id, "names": list(names), "day": day, "asked": now(),
            # With nothing to look for, the rest is to be looked for all the same.
            "newest": max(1, newest),
        }  # fmt: skip
        connection.execute(delete(leavers).where(leavers.c.person == person.id))
        left = connection.execute(insert(leavers).values(row).returning(leavers)).one()
        connection.execute(delete(usage).where(usage.c.who.in_(list(names)), usage.c.day < day))
        for account in person.everyone:
            if account != person.id:
                # Each is by itself now, and has drawn today what all of them have.
                copy_usage(connection, person.id, account)
        _at_once(connection, list(names))
    return left


def _at_once(connection: Connection, names: Sequence[str]) -> None:
    for name, how in HOW.items():
        table = metadata.tables[name]
        if name in LATER or isinstance(how, Emptied | Nobody):
            continue
        if isinstance(how, Unnamed):
            for column in how.by:
                mine = table.c[column].in_(names)
                connection.execute(update(table).where(mine).values({column: ""}))
        elif how.of and how.of not in LATER:
            owners = select(metadata.tables[how.of].c.id).where(_named(how.of, names))
            connection.execute(delete(table).where(table.c[how.by[0]].in_(owners)))
    for name, how in HOW.items():
        if isinstance(how, Gone) and not how.of and name not in LATER:
            connection.execute(delete(metadata.tables[name]).where(_named(name, names)))
    unname(connection, names)


def _go_on(house: House, leaver: Row[Any], seconds: float) -> bool:
    """Let pictures go for a while; whether nothing is left but the day's counts."""
    end, redis = time.monotonic() + seconds, house.queue.redis
    turn = f"drawqueue:forgetting:{leaver.person}"
    if not redis.set(turn, 1, nx=True, ex=TURN_SECONDS):
        return False
    try:
        drawn: list[int] = []
        while some := house.generations.found(_some(leaver, drawn)):
            if time.monotonic() > end:
                return False
            redis.expire(turn, TURN_SECONDS)
            drawn += _empty(house, some)
        if drawn:
            return False
        let_go(house, leaver.names)
        _unsay(house, leaver.names)
    finally:
        redis.delete(turn)
    with house.database.write() as connection:
        # Unless they left once more meanwhile.
        connection.execute(
            update(leavers)
            .where(leavers.c.person == leaver.person, leavers.c.asked == leaver.asked)
            .values(newest=0)
        )
    return True


def _some(leaver: Row[Any], drawn: Sequence[int]) -> Select[Any]:
    return (
        select(generations)
        .where(
            _theirs(leaver.names),
            generations.c.id <= leaver.newest,
            generations.c.id.not_in(drawn) if drawn else true(),
        )
        .order_by(generations.c.id.desc())
        .limit(BATCH)
    )


def _empty(house: House, some: Sequence[Generation]) -> list[int]:
    """Empty some of theirs; the numbers of those that a worker has in hand, whose turn is later."""
    for one in some:
        if one.state in PENDING:
            house.generations.stop(one)
    mine = generations.c.id.in_([one.id for one in some])
    now_ = house.generations.found(select(generations).where(mine))
    over = [one for one in now_ if one.state in FINAL and not _in_hand(house, one)]
    ids = [one.id for one in over]
    named = {str(result["key"]) for one in over for result in one.results}
    # The files go first: with their rows emptied, nobody would know of them.
    for key in held_alone(house, ids, named):
        house.media.delete(key)
    for one in over:
        # What describes a job begins with the prompt.
        house.queue.forget(one.id, one.attempt)
    _belonging(house, ids)
    house.generations.forget(over)
    return [one.id for one in some if one.id not in ids]


def _in_hand(house: House, one: Generation) -> bool:
    """Whether a worker was stopped just now and may still write of it."""
    return one.state == State.CANCELLED and house.queue.alive(one.id, one.attempt)


def _belonging(house: House, ids: Sequence[int]) -> None:
    """Let go what other tables keep of some generations, and what moderators were shown of them;
    their files go with the rows."""
    with house.database.write() as connection:
        for name, how in HOW.items():
            if isinstance(how, Gone) and how.of == "generations" and name != "files":
                table = metadata.tables[name]
                connection.execute(delete(table).where(table.c[how.by[0]].in_(ids)))
        told_anew(connection, ids)


def _unsay(house: House, names: Sequence[str]) -> None:
    """Forget what was answered to somebody, and the pictures that they sent and nothing holds."""
    redis = house.queue.redis
    said = tuple(
        f"drawqueue:said:{name.removeprefix('web:')}:" for name in names if name.startswith("web:")
    )
    sent = tuple(f"drawqueue:upload:{name}:" for name in names)
    for key in redis.scan_iter(match="drawqueue:*", count=1000):
        told = key.decode(errors="replace")
        if told.startswith(sent):
            if found := redis.get(key):
                for alone in held_alone(house, [], {str(json.loads(found)["key"])}):
                    house.media.delete(alone)
            redis.delete(key)
        elif said and told.startswith(said):
            redis.delete(key)


def sweep(house: House) -> None:
    """Go on with those who are being forgotten, and end with those of whom nothing is left."""
    with house.database.read() as connection:
        left = connection.execute(select(leavers).order_by(leavers.c.asked)).all()
    today = policy().day(now())
    for leaver in left:
        if leaver.newest and not _go_on(house, leaver, TURN_SECONDS / 2):
            continue
        if leaver.day < today:
            with house.database.write() as connection:
                mine = leavers.c.person == leaver.person, leavers.c.asked == leaver.asked
                if connection.execute(delete(leavers).where(*mine)).rowcount:
                    past = usage.c.who.in_(leaver.names), usage.c.day <= leaver.day
                    connection.execute(delete(usage).where(*past))
