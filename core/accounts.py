"""Who signs in to the web chat: names and passwords, and the browsers that are signed in.

A password is kept as argon2id makes it, a browser's token as its hash. Somebody signs in as an
account of the web's, or as who they are on Discord or Telegram: their person, wherever they ask.
"""

import hashlib
import ipaddress
import re
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, Row, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from core.database import Database, accounts, now, sessions
from core.errors import NotFound, TooMuch, TryAgain, UserError, duration
from core.languages import mark, tr
from core.people import People

SHORTEST_NAME, LONGEST_NAME = 3, 32
SHORTEST, LONGEST = 8, 1000
# A browser that was not seen for so long is signed out, and every one after so long.
IDLE, LIVES = timedelta(days=30), timedelta(days=180)
# A browser's last use is noted once in so long.
NOTED_EVERY = timedelta(hours=1)
# Browsers of one account; the one that was seen the longest ago makes room.
MOST_BROWSERS = 20
# Wrong passwords for one name, and from one address, in so many seconds.
PER_NAME, PER_ADDRESS, GUESS_SECONDS = 10, 30, 900
# Those who set out to make an account or sign in elsewhere, from one address in as many seconds.
PER_KNOCK = 60
# Accounts made from one address in a day.
PER_DAY, DAY_SECONDS = 10, 86400
# Each takes 64 MiB while it works.
HASHED_AT_ONCE = 2
# What is tried first of all, of what is long enough.
_COMMON = """
password password1 password12 password123 password1234 passw0rd p@ssword p@ssw0rd 12345678
123456789 1234567890 0123456789 0987654321 87654321 987654321 11223344 12341234 12344321 1q2w3e4r
1q2w3e4r5t 1qaz2wsx 1qazxsw2 qwertyui qwertyuiop qwerty12 qwerty123 qwerty1234 qwertz123 azertyuiop
asdfghjk asdfghjkl zxcvbnm1 zxcvbnm123 q1w2e3r4 abcd1234 abc12345 abcdefgh abcdefghi a1b2c3d4
aa123456 a1234567 iloveyou iloveyou1 sunshine sunshine1 princess princess1 football football1
baseball superman batman123 starwars trustno1 welcome1 welcome123 letmein1 letmein123 whatever
computer michelle jennifer jonathan corvette mercedes midnight internet samantha victoria danielle
elizabeth chocolate butterfly liverpool chelsea1 arsenal1 pokemon1 minecraft dragon123 monkey123
master123 shadow123 admin123 administrator changeme changeme1 secret123 test1234 testtest passwort
passwort1 motdepasse contrasena drawqueue drawqueue1 discord1 discord123 telegram telegram1
"""
COMMON = frozenset(_COMMON.split())


@dataclass(frozen=True)
class Session:
    """One browser that somebody is signed in with, without its token."""

    id: int
    # Whose it is: web:…, discord:… or telegram:…
    account: str
    name: str
    browser: str
    made: datetime
    used: datetime

    @property
    def user(self) -> str:
        """The web account that asks with it."""
        platform, _, id_ = self.account.partition(":")
        return id_ if platform == "web" else f"{platform}-{id_}"

    @property
    def local(self) -> bool:
        """Whether they sign in with a name and a password."""
        return self.account.startswith("web:")


class Wrong(UserError):
    """The name or the password is not right."""


