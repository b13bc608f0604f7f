"""The poster over real rows and a real Valkey, drawing on a platform that remembers everything."""

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import event, select, text, update

from bots import poster as module
from bots.poster import Budget, Gone, Later, Moved, Poster, Refused
from core import settings
from core.cards import Card
from core.database import generations, now
from core.house import House
from core.options import validate
from core.people import Asker
from core.rows import Generation

ANN = Asker("paper", "ann", "Ann")
# A window of weeks: no test begins in one and ends in the next.
WINDOW = 10**6


@dataclass(frozen=True)
class Drawn:
    """One card as somebody saw it."""

    id: int
    version: int
    status: str
    picture: bytes | None
    at: float


@dataclass
class Wall:
    """What hangs in the chats, and what happens to who draws there."""

    drawn: list[Drawn] = field(default_factory=list)
    mentions: list[Generation] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    # The messages that were deleted.
    taken: list[int] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    together: int = 0
    doubled: int = 0
    # What a draw of a card waits for, and what it raises or answers once.
    held: dict[int, asyncio.Event] = field(default_factory=dict)
    surprises: dict[int, Any] = field(default_factory=dict)

    def of(self, one: Generation) -> list[Drawn]:
        return [drawn for drawn in self.drawn if drawn.id == one.id]


class Paper:
    """A platform whose messages are entries on a wall."""

    budget = Budget(3, WINDOW)

    def __init__(self, wall: Wall, platform: str = "paper", shut: float = 0.0) -> None:
        self.wall = wall
        self.platform = platform
        self.shut = shut

    async def open(self) -> None:
        if self.shut:
            raise Later(self.shut)

    def chat(self, generation: Generation) -> str:
        return str(generation.address["chat"])

    async def draw(self, generation: Generation, card: Card, picture: bytes | None) -> Moved | None:
        wall = self.wall
        wall.begun.append(generation.id)
        wall.doubled += generation.id in wall.active
        wall.active.append(generation.id)
        wall.together = max(wall.together, len(wall.active))
        try:
            if generation.id in wall.held:
                await wall.held[generation.id].wait()
            surprise = wall.surprises.pop(generation.id, None)
            if isinstance(surprise, Exception):
                raise surprise
            moved = surprise() if callable(surprise) else None
            wall.drawn.append(
                Drawn(generation.id, card.version, card.status, picture, time.monotonic())
            )
            return moved if isinstance(moved, Moved) else None
        finally:
            wall.active.remove(generation.id)

    async def remove(self, generation: Generation) -> bool:
        surprise = self.wall.surprises.pop(generation.id, None)
        if isinstance(surprise, Exception):
            raise surprise
        if surprise is not None:
            return bool(surprise)
        self.wall.taken.append(generation.id)
        return True

    async def mention(self, generation: Generation) -> None:
        self.wall.mentions.append(generation)


@dataclass
class People:
    """Those who ask, and the worker who draws for them."""

    house: House
    count: int = 0

    def ask(self, chat: str = "a", who: Asker = ANN) -> Generation:
        """A picture that waits, its card standing in the chat."""
        self.count += 1
        made = self.house.generations.submit(
            validate({"prompt": "a fox"}), who, f"e{self.count}", {"chat": chat}
        )
        self.house.showing.place(made, str(made.id))
        return made

    def generating(self, chat: str = "a", who: Asker = ANN) -> Generation:
        claimed = self.house.generations.claim(self.ask(chat, who).id)
        assert claimed
        return claimed

    def finish(self, drawn: Generation) -> Generation:
        out = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(out, "PNG")
        key = self.house.media.save(drawn.id, "0.png", out.getvalue())
        done = self.house.generations.finish(drawn, [{"key": key}], 1.0)
        assert done
        return done

    def done(self, chat: str = "a", who: Asker = ANN) -> Generation:
        return self.finish(self.generating(chat, who))

    def row(self, one: Generation) -> Any:
        with self.house.database.read() as connection:
            return connection.execute(select(generations).where(generations.c.id == one.id)).one()

    def change(self, one: Generation, **values: Any) -> None:
        with self.house.database.write() as connection:
            connection.execute(
                update(generations).where(generations.c.id == one.id).values(**values)
            )


@pytest.fixture
def people(house: House, monkeypatch: pytest.MonkeyPatch) -> People:
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.2)
    monkeypatch.setattr(module, "LIVE_SECONDS", 0.2)
    monkeypatch.setattr(module, "PACE_MS", 100)
    return People(house)


