"""Links that let one person paint on one picture, wherever they are opened: signed, for a day.

What other links say is signed here, too.
"""

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
    from core.rows import Generation

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
        return PAINT + self.signed([*asdict(dated).values()])

    def ticket(self, given: str) -> Ticket:
        """What a link says. Raises BadLink; Expired where it was a good one."""
        said = self.verified(given)
        if said is None:
            raise BadLink(tr("That link is not one of mine. /paint gives you a new one."))
        *told, generation, index, until = said
        platform, account, name, moderator, places = told
        if until < time.time():
            raise Expired(tr("That link is older than a day. /paint gives you a new one."))
        return Ticket(
            platform, account, name, moderator, tuple(places), generation, index, until
        )  # fmt: skip

    def signed(self, told: list[Any], purpose: str = "") -> str:
        """What a link says, and its signature, which holds for links of that purpose alone."""
        words = _coded(json.dumps(told, separators=(",", ":")).encode())
        return f"{words}.{self._sign(words, purpose)}"

    def verified(self, given: str, purpose: str = "") -> list[Any] | None:
        """What a link of that purpose says; None where it was not signed here."""
        words, _, sign = given.partition(".")
        wanted = self._sign(words, purpose).encode()
        if not hmac.compare_digest(sign.encode(errors="replace"), wanted):
            return None
        return list(json.loads(base64.urlsafe_b64decode(words + "==")))

    def _sign(self, words: str, purpose: str) -> str:
        signed = f"{purpose}{words}".encode(errors="replace")
        return _coded(hmac.digest(self._secret, signed, "sha256"))


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
