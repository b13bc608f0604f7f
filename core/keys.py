"""Keys by which a person's own programs ask for them: told once, kept as hashes, taken back.

A key is an account of the web's that belongs to the person who made it: their quota, their place
in line, their pictures. It moderates nothing, and what would outlast it (`Command.personal`) it
cannot do.
"""

import contextlib
import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Row, insert, select, update

from core.asking import Ask, Reply
from core.database import Database, keys, now
from core.errors import NotFound, TooMuch, UserError
from core.house import House
from core.languages import mark, tr, trn
from core.people import KEY, Asker, People
from core.settings import Web, read

# What a key begins with, so that whoever finds one knows what it is.
PREFIX = "dq_"
# What each key lets a program do.
SCOPES: Mapping[str, str] = MappingProxyType(
    {
        "draw": mark("ask for pictures and look at yours"),
        "read": mark("look at your pictures alone"),
    }
)
DOES = ("new", "list", "revoke")
MOST = 10
NAME = 32
# A key's last use is noted once in so long.
NOTED_EVERY = timedelta(minutes=10)


@dataclass(frozen=True)
class Key:
    """One key, without its secret."""

    id: int
    owner: str
    name: str
    scope: str
    created: datetime
    used: datetime | None

    @property
    def user(self) -> str:
        """The web account that asks with it."""
        return f"{KEY}{self.id}"

    @property
    def told(self) -> str:
        """What its owner reads of it."""
        shared = {"number": self.id, "name": self.name, "what": tr(SCOPES[self.scope])}
        if not self.used:
            return tr("{number}. {name}: may {what}; never used", **shared)
        return tr(
            "{number}. {name}: may {what}; last used {day}", day=f"{self.used:%Y-%m-%d}", **shared
        )


class Keys:
    """The keys of everybody."""

    def __init__(self, database: Database, redis: Redis, people: People) -> None:
        self.database = database
        self.redis = redis
        self.people = people

    def make(self, asker: Asker, name: str, scope: str) -> str:
        """A new key, which nobody can be told again. Raises UserError."""
        if len(name) > NAME or not re.fullmatch(r"[\w .,+-]*", name):
            raise UserError(
                tr("A key's name has at most {number} letters, digits and spaces.", number=NAME)
            )
        if len(self.of(asker)) >= MOST:
            raise UserError(
                tr("You have {number} keys. Take one back first: /key revoke NUMBER", number=MOST)
            )
        secret = PREFIX + secrets.token_urlsafe(24)
        with self.database.write() as connection:
            connection.execute(
                insert(keys).values(
                    hash=_hash(secret), owner=asker.account, name=name.strip() or tr("a program"),
                    scope=scope, created=now(),
                )
            )  # fmt: skip
        return secret

    def of(self, asker: Asker) -> list[Key]:
        """The keys that a person can take back, made by whichever account of theirs."""
        person = self.people.get(asker.platform, asker.id)
        with self.database.read() as connection:
            rows = connection.execute(
                select(keys)
                .where(keys.c.owner.in_({asker.account, *person.everyone}))
                .where(keys.c.revoked.is_(None))
                .order_by(keys.c.id)
            ).all()
        return [_key(row) for row in rows]

    def revoke(self, asker: Asker, number: int) -> Key:
        """Take one back, at once and for good. Raises NotFound."""
        found = next((one for one in self.of(asker) if one.id == number), None)
        if found is None:
            raise NotFound(
                tr("There is no key {number} of yours. /key list tells them.", number=number)
            )
        with self.database.write() as connection:
            connection.execute(update(keys).where(keys.c.id == number).values(revoked=now()))
        return found

    def enter(self, secret: str) -> Key | None:
        """Whose key it is; None for one that nobody knows, or that was taken back.

        Found by its hash: how long the look takes tells nothing of the keys there are.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(keys).where(keys.c.hash == _hash(secret), keys.c.revoked.is_(None))
            ).one_or_none()
        if row is None:
            return None
        key = _key(row)
        if key.used is None or now() - key.used > NOTED_EVERY:
            with self.database.write() as connection:
                connection.execute(update(keys).where(keys.c.id == key.id).values(used=now()))
        self.people.lend(key.user, key.owner)
        return key

    def lasts(self, key: Key) -> bool:
        """Whether a key was not taken back since it was let in."""
        with self.database.read() as connection:
            row = connection.execute(
                select(keys.c.id).where(keys.c.id == key.id, keys.c.revoked.is_(None))
            ).one_or_none()
        if row:
            # Whose it is may have changed, too.
            self.people.lend(key.user, key.owner)
        return row is not None

    def count(self, key: Key) -> None:
        """Count a request made with a key. Raises TooMuch beyond what a minute has room for."""
        most = read(Web).key_rate
        minute, second = divmod(time.time(), 60)
        name = f"drawqueue:key-rate:{key.id}:{int(minute)}"
        # Where Redis is away nothing is queued anyway.
        with contextlib.suppress(RedisError):
            with self.redis.pipeline(transaction=False) as pipe:
                pipe.incr(name)
                pipe.expire(name, 120)
                made: int = pipe.execute()[0]
            if most and made > most:
                wait = 60 - second
                raise TooMuch(
                    trn(
                        "This key may ask {n} time a minute.",
                        "This key may ask {n} times a minute.",
                        most,
                    ),
                    wait,
                )


def _hash(secret: str) -> str:
    # 192 bits by chance need no salt, and no slow hash.
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _key(row: Row[Any]) -> Key:
    return Key(**{name: row._mapping[name] for name in Key.__dataclass_fields__})


def command(house: House, ask: Ask) -> Reply:
    """`/key`: make one, list them, take one back."""
    do = str(ask.given.get("task") or DOES[1])
    what = str(ask.given.get("which") or "").strip()
    match do:
        case "new":
            return Reply(_made(house, ask, what))
        case "revoke":
            if not re.fullmatch(r"#?\d{1,9}", what, re.ASCII):
                raise UserError(tr("Say which key by its number, for example: /key revoke 3"))
            one = house.keys.revoke(ask.asker, int(what.lstrip("#")))
            return Reply(tr("Key {number} ({name}) works no more.", number=one.id, name=one.name))
        case _:
            mine = [one.told for one in house.keys.of(ask.asker)]
            return Reply("\n".join(mine) or tr("You have no keys. /key new NAME makes one."))


def _made(house: House, ask: Ask, what: str) -> str:
    first, _, rest = what.partition(" ")
    scope, name = (first.lower(), rest) if first.lower() in SCOPES else (next(iter(SCOPES)), what)
    secret = house.keys.make(ask.asker, name, scope)
    where = read(Web).public_url.rstrip("/") or tr("the web chat's address")
    told = tr(
        "That is your key, told this once. A program that sends it as “Authorization: Bearer …” to "
        "{where} may {what}, as you. Give it to nobody; /key list and /key revoke are for when you "
        "did.",
        where=where, what=tr(SCOPES[scope]),
    )  # fmt: skip
    return f"{secret}\n{told}"
