"""Redraws stale cards within the platforms' limits, for every platform, in worker and bots.

One editor at a time per card (a lease in the row), finals before progress, progress only with
rate to spare. Doing it twice shows the same thing once: an edit, never a new message.
"""

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from bots.pictures import picture_of
from core import events
from core.cards import Card
from core.errors import report
from core.house import House
from core.languages import speak
from core.lifecycle import FINAL, State
from core.reports import Notice
from core.rows import FORGOTTEN, Generation
from core.settings import Chat, Discord, Telegram, read

log = logging.getLogger("drawqueue")

PACE_MS = 2500
# Of words people read along.
WORDS_PACE_MS = 1200
# Where they are shown beside the card, which costs no edit, and so long until that must be said
# anew: Telegram's drafts vanish after 30 seconds. A chat that takes none is not asked for a while.
STREAM_PACE_MS = 1000
STREAM_SECONDS, UNSTREAMED_SECONDS = 20, 3600
# A card's preview changes at most so often; where it alone is new, only while of the chat's
# budget no more than this is spent.
PREVIEW_PACE_MS = 6000
PREVIEW_SHARE = 1 / 2
# What a row's `shown_media` says of a message whose preview was taken away: Telegram's stays a
# photo. Where it is more than 0 and nothing is done yet, a preview is shown.
TAKEN_AWAY = -1
SWEEP_SECONDS = 2.0
LIVE_SECONDS = 0.5
# Edits under way on one platform.
AT_ONCE = 8
EDIT_SECONDS = 25.0
# How long a card that could not be drawn, for a fault of ours, is left alone.
REST_SECONDS = 30.0
# How long a platform that refuses the token is left alone.
REFUSED_SECONDS = 30.0
# The chat whose silence is every chat's.
EVERYWHERE = "*"


class Gone(Exception):
    """The card cannot be reached any more; `str(error)` says why."""


class Later(Exception):
    """The platform asks for silence in this chat, or `everywhere`."""

    def __init__(self, seconds: float, *, everywhere: bool = False) -> None:
        self.seconds = seconds
        self.everywhere = everywhere
        super().__init__(f"{seconds:.0f} s")


class Refused(Exception):
    """The platform refuses the token that this process has; another's may be a newer one."""


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
        """Connect, anew too. Raises Later when the platform is out of reach, and Refused."""

    def chat(self, generation: Generation) -> str:
        """What the platform counts edits by; never raises."""

    async def draw(self, generation: Generation, card: Card, picture: bytes | None) -> Moved | None:
        """Edit the card's message to show the card; where it had to move.

        Without a picture a card that has a preview keeps the one it shows, and only its status is
        another; any other card then shows none. Raises Gone, Later and Refused.
        """

    async def remove(self, generation: Generation) -> bool:
        """Delete the card's message; False where the platform lets nobody do so any more.

        Raises Gone, Later and Refused.
        """

    async def mention(self, generation: Generation) -> None:
        """Tell the asker, once, that a picture that took long is there."""


@runtime_checkable
class Streaming(Protocol):
    """Draws on a platform that shows words as they grow beside a card, which says the rest."""

    def streams(self, generation: Generation) -> bool:
        """Whether words are shown so where this one stands."""

    async def stream(self, generation: Generation, card: Card) -> bool:
        """Show what a card's words are by now, or that they are all there, in passing.

        False where the platform takes no such thing. Raises Later.
        """


@dataclass(frozen=True)
class Place:
    """One chat, as its platform counts edits."""

    platform: str
    chat: str

    def key(self, what: str) -> str:
        """The name in Redis of something every poster must know about this chat."""
        return f"drawqueue:{what}:{self.platform}:{self.chat}"


