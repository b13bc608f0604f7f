"""Who asks, and what the house remembers of them: settings, class, and accounts that are one.

An account is one person on one platform. `/link` makes several accounts one person: quota, class,
history and fairness are then theirs together.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, Row, delete, insert, select, update

from core.database import (
    Database,
    generations,
    keys,
    links,
    now,
    one_at_a_time,
    people,
    presets,
    shares,
    spend,
    tastes,
    upsert,
    usage,
)  # fmt: skip
from core.errors import NotAllowed, TooMuch, TryAgain, UserError, duration
from core.languages import mark, tr
from core.policy import MODERATOR, Policy

# Crockford's base 32: no letter in it can be read as another.
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH = 8
CODE_LIVES = timedelta(minutes=10)
# Wrong codes from one account in an hour: a guess hits one of 2^40.
MOST_GUESSES = 5
GUESS_SECONDS = 3600
# What the id of a web account begins with that is a key of somebody's; see core/keys.py.
KEY = "key-"
# The chats whose people may sign in to the web chat as who they are there: their web accounts
# are called discord-123 and telegram-456, and belong to discord:123 and telegram:456.
GUESTS = ("discord", "telegram")
WRONG_CODE = mark(
    "That code is wrong, was used, or is older than ten minutes. "
    "Get a new one with /link in the other chat."
)


@dataclass(frozen=True)
class Asker:
    """Who asks: an id that is theirs within a platform, whether they moderate here, and where.

    `moderator` says that the platform made them one in this chat, which anybody can be in a chat
    of their own; `trusted`, that the host lists them. `chat` is the place that limits count by;
    `places` is whatever else the policy may name: guild, channel, roles.
    """

    platform: str
    id: str
    name: str = ""
    moderator: bool = False
    trusted: bool = False
    chat: str = ""
    places: tuple[str, ...] = ()
    # Whether the platform lets them change the chat itself.
    keeper: bool = False
    # The language of their app, as the platform tells it; empty where nobody knows.
    language: str = ""

    @property
    def account(self) -> str:
        return f"{self.platform}:{self.id}"

    @property
    def program(self) -> bool:
        """Whether a key of somebody's asks, and not the person."""
        return self.platform == "web" and self.id.startswith(KEY)

    @property
    def home(self) -> str:
        """Whom of another chat a web account speaks for since they signed in; empty for others."""
        chat, _, id_ = self.id.partition("-")
        return f"{chat}:{id_}" if self.platform == "web" and chat in GUESTS and id_ else ""

    @property
    def themselves(self) -> "Asker":
        """The account that is linked and unlinked where this one asks."""
        platform, _, id_ = self.home.partition(":")
        return Asker(platform, id_) if id_ else self

    @property
    def names(self) -> tuple[str, ...]:
        """Everything the policy may know this person by."""
        own = (f"{self.platform}:user:{self.id}", self.chat, *self.places)
        return (*own, MODERATOR) if self.trusted else own

    def moderates(self, chat: str, guild: str = "") -> bool:
        """Whether they may touch what others asked for in a chat, or anywhere in its guild."""
        here = bool(chat) and chat == self.chat
        around = bool(guild) and f"{self.platform}:guild:{guild}" in self.places
        return self.trusted or (self.moderator and (here or around))


@dataclass(frozen=True)
class Person:
    """What is remembered: whom an account belongs to, and the class chosen and granted.

    `accounts` are those that were linked to it; `guests`, the web's for whom of another chat
    signed in there.
    """

    id: str
    quiet: bool = False
    chosen: str = ""
    granted: str = ""
    accounts: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()

    @property
    def everyone(self) -> tuple[str, ...]:
        """All accounts that are this person."""
        return tuple(dict.fromkeys((self.id, *self.accounts, *self.guests)))

    def names(self, asker: Asker) -> tuple[str, ...]:
        """Everything the policy may know them by, whichever account they ask with."""
        return (*asker.names, *(one.replace(":", ":user:", 1) for one in (self.id, *self.accounts)))

    def classes(self, policy: Policy, asker: Asker) -> list[str]:
        """The classes they may be in, the one they are in first. Raises NotAllowed."""
        found = policy.entitled(self.names(asker), self.granted)
        if not found:
            raise NotAllowed(tr("The host of this bot has no class for you here."))
        return sorted(found, key=lambda name: name != self.chosen)


