"""Cards of what is written: within each platform's limits, as plain words, and streamed beside the
card where the platform lets one."""

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from telegram import Bot

from bots import discord_cards, telegram_cards
from bots import poster as module
from bots.poster import Budget, Later, Moved
from bots.telegram_cards import TelegramDrawer
from bots.words import parted
from core.cards import Card
from core.lifecycle import State
from core.options import Mode
from core.rows import Generation
from core.writing import request_of
from tests.bots.test_poster import ANN, WINDOW, Paper, People, Wall, posting, until
from tests.bots.test_poster import people as people
from tests.bots.test_poster import wall as wall
from tests.servers.telegram_text import parse_html, units

NASTY = (
    "**b** <i>x</i> &amp; @everyone <@123456789012345678> [a](http://b.example)\n# h\n- i 🦊 `c`\n"
)
SEED = 5
THE_END = "and that was it"


def card(text: str, state: State = State.DONE, **more: str) -> Card:
    told = {"prompt": "a <poem> & @bobby123", "notice": "", **more}
    return Card(
        12, 3, state, "✍️ writing", told["prompt"], "pattern", 0.0, (), (), "", told["notice"],
        text=text, words=True,
    )  # fmt: skip


# As much as there is room for


@pytest.mark.parametrize("end", [False, True])
def test_a_part_is_as_long_as_there_is_room_and_cuts_no_word(end: bool) -> None:
    text = " ".join(f"word{number}" for number in range(400))
    for room in (20, 100, 101, 999, len(text) - 1):
        part = parted(text, room, end=end)
        assert room - 12 < len(part) <= room
        kept = part.strip("…")
        assert text.endswith(kept) if end else text.startswith(kept)
        assert set(kept.split()) <= set(text.split())
    assert parted(text, len(text), end=end) == text


def test_what_is_shown_longer_than_it_is_has_room_as_well() -> None:
    chance = random.Random(SEED)
    for _ in range(200):
        text = "".join(chance.choice("a *🦊@\n<") for _ in range(chance.randrange(1, 300)))
        room = chance.randrange(2, 200)
        for end in (False, True):
            part = parted(text, room, lambda one: one.replace("*", "\\*"), end=end, length=units)
            assert units(part) <= room


# Discord


@pytest.mark.parametrize("times", [1, 20, 45, 60, 900])
@pytest.mark.parametrize("notice", ["", "It broke. " * 20])
def test_a_card_on_discord_holds_what_it_can_and_the_file_all_of_it(
    times: int, notice: str
) -> None:
    text = NASTY * times + THE_END
    for state in (State.GENERATING, State.DONE):
        shown = discord_cards.message(card(text, state, notice=notice), None)
        words = shown["embed"].description
        assert len(words) <= 4096 and notice.strip() in words
        assert "@everyone" not in words and "<@1" not in words
        assert not re.search(r"(?<!\\)\[[^\]]*\]\(", words), "a link is no link"
        files = shown["attachments"]
        whole = len(discord_cards.plain_whole(text)) <= discord_cards.room_for(
            card(text, state, notice=notice)
        )
        assert whole == (times < 45)
        assert [one.filename for one in files] == (
            [] if whole or state == State.GENERATING else ["12.txt"]
        )
        for file in files:
            assert file.fp.read().decode() == text
        if not whole:
            # What is new is at its end while it grows.
            assert (THE_END in words) == (state == State.GENERATING)
            assert words.split("\n", 1)[1].startswith("…") == (state == State.GENERATING)
        assert shown["content"] == "✍️ writing", "nobody knows which share is done"


# Telegram


@pytest.mark.parametrize("times", [1, 20, 40, 60, 900])
def test_a_card_on_telegram_is_whole_html_within_its_limits(times: int) -> None:
    text = NASTY * times
    for state in (State.GENERATING, State.CANCELLED, State.DONE):
        # Of so long a prompt a part stands above.
        one = card(text, state, prompt="a <poem> & @bobby123 " * 30)
        for limit in (4096, 1024):
            told, entities = parse_html(telegram_cards.body(one, limit))
            assert units(told) <= limit
            assert [found["type"] for found in entities] == ["bold", "blockquote", "italic"]
            assert "@everyone" not in told and "@bobby123" not in told
        file = telegram_cards.whole(one)
        assert bool(file) == (state == State.DONE and times >= 60)
        assert file is None or file == ("12.txt", text.encode())


