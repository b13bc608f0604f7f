"""Which pictures a Telegram message means, and what is told when they cannot be had."""

import asyncio
import base64
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image
from telegram import Bot, Chat, InlineKeyboardMarkup, Message, User

from bots import telegram_chat
from bots.telegram_cards import keyboard
from bots.telegram_chat import TelegramChat
from bots.telegram_pictures import Sent, card_in, meant
from core import settings
from core.cards import ACTIONS, Button
from core.commands import BY_NAME, from_text
from core.errors import UserError
from core.house import House
from tests.journeys.chats import TELEGRAM_TOKEN as TOKEN
from tests.journeys.chats import shown, wire

ANN = 501
OWN, MASK, THEIRS = Sent("own"), Sent("mask"), Sent("theirs")


@pytest.mark.parametrize(
    ("line", "own", "card", "answered", "given", "files"),
    [
        ("a fox", [OWN], None, None, {}, [OWN]),
        ("a fox", [], None, THEIRS, {}, [THEIRS]),
        ("/remix a fox", [], 12, THEIRS, {"source": "12"}, []),
        # What is said, and what comes along, count before what is answered.
        ("/remix a fox --from 7", [], 12, THEIRS, {"source": "7"}, []),
        ("/remix a fox", [OWN], 12, THEIRS, {}, [OWN]),
        ("/imagine a fox", [], 12, None, {"source": "12"}, []),
        ("/inpaint a hat", [OWN, MASK], 12, THEIRS, {}, [OWN, MASK]),
        ("/inpaint a hat", [MASK], None, THEIRS, {}, [THEIRS, MASK]),
        ("/inpaint a hat", [MASK], 12, THEIRS, {"source": "12"}, [MASK]),
        ("/inpaint a hat --from 7", [], None, MASK, {"source": "7"}, [MASK]),
        ("/inpaint a hat --from 7", [MASK], None, THEIRS, {"source": "7"}, [MASK]),
        ("/inpaint a hat --from 7", [], 12, THEIRS, {"source": "7"}, [THEIRS]),
        ("/style a hat", [], 12, THEIRS, {"source": "12"}, []),
        ("/style a hat", [OWN], 12, THEIRS, {"source": "12"}, [OWN]),
        ("/style a hat", [OWN], None, THEIRS, {}, [THEIRS, OWN]),
        ("/style a hat --from 7", [], 12, THEIRS, {"source": "12 7"}, []),
        ("/blend", [OWN, OWN], 12, None, {"source": "12"}, [OWN, OWN]),
        ("/blend --from 7 8.2", [], 12, None, {"source": "12 7 8.2"}, []),
        ("/upscale", [OWN], 12, None, {}, [OWN]),
        ("/upscale 4", [OWN], None, None, {"factor": "4"}, [OWN]),
        ("/upscale 4", [], 12, THEIRS, {"factor": "4", "id": "12"}, []),
        ("/upscale 7 4", [], 12, THEIRS, {"id": "7", "factor": "4"}, []),
        ("/upscale 4", [], None, None, {"id": "4"}, []),
        ("/upscale", [], None, THEIRS, {}, [THEIRS]),
        ("/vary Strong", [], 12, THEIRS, {"how": "strong", "id": "12"}, []),
        ("/vary 7", [], 12, THEIRS, {"id": "7"}, []),
        ("/cancel", [], 12, None, {"id": "12"}, []),
        ("/cancel all", [], 12, None, {"id": "all"}, []),
        ("/priority high", [], 12, None, {"level": "high", "id": "12"}, []),
        ("/show", [OWN], None, THEIRS, {}, []),
        ("/queue", [OWN], 12, THEIRS, {}, []),
    ],
)
def test_what_a_command_means(
    line: str, own: list[Sent], card: int | None, answered: Sent | None,
    given: dict[str, str], files: list[Sent],
) -> None:  # fmt: skip
    name, typed, _ = from_text(line)
    typed.pop("prompt", None)
    assert meant(BY_NAME[name], typed, own, card, answered) == (given, files)