class People:
    """The people who said something about themselves; everybody else has the defaults."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self.database = database
        self.redis = redis

    def get(self, platform: str, id_: str) -> Person:
        """What is remembered of an account's person."""
        with self.database.read() as connection:
            return _get(connection, platform, id_)

    def turn_quiet(self, asker: Asker) -> bool:
        """Turn mentions off, or on again; answers whether they are off now."""
        with self.database.write() as connection:
            quiet = not _get(connection, asker.platform, asker.id).quiet
            _keep(connection, asker.platform, asker.id, quiet=quiet)
        return quiet

    def choose(self, asker: Asker, name: str) -> None:
        """Be in one of the classes that one may be in."""
        with self.database.write() as connection:
            _keep(connection, asker.platform, asker.id, chosen=name)

    def grant(self, platform: str, id_: str, name: str) -> None:
        """Give somebody a class; an empty name takes it back."""
        with self.database.write() as connection:
            _keep(connection, platform, id_, granted=name, chosen=name)

    def lend(self, key: str, owner: str) -> None:
        """Let a web account, a key's or a guest's, ask for whoever its owner is by now."""
        platform, _, id_ = owner.partition(":")
        with self.database.read() as connection:
            person = _get(connection, platform, id_).id
            if _get(connection, "web", key).id == person:
                return
        with self.database.write() as connection:
            _keep(connection, "web", key, person=person)
            _rename(connection, "web", key, person)

    def hand_over(self, browser: Asker, owner: Asker) -> int:
        """Make what a browser asked for its owner's, who signed in with it; answers how many
        pictures that were."""
        with self.database.write() as connection:
            one_at_a_time(connection, *sorted((browser.account, owner.account)))
            mine, theirs = (_get(connection, "web", one.id) for one in (browser, owner))
            if mine.id != browser.account or mine.accounts:
                raise UserError(tr("What this browser made is another account's already."))
            moved = connection.execute(
                update(generations)
                .where(generations.c.platform == "web", generations.c.asker == browser.id)
                .values(asker=owner.id, person=theirs.id)
            )
            _add_usage(connection, mine.id, theirs.id)
            connection.execute(
                update(keys).where(keys.c.owner == browser.account).values(owner=owner.account)
            )
            for table, who, name in (
                (presets, presets.c.owner, presets.c.key), (tastes, tastes.c.who, tastes.c.name)
            ):  # fmt: skip
                known = select(name).where(who == owner.account).scalar_subquery()
                connection.execute(
                    update(table)
                    .where(who == browser.account, name.not_in(known))
                    .values({who: owner.account})
                )
        return moved.rowcount

    def move(self, old: str, new: str) -> None:
        """Let a chat whose platform calls it differently now keep what was set, shared and drawn
        there; what it has under its new name already counts."""
        with self.database.write() as connection:
            one_at_a_time(connection, *sorted((old, new)))
            for table, where, name in (
                (tastes, tastes.c.who, tastes.c.name), (shares, shares.c.place, shares.c.key)
            ):  # fmt: skip
                known = select(name).where(where == new).scalar_subquery()
                connection.execute(
                    update(table).where(where == old, name.not_in(known)).values({where: new})
                )
            connection.execute(
                update(generations).where(generations.c.chat == old).values(chat=new)
            )
            _add_usage(connection, old, new)

    # One person on several chats

    def code(self, asker: Asker) -> str:
        """A code that, entered on another platform within ten minutes, makes the two one."""
        asker = asker.themselves
        made = "".join(secrets.choice(_LETTERS) for _ in range(CODE_LENGTH))
        with self.database.write() as connection:
            connection.execute(
                delete(links).where(
                    (links.c.platform == asker.platform) & (links.c.id == asker.id)
                    | (links.c.until < now())
                )
            )  # fmt: skip
            connection.execute(
                insert(links).values(code=_hash(made), platform=asker.platform, id=asker.id,
                                     until=now() + CODE_LIVES)
            )  # fmt: skip
        return f"{made[:4]}-{made[4:]}"

    def offered(self, asker: Asker, code: str) -> str:
        """Whose code it is. Raises UserError, and TooMuch after too many guesses."""
        found = self._find(asker, code)
        return f"{found.platform}:{found.id}"

    def link(self, asker: Asker, code: str) -> str:
        """Join the account to the person who was given the code; answers their account.

        Raises UserError for a code that is wrong, used or old, TooMuch after too many of those.
        """
        asker = asker.themselves
        found = self._find(asker, code)
        account = f"{found.platform}:{found.id}"
        with self.database.write() as connection:
            # Two who enter each other's code at once wait for each other.
            one_at_a_time(connection, *sorted((asker.account, account)))
            used = connection.execute(delete(links).where(links.c.code == found.code))
            if not used.rowcount:
                raise UserError(tr(WRONG_CODE))
            _join(connection, asker, _get(connection, found.platform, found.id).id)
        return account

    def burn(self, code: str) -> None:
        """Forget a code that others may have read."""
        with self.database.write() as connection:
            connection.execute(delete(links).where(links.c.code == _hash(_written(code))))

    def _find(self, asker: Asker, code: str) -> Row[Any]:
        asker = asker.themselves
        guesses = f"drawqueue:guesses:{asker.account}"
        try:
            if int(self.redis.get(guesses) or 0) >= MOST_GUESSES:
                wait = max(1, int(self.redis.ttl(guesses)))
                raise TooMuch(
                    tr("Too many wrong codes. Try again in {time}.", time=duration(wait)), wait
                )
            with self.database.read() as connection:
                # Found by its hash: how long the look takes tells nothing of the codes there are.
                found = connection.execute(
                    select(links).where(
                        links.c.code == _hash(_written(code)), links.c.until >= now()
                    )
                ).one_or_none()
            if found is None:
                with self.redis.pipeline() as pipe:
                    pipe.incr(guesses)
                    pipe.expire(guesses, GUESS_SECONDS, nx=True)
                    pipe.execute()
                raise UserError(tr(WRONG_CODE))
        except RedisError as error:
            # Nobody guesses while nobody counts.
            told = tr("I could not look at that code just now. Please try again.")
            raise TryAgain(told) from error
        if (found.platform, found.id) == (asker.platform, asker.id):
            raise UserError(
                tr("That is the code of this account. Enter it on your other platform, not here.")
            )
        return found

    def unlink(self, asker: Asker) -> bool:
        """Make the account a person of its own again; False when it is one already.

        Its own pictures go with it. What the person has used today stays with both: nobody gets
        a second quota that way.
        """
        asker = asker.themselves
        with self.database.write() as connection:
            mine = _get(connection, asker.platform, asker.id)
            # Where the person bears this account's name, it stays and the others leave.
            leaving = (asker.account,) if mine.id != asker.account else mine.accounts
            for account in leaving:
                platform, _, id_ = account.partition(":")
                _keep(connection, platform, id_, person=None)
                _rename(connection, platform, id_, account)
                _follow(connection, platform, id_, account)
                copy_usage(connection, mine.id, account)
        return bool(leaving)


