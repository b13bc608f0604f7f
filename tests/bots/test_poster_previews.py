"""Previews on cards: the newest, seldom, with rate to spare, and gone when the attempt is."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from bots import poster as module
from bots.poster import TAKEN_AWAY, Moved
from core.cards import Card
from core.rows import Generation
from tests.bots.test_poster import ANN, Paper, People, Wall, posting, until
from tests.bots.test_poster import people as people
from tests.bots.test_poster import wall as wall

ONE, TWO, THREE = b"\xff\xd8 one", b"\xff\xd8 two", b"\xff\xd8 three"


@dataclass
class Seen:
    """What a card's message shows after an edit."""

    status: str
    new: bytes | None
    stays: bool
    # What the row said of the message before.
    before: int


@dataclass
class Screen(Paper):
    """A platform that remembers what was to be seen."""

    wall: Wall
    platform: str = "paper"
    shut: float = 0.0
    seen: list[Seen] = field(default_factory=list)

    async def draw(self, generation: Generation, card: Card, picture: bytes | None) -> Moved | None:
        moved = await super().draw(generation, card, picture)
        stays = bool(card.preview) and picture is None
        self.seen.append(Seen(card.status, picture, stays, generation.shown_media))
        return moved

    def pictures(self) -> list[bytes]:
        return [one.new for one in self.seen if one.new]


@pytest.fixture
def screen(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> Screen:
    # Longer than any test: a while passes when a test says so.
    monkeypatch.setattr(module, "PREVIEW_PACE_MS", 600_000)
    made = Screen(wall)
    made.budget = module.Budget(1000, 10**6)
    return made


def draws(people: People, one: Generation, share: float, picture: bytes) -> None:
    people.house.queue.preview(one.id, one.attempt, picture)
    people.house.queue.beat(one.id, one.attempt, share)


def test_the_newest_is_shown_then_stays_and_the_picture_takes_its_place(
    people: People, screen: Screen
) -> None:
    moving = people.generating()

    async def story() -> None:
        async with posting(people.house, screen):
            await until(lambda: screen.seen)
            draws(people, moving, 0.2, ONE)
            await until(lambda: screen.pictures() == [ONE])
            await until(lambda: people.row(moving).shown_media == 1)
            draws(people, moving, 0.3, TWO)
            draws(people, moving, 0.4, THREE)
            await until(lambda: screen.seen[-1].stays and "40 %" in screen.seen[-1].status)
            assert screen.pictures() == [ONE]
            people.house.queue.redis.delete(module._preview_pace(moving))
            await until(lambda: screen.pictures() == [ONE, THREE])
            people.finish(moving)
            await until(lambda: len(screen.pictures()) == 3)

    asyncio.run(story())
    assert not screen.seen[0].stays
    assert screen.seen[-1].new == people.house.media.load(
        people.house.generations.get(moving.id).results[0]["key"]
    )
    assert people.house.queue.picture(moving.id, 1) is None


ENDS: dict[str, Callable[[People, Generation], object]] = {
    "cancelled": lambda people, one: people.house.generations.cancel(one.id, ANN),
    "failed": lambda people, one: (
        people.house.generations.fail(one, "It broke."),
        people.house.queue.draw.ended(one.id, one.attempt, 1.0),
    ),
    "put back": lambda people, one: people.house.generations.put_back(one, "Restarted."),
}


@pytest.mark.parametrize("end", ENDS)
def test_it_goes_with_its_attempt(people: People, screen: Screen, end: str) -> None:
    moving = people.generating()

    async def story() -> None:
        async with posting(people.house, screen):
            draws(people, moving, 0.2, ONE)
            await until(lambda: people.row(moving).shown_media == 1)
            ENDS[end](people, moving)
            await until(lambda: people.row(moving).shown_media == TAKEN_AWAY)

    asyncio.run(story())
    last = screen.seen[-1]
    assert (last.new, last.stays, last.before) == (None, False, 1)
    assert people.house.queue.picture(moving.id, 1) is None


def test_another_attempt_keeps_nothing_of_the_one_before(people: People, screen: Screen) -> None:
    moving = people.generating()
    queue = people.house.queue

    async def story() -> None:
        async with posting(people.house, screen):
            draws(people, moving, 0.2, ONE)
            await until(lambda: people.row(moving).shown_media == 1)
        # Nobody saw it standing in line again.
        people.house.generations.put_back(moving)
        again = people.house.generations.claim(moving.id)
        assert again and again.attempt == 2
        screen.seen.clear()
        async with posting(people.house, screen):
            await until(lambda: people.row(moving).shown_media == TAKEN_AWAY)
            draws(people, again, 0.5, TWO)
            await until(lambda: people.row(moving).shown_media == 1)

    asyncio.run(story())
    assert not screen.seen[0].stays and screen.pictures() == [TWO]
    assert queue.picture(moving.id, 1) is None


def test_words_that_come_meanwhile_are_drawn_with_the_preview(
    people: People, screen: Screen
) -> None:
    moving = people.generating()

    async def story() -> None:
        async with posting(people.house, screen):
            draws(people, moving, 0.2, ONE)
            await until(lambda: people.row(moving).shown_media == 1)
            told = people.house.generations.tell(moving, "Short of memory: making room.")
            assert told
            await until(lambda: people.row(moving).shown_version == told.version)

    asyncio.run(story())
    assert screen.pictures() == [ONE, ONE], "a card is drawn as a whole where its words change"


def test_alone_it_is_a_reason_only_with_rate_to_spare(people: People, screen: Screen) -> None:
    screen.budget = module.Budget(4, 10**6)
    moving = people.generating()
    queue = people.house.queue

    async def story() -> None:
        async with posting(people.house, screen):
            await until(lambda: len(screen.seen) == 1)
            draws(people, moving, 0.0, ONE)
            await until(lambda: people.row(moving).shown_media == 1)
            queue.redis.delete(module._preview_pace(moving))
            # Half is spent, and the rest is for what comes anyway.
            draws(people, moving, 0.0, TWO)
            await asyncio.sleep(0.8)
            assert len(screen.seen) == 2
            draws(people, moving, 0.2, THREE)
            await until(lambda: screen.pictures() == [ONE, THREE])
            queue.beat(moving.id, 1, 0.3)
            await until(lambda: len(screen.seen) == 4)
            queue.redis.delete(module._preview_pace(moving))
            draws(people, moving, 0.4, TWO)
            await asyncio.sleep(0.8)
            assert len(screen.seen) == 4, "none is left"
            people.finish(moving)
            await until(lambda: len(screen.pictures()) == 3)

    asyncio.run(story())
    assert len(screen.seen) == 5
