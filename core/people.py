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
from sqlalchemy import Connection, delete, insert, select, update

from core.database import Database, generations, links, now, people, spend, usage
from core.errors import NotAllowed, TooMuch, UserError, duration
from core.policy import Policy

# Crockford's base 32: no letter in it can be read as another.
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH = 8
CODE_LIVES = timedelta(minutes=10)
# Wrong codes from one account in an hour: a guess hits one of 2^40.
MOST_GUESSES = 5
GUESS_SECONDS = 3600


@dataclass(frozen=True)
class Asker:
    """Who asks: an id that is theirs within a platform, whether they moderate here, and where.

    `chat` is the place that limits count by; `places` is it and whatever else the policy may
    name: guild, channel, roles.
    """

    platform: str
    id: str
    name: str = ""
    moderator: bool = False
    chat: str = ""
    places: tuple[str, ...] = ()

    @property
    def account(self) -> str:
        return f"{self.platform}:{self.id}"

    @property
    def names(self) -> tuple[str, ...]:
        """Everything the policy may know this person by."""
        own = (f"{self.platform}:user:{self.id}", self.chat, *self.places)
        return (*own, "moderator") if self.moderator else own


@dataclass(frozen=True)
class Person:
    """What is remembered: whom an account belongs to, and the class chosen and granted."""

    id: str
    quiet: bool = False
    chosen: str = ""
    granted: str = ""

    def classes(self, policy: Policy, asker: Asker) -> list[str]:
        """The classes they may be in, the one they are in first."""
        found = policy.entitled(asker.names, self.granted)
        if not found:
            raise NotAllowed("The host of this bot has no class for you here.")
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

    # One person on several chats

    def code(self, asker: Asker) -> str:
        """A code that, entered on another platform within ten minutes, makes the two one."""
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

    def link(self, asker: Asker, code: str) -> str:
        """Join the account to the person who was given the code; answers their first account.

        Raises UserError for a code that is wrong, used or old, TooMuch after too many of those.
        """
        guesses = f"drawqueue:guesses:{asker.account}"
        if int(self.redis.get(guesses) or 0) >= MOST_GUESSES:
            wait = max(1, int(self.redis.ttl(guesses)))
            raise TooMuch(f"Too many wrong codes. Try again in {duration(wait)}.", wait)
        written = "".join(letter for letter in code.upper() if letter.isalnum())
        written = written.translate(str.maketrans("OIL", "011"))
        with self.database.write() as connection:
            # Found by its hash: how long the look takes tells nothing of the codes there are.
            found = connection.execute(
                delete(links)
                .where(links.c.code == _hash(written), links.c.until >= now())
                .returning(links.c.platform, links.c.id)
            ).one_or_none()
            if found is not None:
                _join(connection, asker, _get(connection, found.platform, found.id).id)
        if found is None:
            with self.redis.pipeline() as pipe:
                pipe.incr(guesses)
                pipe.expire(guesses, GUESS_SECONDS, nx=True)
                pipe.execute()
            raise UserError(
                "That code is wrong, was used, or is older than ten minutes. "
                "Get a new one with /link in the other chat."
            )
        return f"{found.platform}:{found.id}"

    def unlink(self, asker: Asker) -> bool:
        """Make the account a person of its own again; False when it is one already.

        Its own pictures go with it. What the person has used today stays with both: nobody gets
        a second quota that way.
        """
        with self.database.write() as connection:
            mine = _get(connection, asker.platform, asker.id)
            others = connection.execute(
                select(people.c.platform, people.c.id).where(
                    people.c.person == mine.id,
                    (people.c.platform != asker.platform) | (people.c.id != asker.id),
                )
            ).all()
            if mine.id != asker.account:
                leaving = [(asker.platform, asker.id)]
            else:
                # The one whose name the person bears stays; the others leave.
                leaving = [(other.platform, other.id) for other in others]
            for platform, id_ in leaving:
                account = f"{platform}:{id_}"
                _keep(connection, platform, id_, person=None)
                _rename(connection, platform, id_, account)
                _copy_usage(connection, mine.id, account)
        return bool(leaving)

    def accounts(self, person: str) -> list[str]:
        """The accounts of a person, the one it is named after first."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(people.c.platform, people.c.id).where(people.c.person == person)
            ).all()
        return sorted({person, *(f"{row.platform}:{row.id}" for row in rows)},
                      key=lambda account: account != person)  # fmt: skip


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _get(connection: Connection, platform: str, id_: str) -> Person:
    account = f"{platform}:{id_}"
    row = connection.execute(
        select(people).where(people.c.platform == platform, people.c.id == id_)
    ).one_or_none()
    if row is None:
        return Person(account)
    if row.person and row.person != account:
        # The class is the person's, wherever they ask.
        owner = connection.execute(
            select(people).where(
                people.c.platform == row.person.split(":", 1)[0],
                people.c.id == row.person.split(":", 1)[1],
            )
        ).one_or_none()
        return Person(
            row.person, row.quiet, (owner and owner.chosen) or "",
            (owner and owner.granted) or row.granted or "",
        )  # fmt: skip
    return Person(account, row.quiet, row.chosen or "", row.granted or "")


def _keep(connection: Connection, platform: str, id_: str, **values: Any) -> None:
    if "chosen" in values or "granted" in values:
        platform, _, id_ = _get(connection, platform, id_).id.partition(":")
    mine = people.c.platform == platform, people.c.id == id_
    if not connection.execute(update(people).where(*mine).values(**values)).rowcount:
        row = {"platform": platform, "id": id_, "quiet": False, **values}
        connection.execute(insert(people).values(row))


def _rename(connection: Connection, platform: str, id_: str, person: str) -> None:
    connection.execute(
        update(generations)
        .where(generations.c.platform == platform, generations.c.asker == id_)
        .values(person=person)
    )


def _join(connection: Connection, asker: Asker, person: str) -> None:
    mine = _get(connection, asker.platform, asker.id)
    if mine.id == person:
        raise UserError("These two are one person already.")
    others = connection.execute(
        select(people.c.id).where(people.c.person == mine.id).limit(1)
    ).one_or_none()
    if mine.id != asker.account or others is not None:
        raise UserError("This account is linked already; /unlink it first.")
    _keep(connection, asker.platform, asker.id, person=person)
    _rename(connection, asker.platform, asker.id, person)
    _copy_usage(connection, mine.id, person)
    connection.execute(delete(usage).where(usage.c.who == mine.id))


def _copy_usage(connection: Connection, source: str, target: str) -> None:
    """Count what one has used for the other as well."""
    for row in connection.execute(select(usage).where(usage.c.who == source)).all():
        spend(connection, target, row.day, row.jobs, row.seconds, row.last)