def _written(code: str) -> str:
    """A code as it was made, however it was typed."""
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return plain.translate(str.maketrans("OIL", "011"))


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _get(connection: Connection, platform: str, id_: str) -> Person:
    row = _row(connection, platform, id_)
    account = f"{platform}:{id_}"
    person = (row and row.person) or account
    # The class is the person's, wherever they ask.
    owner = row if person == account else _row(connection, *person.split(":", 1))
    accounts = connection.execute(
        select(people.c.platform, people.c.id)
        .where(people.c.person == person)
        # A key follows its owner, and is nobody to be linked with.
        .where((people.c.platform != "web") | people.c.id.not_like(f"{KEY}%"))
    ).all()
    named = [Asker(one.platform, one.id) for one in accounts]
    return Person(
        person, bool(row and row.quiet), (owner and owner.chosen) or "",
        (owner and owner.granted) or "", tuple(one.account for one in named if not one.home),
        tuple(one.account for one in named if one.home),
    )  # fmt: skip


def _row(connection: Connection, platform: str, id_: str) -> Row[Any] | None:
    return connection.execute(
        select(people).where(people.c.platform == platform, people.c.id == id_)
    ).one_or_none()


def _keep(connection: Connection, platform: str, id_: str, **values: Any) -> None:
    if "chosen" in values or "granted" in values:
        platform, _, id_ = _get(connection, platform, id_).id.partition(":")
    new = upsert(connection)(people).values(
        {"platform": platform, "id": id_, "quiet": False, **values}
    )
    connection.execute(new.on_conflict_do_update(index_elements=["platform", "id"], set_=values))


def _rename(connection: Connection, platform: str, id_: str, person: str) -> None:
    connection.execute(
        update(generations)
        .where(generations.c.platform == platform, generations.c.asker == id_)
        .values(person=person)
    )


def _follow(connection: Connection, platform: str, id_: str, person: str) -> None:
    """Let the web account of who signed in there be whose it is now."""
    guest = f"{platform}-{id_}"
    if _row(connection, "web", guest):
        _keep(connection, "web", guest, person=person)
        _rename(connection, "web", guest, person)


def _join(connection: Connection, asker: Asker, person: str) -> None:
    mine = _get(connection, asker.platform, asker.id)
    if mine.id == person:
        raise UserError(tr("These two are one person already."))
    if mine.id != asker.account or mine.accounts:
        raise UserError(tr("This account is linked already; /unlink it first."))
    _keep(connection, asker.platform, asker.id, person=person)
    _rename(connection, asker.platform, asker.id, person)
    _follow(connection, asker.platform, asker.id, person)
    _add_usage(connection, mine.id, person)


def _add_usage(connection: Connection, source: str, target: str) -> None:
    """Count what one has used for another alone."""
    for row in connection.execute(select(usage).where(usage.c.who == source)).all():
        jobs, seconds = row.jobs - row.copied_jobs, row.seconds - row.copied_seconds
        cost = max(0.0, row.cost - row.copied_cost)
        spend(connection, target, row.day, max(0, jobs), max(0.0, seconds), row.last, cost)
    connection.execute(delete(usage).where(usage.c.who == source))


def copy_usage(connection: Connection, source: str, target: str) -> None:
    """Count what a person has used for an account that leaves, too."""
    for row in connection.execute(select(usage).where(usage.c.who == source)).all():
        spend(connection, target, row.day, row.jobs, row.seconds, row.last, row.cost)
        connection.execute(
            update(usage)
            .where(usage.c.who == target, usage.c.day == row.day)
            .values(
                copied_jobs=row.jobs, copied_seconds=row.seconds, copied_cost=row.cost
            )
        )  # fmt: skip