class Poster:
    """One redrawing loop over the drawers of this process.

    A chat's cards are drawn one after the other, because its edits share its limits, and many
    chats at once: one that is slow keeps no other waiting.
    """

    def __init__(self, house: House, drawers: Sequence[Drawer]) -> None:
        self.house = house
        self.drawers = {drawer.platform: drawer for drawer in drawers}
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._open: set[str] = set()
        self._opening: set[asyncio.Task[None]] = set()
        # What the last look found and nobody draws yet; where a card is being drawn.
        self._waiting: list[Generation] = []
        self._going: dict[Place, asyncio.Task[None]] = {}
        self._resting: dict[int, float] = {}
        self._away: Exception | None = None
        # Shows moderators what was reported, beside the cards.
        self._telling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Redraw until cancelled."""
        for drawer in self.drawers.values():
            self._open_soon(drawer)
        try:
            await self._loop()
        finally:
            self._waiting = []
            for task in (*self._opening, *self._going.values(), self._telling):
                if task:
                    task.cancel()

    def _open_soon(self, drawer: Drawer, rest: float = 0.0) -> None:
        # Each on its own: a platform that refuses its token keeps no other waiting.
        task = asyncio.create_task(self._connect(drawer, rest))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, drawer: Drawer, rest: float) -> None:
        told = ""
        while drawer.platform not in self._open:
            await asyncio.sleep(rest)
            try:
                await drawer.open()
                self._open.add(drawer.platform)
                continue
            except Refused:
                fault, rest = "refuses its token", REFUSED_SECONDS
            except Later as wait:
                fault, rest = "is out of reach", wait.seconds
            except Exception as error:
                report(f"{drawer.platform} could not be opened", error)
                rest = REST_SECONDS
                continue
            if fault != told:
                log.warning("%s %s: its cards wait here", drawer.platform.title(), fault)
                told = fault

    def _refused(self, drawer: Drawer) -> None:
        """Draw nothing there until the platform takes the token again."""
        if drawer.platform not in self._open:
            return
        log.error(
            "%s refuses its token: its cards wait. Drawn pictures are kept.",
            drawer.platform.title(),
        )  # fmt: skip
        self._open.discard(drawer.platform)
        self._waiting = [one for one in self._waiting if one.platform != drawer.platform]
        self._open_soon(drawer, REFUSED_SECONDS)

    async def _loop(self) -> None:
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
        """Find what is stale and begin to redraw it; answers whether some cards still move.

        Raises what kept a card begun earlier from Redis or from the database.
        """
        if self._away:
            away, self._away = self._away, None
            raise away
        found = await asyncio.to_thread(self.house.showing.stale, sorted(self._open))
        moment = time.monotonic()
        self._resting = {id_: until for id_, until in self._resting.items() if until > moment}
        self._waiting = [one for one in found if one.id not in self._resting]
        self._begin()
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())
        return any(one.state not in FINAL for one in found)

    def _begin(self) -> None:
        """Draw what there is room for; finals come first, as they were found."""
        drawn = Counter(place.platform for place in self._going)
        left = []
        for generation in self._waiting:
            drawer = self.drawers[generation.platform]
            place = Place(drawer.platform, drawer.chat(generation))
            if place in self._going or drawn[place.platform] == AT_ONCE:
                left.append(generation)
                continue
            drawn[place.platform] += 1
            task = asyncio.create_task(self._redraw(drawer, place, generation))
            self._going[place] = task
            task.add_done_callback(functools.partial(self._done, place, generation))
        self._waiting = left

    def _done(self, place: Place, generation: Generation, task: asyncio.Task[None]) -> None:
        del self._going[place]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RedisError | SQLAlchemyError):
            # Nothing is begun before the loop has paused.
            self._away, self._waiting = error, []
        elif error:  # One bad card must not keep the others waiting.
            report(f"card of #{generation.id} not drawn", error)
            self._resting[generation.id] = time.monotonic() + REST_SECONDS
        self._begin()

    async def _redraw(self, drawer: Drawer, place: Place, generation: Generation) -> None:
        # In this task, which is of one card: what its chat adds to it.
        speak(generation.language)
        if generation.state == State.GENERATING:
            await self._stream(drawer, place, generation)
        if not await asyncio.to_thread(self._may_edit, drawer, place, generation):
            return
        if not await asyncio.to_thread(self.house.showing.lease, generation.id, self.name):
            return
        # Whatever this task says, it says to one asker.
        speak(generation.language)
        told: dict[str, Any] = {}
        try:
            # As it is now: another poster may have shown it since it was found.
            fresh = await asyncio.to_thread(self.house.generations.get, generation.id)
            if fresh.removed == FORGOTTEN:
                await self._part(drawer, fresh)
                return
            card = await asyncio.to_thread(self._card, drawer, place, fresh)
            if not await asyncio.to_thread(self._granted, drawer, place, fresh, card):
                return
            card, picture = await asyncio.to_thread(self._pictured, fresh, card)
            moved = await drawer.draw(fresh, card, picture)
            shows = len(card.media) or bool(picture or (card.preview and not moved))
            gone = TAKEN_AWAY if fresh.shown_media and not moved else 0
            told = {"version": fresh.version, "media": int(shows) or gone}
            if moved:
                told |= {"address": moved.address, "message": moved.message}
                fresh = replace(fresh, address=moved.address, message=moved.message)
            if await asyncio.to_thread(self._wants_mention, fresh):
                told["mentioned"] = 1
            await asyncio.to_thread(self._note, fresh, card, picture)
        except Gone as error:
            log.info("card of #%d is out of reach: %s", generation.id, error)
            told = {"undeliverable": str(error)}
        except Later as wait:
            asked = Place(place.platform, EVERYWHERE) if wait.everywhere else place
            await asyncio.to_thread(hush, self.house.queue.redis, asked, wait.seconds)
        except Refused:
            self._refused(drawer)
        finally:
            shown = functools.partial(self.house.showing.shown, generation.id, self.name)
            won = await asyncio.to_thread(functools.partial(shown, **told))
        if won and told.get("mentioned"):
            await drawer.mention(fresh)
        if won and told.get("version") and not card.live:
            await self._stream(drawer, place, fresh)

    async def _stream(self, drawer: Drawer, place: Place, generation: Generation) -> None:
        """Show what is written by now beside the card, or that it stands there."""
        if not generation.request.mode.words or not isinstance(drawer, Streaming):
            return
        redis = self.house.queue.redis
        card = await asyncio.to_thread(self._due, drawer, place, generation)
        if card is None:
            return
        try:
            if not await drawer.stream(generation, card):
                unstreamed = place.key("unstreamed")
                await asyncio.to_thread(redis.set, unstreamed, 1, ex=UNSTREAMED_SECONDS)
        except Later as wait:
            await asyncio.to_thread(hush, redis, place, wait.seconds)

    def _due(self, drawer: Drawer, place: Place, generation: Generation) -> Card | None:
        """The card whose words are to be shown beside it now; None where they are not."""
        redis = self.house.queue.redis
        said, pace = f"drawqueue:streamed:{generation.job}", f"drawqueue:pace:{generation.job}"
        if hushed(redis, place) or not self._streams(drawer, place, generation):
            return None
        if generation.state in FINAL:
            return self.house.card(generation) if redis.delete(said) else None
        if generation.message is None:
            return None  # The card comes first.
        card = self.house.card(generation)
        shown: Any = redis.get(said)
        if not card.text or shown == str(len(card.text)).encode():
            return None
        if not redis.set(pace, 1, nx=True, px=STREAM_PACE_MS):
            return None
        redis.set(said, len(card.text), ex=STREAM_SECONDS)
        return card

    def _streams(self, drawer: Drawer, place: Place, generation: Generation) -> bool:
        return (
            isinstance(drawer, Streaming) and generation.request.mode.words
            and drawer.streams(generation)
            and not self.house.queue.redis.exists(place.key("unstreamed"))
        )  # fmt: skip

    def _card(self, drawer: Drawer, place: Place, generation: Generation) -> Card:
        """The card as it stands now; its words are left to what shows them beside it."""
        card = self.house.card(generation)
        if card.live and card.text and self._streams(drawer, place, generation):
            return replace(card, text="")
        return card

    async def _tell(self) -> None:
        """Show moderators what was reported, and what became of it; at least once."""
        failed = False
        try:
            found = await asyncio.to_thread(self.house.reports.stale, sorted(self._open))
            for notice in found:
                drawer = self.drawers[notice.place.split(":")[0]]
                if not await asyncio.to_thread(self.house.reports.lease, notice, self.name):
                    continue
                try:
                    await self._show(drawer, notice)
                except Exception as error:  # One bad report must not keep the others waiting.
                    report(f"the report of #{notice.generation} could not be shown", error)
                    failed = True
        except (RedisError, SQLAlchemyError) as error:
            log.warning("reports wait: %s", type(error).__name__)
            failed = True
        if failed:
            # No other look is taken meanwhile.
            await asyncio.sleep(REST_SECONDS)

    async def _show(self, drawer: Drawer, notice: Notice) -> None:
        told: dict[str, Any] = {}
        try:
            found = await asyncio.to_thread(self.house.reports.card, notice.generation)
            if found is None:
                told = {"shown_version": notice.version}
                return
            one, card = found
            here = replace(
                one, address=notice.address, message=notice.message,
                shown_media=notice.shown_media,
            )  # fmt: skip
            place = Place(drawer.platform, drawer.chat(here))
            if await asyncio.to_thread(hushed, self.house.queue.redis, place):
                return
            picture = None
            with contextlib.suppress(FileNotFoundError):
                picture = await asyncio.to_thread(picture_of, self.house, card)
            moved = await drawer.draw(here, card, picture)
            shows = int(bool(picture)) or (TAKEN_AWAY if notice.shown_media else 0)
            told = {"shown_version": notice.version, "shown_media": shows}
            if moved:
                told["message"] = moved.message
        except Gone as error:
            log.warning("moderators are not reached in %s: %s", notice.place, error)
            told = {"undeliverable": str(error)}
        except Later as wait:
            everywhere = Place(drawer.platform, EVERYWHERE)
            asked = everywhere if wait.everywhere else place
            await asyncio.to_thread(hush, self.house.queue.redis, asked, wait.seconds)
        except Refused:
            self._refused(drawer)
        finally:
            noted = functools.partial(self.house.reports.shown, notice, self.name, **told)
            await asyncio.to_thread(noted)

    async def _part(self, drawer: Drawer, generation: Generation) -> None:
        """Take away what shows one that was forgotten, or all that is in it, and where it stood."""
        try:
            if generation.message and not await drawer.remove(generation):
                card = await asyncio.to_thread(self.house.card, generation)
                await drawer.draw(generation, card, None)
        except Gone as error:
            log.info("message of #%d is out of reach: %s", generation.id, error)
        await asyncio.to_thread(self.house.showing.parted, generation.id, self.name)

    def _wants_mention(self, generation: Generation) -> bool:
        after = read(Chat).mention_after
        return bool(
            after
            and generation.state == "done"
            and generation.ended
            and not generation.mentioned
            and not generation.deleted
            and (generation.ended - generation.created).total_seconds() > after
            and not self.house.people.get(generation.platform, generation.asker).quiet
        )

    def _may_edit(self, drawer: Drawer, place: Place, generation: Generation) -> bool:
        """Whether to become a card's editor now: a look that costs little and spends nothing."""
        redis = self.house.queue.redis
        if hushed(redis, place):
            return False
        if generation.state in FINAL:
            return True
        card = self._card(drawer, place, generation)
        if not self._has_news(drawer, place, generation, card):
            return False
        window: Any = redis.get(_window(drawer, place))
        spent = int(window or 0)
        if spent >= drawer.budget.edits:
            return False
        # The first words wait for nothing that was shown before.
        name = f"drawqueue:pace:{generation.id}{':words' if card.text else ''}"
        pace = _pace(drawer, spent) if card.text else PACE_MS
        return bool(redis.set(name, 1, nx=True, px=pace))

    def _granted(self, drawer: Drawer, place: Place, generation: Generation, card: Card) -> bool:
        """Spend an edit, where there is news, from the chat's budget, which every poster shares.

        Finals are always granted.
        """
        if generation.undeliverable or not self._has_news(drawer, place, generation, card):
            return False
        redis = self.house.queue.redis
        window = _window(drawer, place)
        spent = int(redis.incr(window))
        redis.expire(window, drawer.budget.seconds * 2)
        return generation.state in FINAL or spent <= drawer.budget.edits

    def _has_news(self, drawer: Drawer, place: Place, generation: Generation, card: Card) -> bool:
        """Whether there is more to see than the card shows."""
        if generation.shown_version < generation.version:
            return True
        if generation.state in FINAL:
            return False
        redis = self.house.queue.redis
        shown: Any = redis.get(f"drawqueue:drawn:{card.generation}")
        if shown != _looks(card):
            return True
        spent: Any = redis.get(_window(drawer, place))
        spare = int(spent or 0) < drawer.budget.edits * PREVIEW_SHARE
        return spare and self._preview_due(generation, card)

    def _preview_due(self, generation: Generation, card: Card) -> bool:
        """Whether there is another preview than the one shown, which has stood for a while."""
        if not card.preview:
            return False
        redis = self.house.queue.redis
        shown: Any = redis.get(_shown_preview(generation))
        return shown != card.preview.encode() and not redis.exists(_preview_pace(generation))

    def _pictured(self, generation: Generation, card: Card) -> tuple[Card, bytes | None]:
        """What there is to see on a card: what was drawn, or now and then a new preview.

        The card's `preview` is the one that it will show, or go on showing.
        """
        if not card.preview:
            return card, picture_of(self.house, card)
        shown = self.house.queue.redis.exists(_shown_preview(generation))
        # Another version is drawn as a whole; of earlier attempts' previews none may stay.
        stays = shown and generation.shown_media > 0 and card.version == generation.shown_version
        if (shown and not stays) or self._preview_due(generation, card):
            found = self.house.queue.picture(generation.id, generation.attempt)
            if found:
                return replace(card, preview=found[0]), found[1]
        return (card if stays else replace(card, preview="")), None

    def _note(self, generation: Generation, card: Card, picture: bytes | None) -> None:
        name = f"drawqueue:drawn:{card.generation}"
        redis = self.house.queue.redis
        if not card.live:
            redis.delete(name, _shown_preview(generation))
            return
        redis.set(name, _looks(card), ex=3600)
        if card.preview and picture:
            redis.set(_shown_preview(generation), card.preview, ex=3600)
            redis.set(_preview_pace(generation), 1, px=PREVIEW_PACE_MS)