# Beside the card

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class Ticker(Paper):
    """A platform where words pass beside the card."""

    wall: Wall
    platform: str = "paper"
    shut: float = 0.0
    takes: bool = True
    silence: float = 0.0
    passed: list[str] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)

    async def draw(self, generation: Generation, card: Card, picture: bytes | None) -> Moved | None:
        self.cards.append(card)
        return await super().draw(generation, card, picture)

    def streams(self, generation: Generation) -> bool:
        return generation.address["chat"] != "group"

    async def stream(self, generation: Generation, card: Card) -> bool:
        self.passed.append(card.text if card.live else card.status)
        if silence := self.silence:
            self.silence = 0.0
            raise Later(silence)
        return self.takes


@pytest.fixture
def writing(people: People, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Generation]:
    """Somebody begins to write, of whom the chat hears."""
    monkeypatch.setenv("DRAWQUEUE_TEXT_MODEL", "pattern")
    monkeypatch.setattr(module, "STREAM_PACE_MS", 100)
    monkeypatch.setattr(module, "WORDS_PACE_MS", 100)

    def begin(chat: str) -> Generation:
        people.count += 1
        asked = request_of(Mode.WRITE, "a tale")
        made = people.house.generations.submit(asked, ANN, f"e{people.count}", {"chat": chat})
        people.house.showing.place(made, str(made.id))
        claimed = people.house.generations.claim(made.id)
        assert claimed
        return claimed

    return begin


def say(people: People, one: Generation, words: str) -> None:
    people.house.queue.say(one.id, one.attempt, words)


@ON_SQLITE
def test_words_pass_beside_the_card_which_says_them_in_the_end(
    people: People, wall: Wall, writing: Callable[[str], Generation]
) -> None:
    ticker, one = Ticker(wall), writing("alone")

    async def story() -> None:
        async with posting(people.house, ticker):
            for words in ("one", "one two", "one two three"):
                say(people, one, words)
                await until(lambda words=words: ticker.passed[-1:] == [words])
            spent = len(ticker.cards)
            assert people.house.generations.finish(one, [], 1.0, text="one two three four")
            await until(lambda: ticker.passed[-1:] == ["✅ written in 1 s"])
            assert len(ticker.cards) == spent + 1 == 2, "no edit was spent on what grows"

    asyncio.run(story())
    assert [card.text for card in ticker.cards] == ["", "one two three four"]
    assert ticker.passed == ["one", "one two", "one two three", "✅ written in 1 s"]


@ON_SQLITE
def test_a_chat_that_takes_none_is_asked_once_and_the_card_grows(
    people: People, wall: Wall, writing: Callable[[str], Generation]
) -> None:
    ticker, one, other = Ticker(wall, takes=False), writing("alone"), writing("group")
    ticker.budget = Budget(1000, WINDOW)

    async def story() -> None:
        async with posting(people.house, ticker):
            for words in ("one", "one two"):
                say(people, one, words)
                say(people, other, words)
                for id_ in (one.id, other.id):
                    await until(
                        lambda id_=id_, words=words: any(
                            card.text == words for card in ticker.cards if card.generation == id_
                        )
                    )
            assert people.house.generations.finish(one, [], 1.0, text="one two three")
            await until(lambda: ticker.cards[-1].text == "one two three")

    asyncio.run(story())
    assert ticker.passed == ["one"]


@ON_SQLITE
def test_a_silence_that_is_asked_for_is_kept_by_the_card_too(
    people: People, wall: Wall, writing: Callable[[str], Generation]
) -> None:
    ticker, one = Ticker(wall, silence=1.2), writing("alone")

    async def story() -> None:
        async with posting(people.house, ticker):
            await until(lambda: len(wall.drawn) == 1)
            say(people, one, "one")
            await until(lambda: ticker.passed)
            asked = asyncio.get_running_loop().time()
            assert people.house.generations.finish(one, [], 1.0, text="one two")
            await until(lambda: len(wall.drawn) == 2)
            assert asyncio.get_running_loop().time() - asked > 1.0

    asyncio.run(story())


def test_a_small_budget_lasts_for_its_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = Paper(Wall())
    paper.budget = Budget(13, 60)
    monkeypatch.setattr(module.time, "time", lambda: 600.0)
    paces = [module._pace(paper, spent) for spent in range(13)]
    assert paces[:7] == [module.WORDS_PACE_MS] * 7
    assert paces[7] == 10_000 and paces[12] == 60_000
    monkeypatch.setattr(module.time, "time", lambda: 658.0)
    assert module._pace(paper, 12) == 2000


def test_drafts_are_for_people_alone() -> None:
    drawer = TelegramDrawer(Bot("1:TEST"))
    for chat, told in ((501, True), (-700, False), (-1001234567890, False)):
        one = Generation.__new__(Generation)
        object.__setattr__(one, "address", {"chat": chat})
        assert drawer.streams(one) == told
