"""Pictures that people show the bot on Discord: sent along with a command, or in a message."""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
import discord
from redis.exceptions import RedisError

from bots.discord_cards import PREFIX
from core.cards import ASIDE, pressed
from core.errors import TryAgain, UserError
from core.house import House
from core.languages import mark, tr
from core.media import Source
from core.settings import Uploads, read
from core.uploads import FETCH_SECONDS, fetched, too_large

log = logging.getLogger("drawqueue")

# Pictures that are read at once: each may take hundreds of megabytes for a moment.
AT_ONCE = 2
PAUSE_SECONDS = 1.0
# How long the words that a modal asks for may take.
WORDS_SECONDS = 3600
GONE = mark("Discord does not have that picture any more. Send it again, please.")
WITHHELD = mark("Discord did not hand me that picture just now. Please try again.")
NOTHING = mark("There is no picture in that message.")
FORGOTTEN = mark("I do not know any more which picture that was for. Choose it once more, please.")


@dataclass(frozen=True)
class Brought:
    """A picture that nobody read yet: where it lies, and how large it is said to be.

    Discord's own files are fetched as it names them; another address may lead anywhere.
    """

    address: str
    size: int = 0
    own: bool = True

    @classmethod
    def of(cls, attachment: discord.Attachment) -> "Brought":
        """What somebody attached. Raises UserError when it is too large."""
        if attachment.size > _most_bytes():
            raise UserError(too_large(attachment.size))
        return cls(attachment.url, attachment.size)


@dataclass(frozen=True)
class Pointed:
    """What a message shows that somebody pointed at: a card's number, a picture, or both."""

    card: int | None
    picture: Brought | None

    @classmethod
    def at(cls, message: discord.Message, own: int) -> "Pointed":
        """What is in a message; the bot's `own` ones may be cards. Raises UserError."""
        card = _card(message) if message.author.id == own else None
        picture = next(_pictures(message), None)
        if card is None and picture is None:
            raise UserError(tr(NOTHING))
        return cls(card, picture)

    @property
    def only(self) -> tuple[Brought, ...]:
        """The picture as it stands in the message. Raises UserError where there is none."""
        if self.picture is None:
            raise UserError(tr(NOTHING))
        return (self.picture,)


def _card(message: discord.Message) -> int | None:
    """The number of the generation that a message of ours is the card of."""
    for row in message.components:
        for part in getattr(row, "children", ()):
            what = getattr(part, "custom_id", None) or ""
            if what.startswith(PREFIX):
                with contextlib.suppress(UserError):
                    action, number = pressed(what.removeprefix(PREFIX))
                    if action not in ASIDE:
                        return number
    return None


def _pictures(message: discord.Message) -> Iterator[Brought]:
    for file in message.attachments:
        if (file.content_type or "").startswith("image/"):
            yield Brought.of(file)
    for embed in message.embeds:
        # Of a link to a picture Discord makes a thumbnail.
        for shown in (embed.image, embed.thumbnail):
            if shown.url:
                yield Brought(shown.url, own=False)


def _most_bytes() -> float:
    return read(Uploads).max_mb * 1e6


class Pictures:
    """Takes pictures from Discord into the house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._room = asyncio.Semaphore(AT_ONCE)

    async def keep(self, pictures: Sequence[Brought]) -> tuple[Source, ...]:
        """Fetch, check and store pictures, in their order. Raises UserError."""
        return tuple([await self._keep(one) for one in pictures])

    async def _keep(self, picture: Brought) -> Source:
        if picture.own:
            data = await _fetched(picture.address)
        else:
            data = await asyncio.to_thread(fetched, picture.address)
        # What is slow to come keeps no other from being read.
        async with self._room:
            return await asyncio.to_thread(self.house.uploads.keep, data)

    async def remember(self, pointed: Pointed) -> str:
        """Keep what was pointed at until the words for it come; answers the name it is kept by.

        A process that is started meanwhile finds it too. Raises TryAgain.
        """
        name, told = secrets.token_urlsafe(12), json.dumps(asdict(pointed))
        redis = self.house.queue.redis
        try:
            await asyncio.to_thread(redis.set, _key(name), told, ex=WORDS_SECONDS)
        except RedisError as error:
            raise TryAgain(tr("I could not do that just now. Please try again.")) from error
        return name

    async def recall(self, name: str) -> Pointed:
        """What was pointed at before. Raises UserError when it is not known any more."""
        try:
            told: Any = await asyncio.to_thread(self.house.queue.redis.get, _key(name))
        except RedisError as error:
            raise TryAgain(tr(FORGOTTEN)) from error
        if not told:
            raise UserError(tr(FORGOTTEN))
        kept = json.loads(told)
        return Pointed(kept["card"], Brought(**kept["picture"]) if kept["picture"] else None)


def _key(name: str) -> str:
    return f"drawqueue:pointed:{name}"


async def _fetched(address: str) -> bytes:
    """The bytes of one of Discord's files, at most as many as an upload has. Raises UserError."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            try:
                return await _read(address)
            except aiohttp.ClientError:
                await asyncio.sleep(PAUSE_SECONDS)
                return await _read(address)
    except (aiohttp.ClientError, TimeoutError) as error:
        log.warning("a picture was withheld by Discord: %s", type(error).__name__)
        raise UserError(tr(WITHHELD)) from None


async def _read(address: str) -> bytes:
    data = bytearray()
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        if answer.status in (403, 404, 410):
            raise UserError(tr(GONE))
        answer.raise_for_status()
        async for part in answer.content.iter_chunked(1 << 16):
            data += part
            if len(data) > _most_bytes():
                raise UserError(too_large(len(data)))
    return bytes(data)