@pytest.mark.parametrize(
    ("line", "own", "answered", "words"),
    [
        ("/remix a fox", [OWN, MASK], None, "/remix takes 1 picture; got 2."),
        ("/upscale", [OWN, MASK], None, "/upscale takes 1 picture; got 2."),
        ("/inpaint a hat", [OWN] * 3, None, "/inpaint takes 2 pictures; got 3."),
        ("/vary", [OWN], None, "for pictures that I drew"),
        ("/vary strong", [], THEIRS, "for pictures that I drew"),
    ],
)
def test_what_does_not_fit_is_told(
    line: str, own: list[Sent], answered: Sent | None, words: str
) -> None:
    name, typed, _ = from_text(line)
    with pytest.raises(UserError, match=words):
        meant(BY_NAME[name], typed, own, None, answered)


def test_a_card_is_known_by_its_buttons() -> None:
    def read(sender: int, markup: InlineKeyboardMarkup | None) -> int | None:
        who = User(sender, "Somebody", True)
        chat = Chat(ANN, "private")
        message = Message(1, datetime.now(UTC), chat, from_user=who, reply_markup=markup)
        return card_in(message, 123)

    card = keyboard([Button(one, 12, ACTIONS[one]) for one in ("cancel", "why")])
    assert read(123, card) == 12
    assert read(124, card) is None, "of another bot's buttons we know nothing"
    question = keyboard([Button(one, 12, ACTIONS[one]) for one in ("agree", "refuse")])
    assert read(123, question) is None, "its number is that of a question"
    assert read(123, None) is None


def photo() -> dict[str, Any]:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(out, "PNG")
    return {"photo": base64.b64encode(out.getvalue()).decode()}


def big(size: int) -> dict[str, Any]:
    return {"kind": "document", "file_name": "a.png", "size": size}


def answered(house: House, *asked: tuple[dict[str, Any], dict[str, Any]]) -> list[str]:
    """What is answered to pictures with the caption "a fox", each after a fault, if any."""

    async def handle(url: str) -> None:
        bot = Bot(TOKEN, base_url=url, base_file_url=url.replace("/bot", "/file/bot"))
        async with bot:
            chat = TelegramChat(house, bot)
            for fault, fields in asked:
                what = "photo_message" if "photo" in fields else "file_message"
                who = {"chat_id": ANN, "user_id": ANN, "caption": "a fox"}
                update = door.post(f"/{what}", json={**who, **fields}).json()
                if fault:
                    door.post("/fail", json=fault)
                event = str(update["update_id"])
                chat.inbox.record({event: update})
                chat._start(event)
                await asyncio.gather(*chat._tasks)

    with wire() as (door, url):
        asyncio.run(handle(url))
        told = door.get("/messages", params={"chat_id": ANN}).json()["messages"]
    found = [shown(one["versions"][-1]) for one in told if one["from_bot"]]
    assert len(found) == len(asked)
    return found


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telegram_chat, "FETCH_PAUSES", (0.1, 0.1))


FAULTS: list[dict[str, Any]] = [
    {"method": "file", "status": 404, "description": "Not Found"},
    {"method": "file", "status": 502},
    {"method": "getFile", "status": 400,
     "description": "Bad Request: wrong file_id or the file is temporarily unavailable"},
]  # fmt: skip


@pytest.mark.usefixtures("hasty")
def test_a_picture_is_asked_for_again_and_then_told_to_be_gone(house: House) -> None:
    asked = [({**one, "times": times}, photo()) for one in FAULTS for times in (3, 2)]
    told = answered(house, *asked)
    gone = "Telegram does not hand me that picture just now. Please send it again."
    assert told[::2] == [gone] * 3
    assert all("a fox" in one and "queued" in one for one in told[1::2]), told


def test_what_telegram_hands_to_no_bot_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAWQUEUE_UPLOAD_MB", "40")
    settings._read.cache_clear()
    assert answered(house, ({}, big(30_000_000)), ({}, big(41_000_000))) == [
        "Telegram hands me no file of more than 20 MB.",
        "That file has 41.0 MB; 40 MB is the most.",
    ]


@pytest.mark.usefixtures("hasty")
def test_a_storage_that_is_away_is_waited_for_and_then_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(data: bytes) -> str:
        tries.append(data)
        raise OSError("No space left on device")

    tries: list[bytes] = []
    monkeypatch.setattr(house.media, "save_upload", full)
    [told] = answered(house, ({}, photo()))
    assert told.startswith("I could not store that picture just now.") and len(tries) == 3