def hush(redis: Redis, place: Place, seconds: float) -> None:
    """Tell everybody who speaks there, in whichever process, to be silent so long."""
    redis.set(place.key("hush"), 1, px=max(1, int(seconds * 1000) + 50))


def hushed(redis: Redis, place: Place) -> float:
    """For how many seconds more a platform asked for silence in a chat, there or everywhere."""
    keys = place.key("hush"), Place(place.platform, EVERYWHERE).key("hush")
    with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.pttl(key)
        left: list[int] = pipe.execute()
    return max(0, *left) / 1000


def _looks(card: Card) -> bytes:
    """What of a card changes without a new version."""
    return f"{card.version} {card.status} {len(card.text)}".encode()


def _pace(drawer: Drawer, spent: int) -> int:
    """How long words stand that grow, in milliseconds: the first edits of a window come soon, the
    others last until it is over."""
    budget = drawer.budget
    left = budget.seconds - time.time() % budget.seconds
    evenly = int(left * 1000 / (budget.edits - spent))
    return WORDS_PACE_MS if spent < budget.edits / 2 else max(WORDS_PACE_MS, evenly)


def _shown_preview(generation: Generation) -> str:
    """Where the preview that a card shows is noted; another attempt begins with none."""
    return f"drawqueue:shown-preview:{generation.job}"


def _preview_pace(generation: Generation) -> str:
    return f"drawqueue:preview-pace:{generation.job}"


def _window(drawer: Drawer, place: Place) -> str:
    return f"{place.key('edits')}:{int(time.time()) // drawer.budget.seconds}"


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