@pytest.fixture
def wall() -> Iterator[Wall]:
    yield Wall()


@contextlib.asynccontextmanager
async def posting(house: House, *drawers: Paper) -> AsyncIterator[Poster]:
    """A poster at work."""
    poster = Poster(house, drawers)
    task = asyncio.create_task(poster.run())
    try:
        yield poster
        assert not task.done(), "it goes on whatever happens"
        for drawer in drawers:
            assert not drawer.wall.doubled, "one editor of a card at a time"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(what: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "never came"
        await asyncio.sleep(0.01)


def test_finals_come_before_progress(
    people: People, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    moving = [people.generating("a"), people.generating("b")]
    over = [people.done("a"), people.done("c")]

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: len(wall.drawn) == 4)

    asyncio.run(story())
    assert {one.id for one in wall.drawn[:2]} == {one.id for one in over}
    assert {one.id for one in wall.drawn[2:]} == {one.id for one in moving}
    shown = people.row(over[0])
    assert (shown.shown_version, shown.shown_media) == (over[0].version, 1)
    stored = people.house.media.load(over[0].results[0]["key"])
    assert wall.of(over[0])[0].picture == stored


def test_a_slow_chat_keeps_no_other_waiting(people: People, wall: Wall) -> None:
    slow, beside = people.done("slow"), people.generating("slow")

    async def story() -> None:
        wall.held[slow.id] = asyncio.Event()
        async with posting(people.house, Paper(wall)):
            await until(lambda: slow.id in wall.begun)
            later = [people.done("b"), people.done("c")]
            await until(lambda: all(wall.of(one) for one in later))
            again = people.done("b")
            await until(lambda: wall.of(again))
            assert not wall.of(slow) and beside.id not in wall.begun
            wall.held[slow.id].set()
            await until(lambda: wall.of(slow) and wall.of(beside))

    asyncio.run(story())
    assert wall.begun.count(slow.id) == 1


def test_a_platform_has_room_for_so_many_and_leaves_the_others_theirs(
    people: People, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    slow = [people.done(str(chat)) for chat in range(5)]
    other = people.done("x", Asker("slate", "bob"))

    async def story() -> None:
        free = asyncio.Event()
        wall.held.update({one.id: free for one in slow})
        async with posting(people.house, Paper(wall), Paper(wall, "slate")):
            await until(lambda: wall.of(other) and len(wall.active) == 2)
            await asyncio.sleep(0.6)
            assert len(wall.active) == 2
            free.set()
            await until(lambda: all(wall.of(one) for one in slow))

    asyncio.run(story())
    assert wall.together <= 3, "two of one platform, one of the other"


def test_what_shows_one_that_was_forgotten_is_taken_away_or_emptied(
    people: People, wall: Wall
) -> None:
    plain, kept, gone, later = (people.done(chat) for chat in "abcd")
    every = [plain, kept, gone, later]
    for one in every:
        people.house.queue.forget(one.id, one.attempt)
    people.house.generations.forget([people.row(one) for one in every])
    # One that the platform does not let go, one that nobody reaches, one that it wants to wait.
    wall.surprises.update({kept.id: False, gone.id: Gone("shut out"), later.id: Later(0.05)})

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: all(people.row(one).message is None for one in every))

    asyncio.run(story())
    assert sorted(wall.taken) == [plain.id, later.id]
    (shown,) = wall.drawn
    assert (shown.id, shown.status, shown.picture) == (kept.id, "🗑️ deleted by its asker", None)
    assert [people.row(one).address for one in every] == [{}] * 4, "where it stood is forgotten"
    assert people.house.showing.stale(["paper"]) == [] and not wall.mentions


def test_a_platform_that_refuses_its_token_keeps_no_other_waiting(
    people: People, wall: Wall
) -> None:
    refused, other = people.done(), people.done("x", Asker("slate", "bob"))

    async def story() -> None:
        async with posting(people.house, Paper(wall, shut=60), Paper(wall, "slate")):
            await until(lambda: wall.of(other))

    asyncio.run(story())
    assert not wall.of(refused)


def test_a_token_refused_in_mid_run_rests_in_its_own_process(
    people: People, wall: Wall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REFUSED_SECONDS", 1.0)
    first, second = people.done("a"), people.done("b")
    wall.surprises.update({first.id: Refused(), second.id: Refused()})
    other = people.done("x", Asker("slate", "bob"))

    async def story() -> None:
        async with posting(people.house, Paper(wall), Paper(wall, "slate")):
            await until(lambda: len(wall.begun) == 3 and wall.of(other))
            await asyncio.sleep(0.6)
            assert wall.begun.count(first.id) == wall.begun.count(second.id) == 1
            newer = Wall()
            async with posting(people.house, Paper(newer)):
                # Another process has a token that is taken, and is told of no silence.
                await until(lambda: newer.of(first) and newer.of(second), 1)
            third = people.done("c")
            await until(lambda: wall.of(third), 3)

    asyncio.run(story())
    assert caplog.text.count("refuses its token") == 1


def test_a_silence_everywhere_is_kept_in_every_chat(people: People, wall: Wall) -> None:
    loud, elsewhere = people.done("a"), people.done("x", Asker("slate", "bob"))
    wall.surprises[loud.id] = Later(1.2, everywhere=True)

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: loud.id in wall.begun and not wall.active)
            begun = time.monotonic()
            beside = people.done("b")
            async with posting(people.house, Paper(wall), Paper(wall, "slate")):
                await until(lambda: wall.of(beside) and wall.of(loud))
            assert wall.of(beside)[0].at - begun >= 1.1
            assert wall.of(elsewhere)[0].at < wall.of(beside)[0].at

    asyncio.run(story())


def test_posters_share_one_budget_a_chat_and_finals_are_always_granted(
    people: People, wall: Wall
) -> None:
    moving = [people.generating("busy") for _ in range(6)]
    elsewhere = people.generating("calm")

    async def story() -> None:
        async with posting(people.house, Paper(wall)), posting(people.house, Paper(wall)):
            await until(lambda: len(wall.drawn) == 4)
            await asyncio.sleep(1)
            assert len(wall.drawn) == 4 and wall.of(elsewhere)
            over = [people.finish(one) for one in moving]
            await until(lambda: len(wall.drawn) == 10)
            assert [len(wall.of(one)) for one in over] == [
                1 + (one.id in [d.id for d in wall.drawn[:4]]) for one in over
            ]

    asyncio.run(story())


def test_progress_is_drawn_when_it_looks_different(people: People, wall: Wall) -> None:
    moving = people.generating()

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: wall.drawn)
            await asyncio.sleep(0.8)
            assert len(wall.drawn) == 1, "nothing moved"
            people.house.queue.beat(moving.id, 1, 0.42)
            await until(lambda: len(wall.drawn) == 2)

    asyncio.run(story())
    assert "42 %" in wall.drawn[1].status and wall.drawn[1].version == wall.drawn[0].version