class Accounts:
    """The accounts with a password, and every browser that is signed in."""

    def __init__(
        self, database: Database, redis: Redis, people: People, hasher: PasswordHasher | None = None
    ) -> None:
        self.database = database
        self.redis = redis
        self.people = people
        self.hasher = hasher or PasswordHasher()
        self._hashing = threading.BoundedSemaphore(HASHED_AT_ONCE)

    # Names and passwords

    def make(self, name: str, password: str, address: str) -> tuple[str, str]:
        """A new account, `web:…`, and its name. Raises UserError, TooMuch for who makes many."""
        shown, password = _name(name), _normal(password)
        key = _key(shown)
        _check(password, key)
        # Who makes one learns which names there are.
        self.knock(address)
        with self.database.read() as connection:
            taken = connection.execute(select(accounts.c.id).where(accounts.c.key == key)).first()
        if taken:
            raise UserError(tr("That name is taken. Choose another one."))
        self._count(
            {f"made:{network(address)}": PER_DAY}, DAY_SECONDS,
            mark("Many accounts were made from your network today. Try again in {wait}."),
        )  # fmt: skip
        id_, kept = secrets.token_hex(8), self._hash(password)
        try:
            with self.database.write() as connection:
                connection.execute(
                    insert(accounts).values(
                        id=id_, key=key, name=shown, password=kept, created=now()
                    )
                )
        except IntegrityError:
            raise UserError(tr("That name is taken. Choose another one.")) from None
        return f"web:{id_}", shown

    def enter(self, name: str, password: str, address: str) -> tuple[str, str]:
        """The account and the name of who knows a password.

        Raises Wrong, the same for a name that nobody has, and TooMuch after too many of those.
        """
        key = _key(unicodedata.normalize("NFKC", name[:200]).strip())
        with self._guess(key, address):
            with self.database.read() as connection:
                row = connection.execute(
                    select(accounts).where(accounts.c.key == key)
                ).one_or_none()
            # A name that nobody has takes as long.
            kept = row.password if row else self._nobodys
            if not self._fits(kept, _normal(password[: 2 * LONGEST])) or row is None:
                raise Wrong(tr("That name and password do not go together."))
        if self.hasher.check_needs_rehash(row.password):
            self._keep(row, _normal(password))
        return f"web:{row.id}", row.name

    def change(self, session: Session, old: str, new: str, address: str) -> None:
        """Another password; every other browser is signed out. Raises UserError, TooMuch."""
        platform, _, id_ = session.account.partition(":")
        with self.database.read() as connection:
            row = connection.execute(select(accounts).where(accounts.c.id == id_)).one_or_none()
        if row is None or platform != "web":
            raise NotFound(tr("This account has no password here."))
        _check(_normal(new), row.key)
        with self._guess(row.key, address):
            if not self._fits(row.password, _normal(old[: 2 * LONGEST])):
                raise Wrong(tr("That is not your password of now."))
        self._keep(row, _normal(new))
        self.leave(session.account, but=session.id)

    def _keep(self, row: Row[Any], password: str) -> None:
        """Keep another password, unless another was kept since the row was read."""
        kept = self._hash(password)
        with self.database.write() as connection:
            connection.execute(
                update(accounts)
                .where(accounts.c.id == row.id, accounts.c.password == row.password)
                .values(password=kept)
            )

    def _hash(self, password: str) -> str:
        with self._hashing:
            return self.hasher.hash(password)

    def _fits(self, kept: str, password: str) -> bool:
        with self._hashing:
            try:
                return self.hasher.verify(kept, password)
            except VerificationError:
                return False

    @cached_property
    def _nobodys(self) -> str:
        return self._hash(secrets.token_urlsafe())

    # Guessing

    def knock(self, address: str) -> None:
        """Count who sets out to make an account, or to sign in elsewhere. Raises TooMuch."""
        self._count(
            {f"knock:{network(address)}": PER_KNOCK}, GUESS_SECONDS,
            mark("Too many sign in from your network just now. Try again in {wait}."),
        )  # fmt: skip

    @contextmanager
    def _guess(self, key: str, address: str) -> Iterator[None]:
        """Count a guess before it is looked at, and no longer when it was right."""
        # Hashed: of a name that nobody has, nothing else bounds the length.
        named = f"name:{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        placed = f"from:{network(address)}"
        self._count(
            {named: PER_NAME, placed: PER_ADDRESS}, GUESS_SECONDS,
            mark("Too many wrong passwords. Try again in {wait}."),
        )  # fmt: skip
        yield
        with counted(), self.redis.pipeline() as pipe:
            pipe.delete(_counter(named))
            pipe.decr(_counter(placed))
            pipe.expire(_counter(placed), GUESS_SECONDS, nx=True)
            pipe.execute()

    def _count(self, counters: dict[str, int], seconds: int, words: str) -> None:
        with counted(), self.redis.pipeline() as pipe:
            for name in counters:
                pipe.incr(_counter(name))
                pipe.expire(_counter(name), seconds, nx=True)
                pipe.ttl(_counter(name))
            told = pipe.execute()
        over = [
            told[3 * place + 2]
            for place, most in enumerate(counters.values())
            if told[3 * place] > most
        ]
        if over:
            wait = max(1, *over)
            raise TooMuch(tr(words, wait=duration(wait)), wait)

    # Browsers

    def begin(self, account: str, name: str, browser: str) -> str:
        """Sign a browser in; answers its token, which nobody can be told again."""
        token = secrets.token_urlsafe(32)
        with self.database.write() as connection:
            connection.execute(delete(sessions).where(_over()))
            connection.execute(
                insert(sessions).values(
                    hash=_token(token), account=account, name=name[:64], browser=browser[:64],
                    made=now(), used=now(),
                )
            )  # fmt: skip
            kept = (
                select(sessions.c.id)
                .where(sessions.c.account == account)
                .order_by(sessions.c.used.desc(), sessions.c.id.desc())
                .limit(MOST_BROWSERS)
            )
            _end(connection, account, sessions.c.id.not_in(kept))
        return token

    def known(self, token: str) -> Session | None:
        """Whose browser it is; None for a token that nobody has, or that is over.

        Found by its hash: how long the look takes tells nothing of the tokens there are.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(sessions).where(sessions.c.hash == _token(token), ~_over())
            ).one_or_none()
        if row is None:
            return None
        found = _session(row)
        if now() - found.used > NOTED_EVERY:
            with self.database.write() as connection:
                connection.execute(
                    update(sessions).where(sessions.c.id == found.id).values(used=now())
                )
        if not found.local:
            self.people.lend(found.user, found.account)
        return found

    def lasts(self, session: Session) -> bool:
        """Whether a browser is still signed in."""
        with self.database.read() as connection:
            row = connection.execute(
                select(sessions.c.id).where(sessions.c.id == session.id, ~_over())
            ).one_or_none()
        return row is not None

    def browsers(self, session: Session) -> list[Session]:
        """Every browser of whoever is signed in, the last seen first."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(sessions)
                .where(sessions.c.account == session.account, ~_over())
                .order_by(sessions.c.used.desc(), sessions.c.id.desc())
            ).all()
        return [_session(row) for row in rows]

    def end(self, account: str, number: int) -> None:
        """Sign one browser of somebody's out. Raises NotFound, also for another's."""
        with self.database.write() as connection:
            if not _end(connection, account, sessions.c.id == number):
                raise NotFound(tr("That browser is not signed in any more."))

    def leave(self, account: str, but: int = 0) -> int:
        """Sign every browser of somebody's out, but for one; answers how many those were."""
        with self.database.write() as connection:
            return _end(connection, account, sessions.c.id != but)


