"""Links that let one person paint on one picture, wherever they are opened: signed, for a day."""

import base64
import hmac
import json
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from core.database import Database, secrets, upsert
from core.errors import NotAllowed
from core.languages import tr
from core.people import Asker
from core.policy import policy
from core.settings import Chat, read

if TYPE_CHECKING:
    from core.generations import Generation

# Where links lead, below DRAWQUEUE_PUBLIC_URL.
PAINT = "/paint/"
LIVES_SECONDS = 24 * 3600


class BadLink(NotAllowed):
    """The link is none of ours."""


class Expired(BadLink):
    """The link was a good one."""


@dataclass(frozen=True)
class Ticket:
    """Who may paint on which picture of which generation, until when (a Unix time).

    `places` are what the policy knows of where they asked: the link speaks for them there.
    """

    platform: str
    account: str
    name: str
    moderator: bool
    places: tuple[str, ...]
    generation: int
    index: int
    until: int = 0

    @classmethod
    def of(cls, asker: Asker, one: "Generation", index: int) -> "Ticket":
        """The ticket of somebody who may touch a generation."""
        rules = policy()
        told = {*rules.access.allow, *rules.access.block, *read(Chat).trusted}
        told.update(name for each in rules.classes.values() for name in each.members)
        return cls(
            asker.platform, asker.id, asker.name[:40],
            asker.moderates(one.chat, str(one.address.get("guild") or "")),
            tuple(place for place in asker.places if place in told), one.id, index,
        )  # fmt: skip

    def asker(self, chat: str) -> Asker:
        """Who asks with it, in the picture's chat."""
        return Asker(
            self.platform, self.account, self.name, self.moderator, chat=chat, places=self.places
        )


class Brush:
    """Makes and reads links, with a secret that every process of the house finds."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @cached_property
    def _secret(self) -> bytes:
        mine = {"name": "links", "value": token_urlsafe(32)}
        with self.database.write() as connection:
            connection.execute(upsert(connection)(secrets).values(mine).on_conflict_do_nothing())
            found = select(secrets.c.value).where(secrets.c.name == mine["name"])
            return str(connection.execute(found).scalar_one()).encode()

    def link(self, ticket: Ticket) -> str:
        """The link, below the house's public address."""
        dated = replace(ticket, until=int(time.time()) + LIVES_SECONDS)
        words = _coded(json.dumps([*asdict(dated).values()], separators=(",", ":")).encode())
        return f"{PAINT}{words}.{self._sign(words)}"

    def ticket(self, given: str) -> Ticket:
        """What a link says. Raises BadLink; Expired where it was a good one."""
        words, _, sign = given.partition(".")
        if not hmac.compare_digest(sign.encode(errors="replace"), self._sign(words).encode()):
            raise BadLink("That link is not one of mine. /paint gives you a new one.")
        *told, generation, index, until = json.loads(base64.urlsafe_b64decode(words + "=="))
        platform, account, name, moderator, places = told
        if until < time.time():
            raise Expired("That link is older than a day. /paint gives you a new one.")
        return Ticket(
            platform, account, name, moderator, tuple(places), generation, index, until
        )  # fmt: skip

    def seal(self, purpose: str, told: Any) -> str:
        """A word that says something, for one purpose, which nobody else can make."""
        words = _coded(json.dumps(told, separators=(",", ":")).encode())
        return f"{words}.{self._sign(f'{purpose}:{words}')}"

    def unseal(self, purpose: str, given: str) -> Any:
        """What such a word says. Raises BadLink."""
        words, _, sign = given.partition(".")
        mine = self._sign(f"{purpose}:{words}")
        if not hmac.compare_digest(sign.encode(errors="replace"), mine.encode()):
            raise BadLink(tr("That link is not one of mine."))
        return json.loads(base64.urlsafe_b64decode(words + "=="))

    def _sign(self, words: str) -> str:
        signed = hmac.digest(self._secret, words.encode(errors="replace"), "sha256")
        return _coded(signed)


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