def test_two_posters_show_each_version_once(people: People, wall: Wall) -> None:
    blocking, other = people.done(), people.done()

    async def story() -> None:
        wall.held[blocking.id] = asyncio.Event()
        async with posting(people.house, Paper(wall)):
            # Its list holds both cards, and it stands at the first.
            await until(lambda: wall.active == [blocking.id])
            async with posting(people.house, Paper(wall)):
                await until(lambda: wall.of(other))
                wall.held[blocking.id].set()
                await until(lambda: wall.of(blocking))
                many = [people.done(f"c{number % 4}") for number in range(12)]
                await until(lambda: all(wall.of(one) for one in many))
                await asyncio.sleep(0.5)

    asyncio.run(story())
    seen = [(one.id, one.version) for one in wall.drawn if one.version]
    assert len(seen) == len(set(seen))


def test_a_card_that_changed_while_it_was_drawn_is_drawn_again(people: People, wall: Wall) -> None:
    moving = people.generating()

    async def story() -> None:
        wall.held[moving.id] = asyncio.Event()
        async with posting(people.house, Paper(wall)):
            await until(lambda: wall.active)
            done = people.finish(moving)
            wall.held[moving.id].set()
            await until(lambda: people.row(moving).shown_version == done.version)

    asyncio.run(story())
    assert [one.version for one in wall.drawn] == [2, 3]


def wait_long(people: People, one: Generation) -> None:
    people.change(one, created=now() - timedelta(hours=1))


