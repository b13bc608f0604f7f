"""Anything as what a button hands back: one answer in words or none, and no other's job moves."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

import discord
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from telegram import Bot
from telegram.constants import CallbackQueryLimit, InlineKeyboardButtonLimit

from bots.discord_cards import CONTENT, PREFIX
from bots.telegram_chat import TelegramChat
from core.cards import ACTIONS, Button, pressed
from core.errors import UserError
from core.house import House
from core.options import validate
from core.people import Asker
from core.rows import Generation
from tests.bots.test_discord_handlers import Chat
from tests.bots.test_discord_handlers import chat as chat
from tests.fuzz.texts import TEXT
from tests.journeys.chats import TELEGRAM_TOKEN, wire

NUMBERS = st.one_of(
    st.integers(), st.sampled_from([0, 1, 2, 3, 2**31 - 1, 2**31, 2**63, 10**18 - 1, 10**18]),
    TEXT, st.sampled_from(["٣", "²", "1_0", "+1", "-1", "01", "1.0", "1e3", "1:1", ""]),
)  # fmt: skip
WHAT = st.one_of(
    # Of somebody else's picture, which there is.
    st.sampled_from([*ACTIONS]).map("{}:1".format),
    TEXT,
    st.builds("{}:{}".format, st.sampled_from([*ACTIONS, "delete", "", "Cancel"]), NUMBERS),
)


@given(WHAT)
def test_what_is_pressed_is_known_or_refused(data: str) -> None:
    try:
        action, number = pressed(data)
    except UserError as error:
        assert str(error) == "That button is not one I know."
        return
    assert action in ACTIONS and 0 <= number < 10**18
    assert pressed(Button(action, number, "").id) == (action, number)


def untouched(house: House) -> tuple[Any, ...]:
    """Everything about the first job that a button could change."""
    return vars(house.generations.get(1)), house.queue.draw.rq.get_job_ids()


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No library and none of ours reports a fault."""
    with caplog.at_level(logging.ERROR):
        yield
    assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


@given(what=WHAT, ours=st.booleans())
def test_any_button_in_discord(chat: Chat, errors: None, what: str, ours: bool) -> None:
    if not chat.rows():
        chat.imagine(who=chat.bob)
    wanted = (PREFIX if ours else "") + what.encode(errors="replace").decode()
    wanted = wanted[:100] or "-"
    button: discord.ui.Button[Any] = discord.ui.Button(label="?", custom_id=wanted)

    async def press() -> discord.Message:
        # One that an older version of the bot has left, say.
        view = discord.ui.View(timeout=None)
        view.add_item(button)
        view.stop()
        channel: Any = chat.env.bot.get_channel(chat.channel.id)
        card: discord.Message = await channel.send(view=view)
        await chat.ann.click(card, custom_id=wanted)
        return card

    before = untouched(chat.house)
    card = chat.do(press())
    told = [one for one in chat.seen(chat.ann) if one.id > card.id]
    # A page that was turned is the answer itself.
    turned = [one for one in chat.seen(chat.ann) if one.id == card.id and one.content]
    assert len(told) + len(turned) == bool(ours and re.fullmatch(".+", wanted[len(PREFIX) :])), (
        wanted
    )
    assert untouched(chat.house) == before
    for one in told:
        assert ours and one.flags.ephemeral and 0 < len(one.content) < CONTENT
        assert "Something went wrong" not in one.content


class Wire:
    """A bot at the wire, and somebody's picture whose card Bob sees too."""

    def __init__(self, house: House, door: httpx.Client, url: str) -> None:
        self.house, self.door, self.runner = house, door, asyncio.Runner()
        self.bot = Bot(TELEGRAM_TOKEN, base_url=url)
        self.run(self.bot.initialize())
        self.chat = TelegramChat(house, self.bot)
        self.made: Generation = house.generations.submit(
            validate({"prompt": "a fox"}), Asker("telegram", "501", chat="telegram:chat:-5"), "e",
            {"chat": -5, "topic": None},
        )  # fmt: skip
        self.post("chat", chat_id=-5, type="group", title="Pictures", admins=[])
        self.post("user_message", chat_id=-5, user_id=502, text="hello")
        markup = {"inline_keyboard": [[{"text": "?", "callback_data": "why:1"}]]}
        self.card = self.run(self.bot.send_message(-5, "a card", reply_markup=markup))

    def run(self, what: Any) -> Any:
        return self.runner.run(what)

    def post(self, what: str, **body: Any) -> dict[str, Any]:
        answer = self.door.post(f"/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json() or {})

    def press(self, data: str | None) -> tuple[str | None, int]:
        """The words that Bob's press is answered with, and how many messages it makes."""
        sent = len(self.seen())
        told = self.post(
            "press",
            chat_id=-5,
            user_id=502,
            message_id=self.card.message_id,
            button="?",
            stale=True,
        )
        update = told["update"]
        if data is None:
            del update["callback_query"]["data"]
        else:
            update["callback_query"]["data"] = data

        async def handle() -> None:
            self.chat.inbox.record({str(update["update_id"]): update})
            self.chat._start(str(update["update_id"]))
            await asyncio.gather(*self.chat._tasks)

        self.run(handle())
        assert self.chat.inbox.unhandled() == []
        query = {"id": told["callback_query_id"]}
        (answer,) = [self.door.get("/callback_answer", params=query).json()["answer"]]
        return answer.get("text"), len(self.seen()) - sent

    def turned(self) -> str:
        """The beginning of the card's new words, where a page was turned."""
        card = next(one for one in self.seen() if one["message_id"] == self.card.message_id)
        return str(card["versions"][-1]["text"])[:200] if len(card["versions"]) > 1 else ""

    def seen(self) -> list[Any]:
        return list(self.door.get("/messages", params={"chat_id": -5}).json()["messages"])


@pytest.fixture
def telegram(house: House) -> Iterator[Wire]:
    with wire() as (door, url):
        made = Wire(house, door, url)
        with contextlib.closing(made.runner):
            yield made
            made.run(made.bot.shutdown())


@given(data=st.one_of(st.none(), WHAT))
def test_any_button_in_telegram(telegram: Wire, errors: None, data: str | None) -> None:
    if data is not None:
        most = InlineKeyboardButtonLimit.MAX_CALLBACK_DATA
        data = data.encode(errors="replace")[:most].decode(errors="ignore")
    before = untouched(telegram.house)
    words, messages = telegram.press(data)
    if re.fullmatch("words:[0-9]+", data or ""):
        words = words or telegram.turned()
    assert words and messages == 0 and untouched(telegram.house) == before
    assert len(words) <= CallbackQueryLimit.ANSWER_CALLBACK_QUERY_TEXT_LENGTH
    assert "Something went wrong" not in words
