"""Redraws stale cards within the platforms' limits, for every platform, in worker and bots.

One editor at a time per card (a lease in the row), finals before progress, progress only with
rate to spare. Doing it twice shows the same thing once: an edit, never a new message.
"""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from core import events
from core.cards import Card
from core.errors import report
from core.generations import Generation
from core.house import House
from core.lifecycle import FINAL
from core.settings import Chat, Discord, Telegram, read

log = logging.getLogger("drawqueue")

PACE_MS = 2500
SWEEP_SECONDS = 2.0
LIVE_SECONDS = 0.5
AT_ONCE = 8
EDIT_SECONDS = 25.0


class Gone(Exception):
    """The card cannot be reached any more; `str(error)` says why."""


class Later(Exception):
    """The platform asks for silence in this chat, or everywhere."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"{seconds:.0f} s")


@dataclass(frozen=True)
class Moved:
    """A card now stands elsewhere: its new address and message id."""

    address: Mapping[str, Any]
    message: str


@dataclass(frozen=True)
class Budget:
    """How many edits of progress one chat may see in a window of seconds."""

    edits: int
    seconds: int


class Drawer(Protocol):
    """Draws cards on one platform."""

    platform: str
    budget: Budget

    async def open(self) -> None:
        """Connect. Raises Later when the platform cannot be reached."""

    async def close(self) -> None:
        """Disconnect."""

    def chat(self, generation: Generation) -> str:
        """What the platform counts edits by."""

    async def draw(self, generation: Generation, card: Card, picture: bytes | None) -> Moved | None:
        """Edit the card's message to show the card; where it had to move. Raises Gone and Later."""

    async def mention(self, generation: Generation) -> None:
        """Tell the asker, once, that a picture that took long is there."""


class Poster:
    """One redrawing loop over the drawers of this process."""

    def __init__(self, house: House, drawers: Sequence[Drawer]) -> None:
        self.house = house
        self.drawers = {drawer.platform: drawer for drawer in drawers}
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"

    async def run(self) -> None:
        """Redraw until cancelled."""
        for drawer in self.drawers.values():
            while True:
                try:
                    await drawer.open()
                    break
                except Later as wait:
                    log.warning("%s is out of reach; trying again", drawer.platform)
                    await asyncio.sleep(min(30.0, wait.seconds))
        after = ""
        live = False
        while True:
            try:
                if not after:
                    after = await asyncio.to_thread(events.latest, self.house.queue.redis)
                live = await self.round()
                after, _ids = await asyncio.to_thread(
                    events.wait, self.house.queue.redis, after,
                    LIVE_SECONDS if live else SWEEP_SECONDS,
                )  # fmt: skip
            except (RedisError, SQLAlchemyError) as error:
                log.warning("poster waits: %s", type(error).__name__)
                await asyncio.sleep(SWEEP_SECONDS)
            except Exception as error:  # The cards must go on, whatever this was.
                report("a round of the poster failed", error)
                await asyncio.sleep(SWEEP_SECONDS)

    async def round(self) -> bool:
        """Redraw what is stale once; answers whether some cards still move."""
        found = await asyncio.to_thread(self.house.generations.stale, list(self.drawers))
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(generation: Generation) -> None:
            async with gate:
                try:
                    await self._redraw(generation)
                except (RedisError, SQLAlchemyError):
                    raise
                except Exception as error:  # One bad card must not keep the others waiting.
                    report(f"card of #{generation.id} not drawn", error)

        # Finals first: they come first in the list, and the gate keeps the order.
        await asyncio.gather(*(one(generation) for generation in found))
        return any(generation.state not in FINAL for generation in found)

    async def _redraw(self, generation: Generation) -> None:
        drawer = self.drawers[generation.platform]
        chat = drawer.chat(generation)
        card = await asyncio.to_thread(self.house.card, generation)
        final = generation.state in FINAL
        stale = generation.shown_version < generation.version
        if not await asyncio.to_thread(self._may_edit, drawer, chat, card, final, stale):
            return
        if not await asyncio.to_thread(self.house.generations.lease, generation.id, self.name):
            return
        told: dict[str, object] = {}
        try:
            fresh = await asyncio.to_thread(self.house.generations.get, generation.id)
            card = await asyncio.to_thread(self.house.card, fresh)
            picture = await asyncio.to_thread(picture_of, self.house, card)
            moved = await drawer.draw(fresh, card, picture)
            told = {"version": fresh.version, "media": len(card.media)}
            if moved:
                told |= {"address": moved.address, "message": moved.message}
            if await asyncio.to_thread(self._wants_mention, fresh):
                told["mentioned"] = 1
        except Gone as error:
            log.info("card of #%d is out of reach: %s", generation.id, error)
            told = {"undeliverable": str(error)}
        except Later as wait:
            await asyncio.to_thread(self._hush, drawer, chat, wait.seconds)
        finally:
            won = await asyncio.to_thread(
                lambda: self.house.generations.shown(generation.id, self.name, **told)  # type: ignore[arg-type]
            )
        if won and told.get("mentioned"):
            await drawer.mention(generation)

    def _wants_mention(self, generation: Generation) -> bool:
        after = read(Chat).mention_after
        return bool(
            after
            and generation.state == "done"
            and generation.ended
            and not generation.mentioned
            and (generation.ended - generation.created).total_seconds() > after
            and not self.house.people.get(generation.platform, generation.asker).quiet
        )

    def _may_edit(self, drawer: Drawer, chat: str, card: Card, final: bool, stale: bool) -> bool:
        """Spend from the chat's budget, which every poster shares; finals are always granted."""
        redis = self.house.queue.redis
        place = f"drawqueue:{{}}:{drawer.platform}:{chat}"
        if redis.exists(place.format("hush")):
            return False
        looks = f"{card.version} {card.status}"
        drawn = f"drawqueue:drawn:{card.generation}"
        if not final:
            if not stale and redis.get(drawn) == looks.encode():
                return False
            if not redis.set(f"drawqueue:pace:{card.generation}", 1, nx=True, px=PACE_MS):
                return False
        window = place.format("edits") + f":{int(time.time()) // drawer.budget.seconds}"
        spent = int(redis.incr(window))
        redis.expire(window, drawer.budget.seconds * 2)
        if not final and spent > drawer.budget.edits:
            return False
        redis.set(drawn, looks, ex=3600)
        return True

    def _hush(self, drawer: Drawer, chat: str, seconds: float) -> None:
        key = f"drawqueue:hush:{drawer.platform}:{chat}"
        self.house.queue.redis.set(key, 1, px=max(1, int(seconds * 1000) + 50))


def picture_of(house: House, card: Card) -> bytes | None:
    """The card's pictures as one PNG."""
    from bots.pictures import grid

    return grid([house.media.load(key) for key in card.media]) if card.media else None


def drawers() -> list[Drawer]:
    """A drawer for each platform that has a token; each library is imported only then."""
    found: list[Drawer] = []
    if read(Discord).token.get_secret_value():
        from bots.discord_cards import DiscordDrawer

        found.append(DiscordDrawer())
    if read(Telegram).token.get_secret_value():
        from bots.telegram_cards import TelegramDrawer

        found.append(TelegramDrawer())
    return found


def run_in_thread(house: House) -> None:
    """Start a poster beside a worker; the process's end is its end."""
    import threading

    mine = drawers()
    if mine:
        threading.Thread(
            target=lambda: asyncio.run(Poster(house, mine).run()), daemon=True, name="poster"
        ).start()