def test_who_waited_long_is_mentioned_once_and_the_quiet_never(people: People, wall: Wall) -> None:
    quiet = Asker("paper", "bob", "Bob")
    assert people.house.people.turn_quiet(quiet)
    long, hushed, short = people.done("a"), people.done("b", quiet), people.done("c")
    wait_long(people, long)
    wait_long(people, hushed)

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: len(wall.drawn) == 3 and wall.mentions)
            people.change(long, shown_version=0)  # As if the card had changed again.
            await until(lambda: len(wall.of(long)) == 2)
            await asyncio.sleep(0.3)

    asyncio.run(story())
    assert [one.id for one in wall.mentions] == [long.id]
    assert wall.of(hushed) and wall.of(short)


def test_mentions_can_be_switched_off(
    people: People, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_MENTION_AFTER", "0")
    settings._read.cache_clear()
    long = people.done()
    wait_long(people, long)

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: people.row(long).shown_version == long.version)
            await asyncio.sleep(0.2)

    asyncio.run(story())
    assert not wall.mentions


def test_who_lost_the_lease_notes_nothing_and_mentions_nobody(people: People, wall: Wall) -> None:
    long = people.done()
    wait_long(people, long)
    wall.surprises[long.id] = lambda: people.change(long, editor="another")

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: wall.drawn)
            await asyncio.sleep(0.6)

    asyncio.run(story())
    row = people.row(long)
    assert row.shown_version < long.version and row.editor == "another"
    assert not wall.mentions and not row.mentioned


def test_silence_is_kept_for_as_long_as_asked_and_finals_come_after(
    people: People, wall: Wall
) -> None:
    first = people.generating("a")
    wall.surprises[first.id] = Later(1.2)

    async def story() -> None:
        async with posting(people.house, Paper(wall)), posting(people.house, Paper(wall)):
            await until(lambda: first.id in wall.begun)
            begun = time.monotonic()
            await until(lambda: not wall.active)
            final, elsewhere = people.done("a"), people.done("b")
            await until(lambda: wall.of(final))
            assert wall.of(final)[0].at - begun >= 1.1
            assert wall.of(elsewhere)[0].at < wall.of(final)[0].at, "other chats go on"
            await until(lambda: wall.of(first))

    asyncio.run(story())


def test_a_card_out_of_reach_is_not_asked_for_again(people: People, wall: Wall) -> None:
    gone, other = people.done("a"), people.done("a")
    wall.surprises[gone.id] = Gone("the chat is gone")

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: wall.of(other))
            await asyncio.sleep(0.6)

    asyncio.run(story())
    assert wall.begun.count(gone.id) == 1
    assert people.row(gone).undeliverable == "the chat is gone"


def test_a_card_that_moved_is_found_where_it_went(people: People, wall: Wall) -> None:
    one = people.done()
    wait_long(people, one)
    wall.surprises[one.id] = lambda: Moved({"chat": "elsewhere"}, "77")

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: wall.mentions)

    asyncio.run(story())
    row = people.row(one)
    assert (row.address, row.message) == ({"chat": "elsewhere"}, "77")
    assert wall.mentions[0].address == {"chat": "elsewhere"} and wall.mentions[0].message == "77"


def test_a_card_that_fails_for_a_fault_of_ours_rests_and_the_others_go_on(
    people: People, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_SECONDS", 0.8)
    bad, good = people.done("a"), people.done("a")
    wall.surprises[bad.id] = ValueError("a bug")

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: bad.id in wall.begun)
            begun = time.monotonic()
            await until(lambda: wall.of(good) and wall.of(bad))
            assert wall.of(bad)[0].at - begun > 0.7

    asyncio.run(story())
    assert wall.begun.count(bad.id) == 2


def test_a_database_that_is_away_pauses_the_loop_and_loses_no_card(
    people: People, wall: Wall
) -> None:
    one, *others = [people.done("a") for _ in range(12)]
    refused: list[Any] = []
    event.listen(people.house.database.engine, "handle_error", refused.append)
    away = "ALTER TABLE generations RENAME TO elsewhere"
    back = "ALTER TABLE elsewhere RENAME TO generations"

    def rename(words: str) -> None:
        with people.house.database.write() as connection:
            connection.execute(text(words))

    wall.surprises[one.id] = lambda: rename(away)

    async def story() -> None:
        async with posting(people.house, Paper(wall)):
            await until(lambda: wall.of(one))
            await asyncio.sleep(0.5)
            assert wall.begun == [one.id]
            assert 1 <= len(refused) <= 5, "one look a round, not one a card"
            rename(back)
            await until(lambda: people.row(one).shown_version == one.version)
            await until(lambda: all(wall.of(other) for other in others))

    asyncio.run(story())