def _name(name: str) -> str:
    """A name as it is shown. Raises UserError."""
    shown = unicodedata.normalize("NFKC", name[:200]).strip()
    long = not SHORTEST_NAME <= len(shown) <= LONGEST_NAME or len(name) > 200
    if long or not re.fullmatch(r"\w[\w.-]*", shown):
        raise UserError(
            tr(
                "A name has {least} to {most} letters and digits; dots and dashes may be between "
                "them.", least=SHORTEST_NAME, most=LONGEST_NAME,
            )
        )  # fmt: skip
    return shown


def _key(shown: str) -> str:
    # Folding may make letters of which there is another form.
    return unicodedata.normalize("NFKC", shown.casefold())[:128]


def _normal(password: str) -> str:
    """A password as every keyboard writes it."""
    return unicodedata.normalize("NFKC", password.encode(errors="replace").decode())


def _check(password: str, key: str) -> None:
    """Raises UserError for a password that is easily guessed, or too long."""
    if len(password) < SHORTEST:
        raise UserError(
            tr("A password has at least {least} characters; a few words are good.", least=SHORTEST)
        )
    if len(password) > LONGEST:
        raise UserError(tr("A password has at most {most} characters.", most=LONGEST))
    plain = password.casefold()
    if plain in COMMON or len(set(plain)) < 3 or (key in plain and len(plain) < len(key) + 4):
        raise UserError(
            tr("That password is guessed at once. Choose another; a few words do well.")
        )


def _token(token: str) -> str:
    # 256 bits by chance need no salt, and no slow hash.
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _over() -> Any:
    return or_(sessions.c.used < now() - IDLE, sessions.c.made < now() - LIVES)


def _end(connection: Connection, account: str, which: Any) -> int:
    return connection.execute(delete(sessions).where(sessions.c.account == account, which)).rowcount


def _session(row: Row[Any]) -> Session:
    return Session(**{name: row._mapping[name] for name in Session.__dataclass_fields__})


def _counter(name: str) -> str:
    return f"drawqueue:signin:{name}"


def network(address: str) -> str:
    """The network that an address is counted by: of IPv6 everybody has many."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "nowhere"
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False).network_address)
    return str(found)


@contextmanager
def counted() -> Iterator[None]:
    """Raises TryAgain where Redis is away: nobody guesses while nobody counts."""
    try:
        yield
    except RedisError as error:
        raise TryAgain(tr("Nobody can sign in just now. Please try again.")) from error
