"""What is being drawn is seen in the chats, in the message that the picture takes over."""

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import pytest
from PIL import Image
from telegram import Bot

from bots.poster import PREVIEW_PACE_MS
from bots.telegram_cards import BLANK, TelegramDrawer, send
from core.house import House
from core.lifecycle import State
from core.options import validate
from core.people import Asker
from tests.journeys.chats import TELEGRAM_TOKEN, Everywhere, Telegram, everywhere, shown, wire

SLOW = "sleep:0.5"
ANN, BOB = 501, 502


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    with everywhere(tmp_path_factory.mktemp("previews")) as made:
        yield made


def states(versions: list[dict[str, Any]]) -> list[str]:
    """The first word that each version of a card says of itself."""
    words = [one.get("content") or shown(one) for one in versions]
    return [told.split()[1] for told in words if told]


def file_of(telegram: Telegram, version: dict[str, Any]) -> Image.Image:
    file = version["photo"]["file_id"]
    data = telegram.door.get("/control/file", params={"file_id": file}).content
    return Image.open(io.BytesIO(data))


def most(times: list[float]) -> float:
    """So many previews may come within these moments, whenever a busy machine hands them on."""
    return 2 + (times[-1] - times[0]) * 1000 / PREVIEW_PACE_MS if times else 0


def previewed(telegram: Telegram, prompt: str) -> dict[str, Any]:
    """The card about a prompt once it shows a preview."""

    def look() -> dict[str, Any] | None:
        card = telegram.card(prompt, chat=BOB)
        last = card["versions"][-1]
        return card if last["kind"] == "photo" and "generating" in shown(last) else None

    return dict(telegram.until(look))


def test_on_telegram_the_words_become_a_photo_and_stay_one(chats: Everywhere) -> None:
    telegram = chats.telegram
    before = len(telegram.messages())
    telegram.say(f"a lighthouse {SLOW} --steps 20")
    done = telegram.card("a lighthouse", "done in")
    assert len(telegram.messages()) == before + 1, "one message, whatever it became"
    kinds = [one["kind"] for one in done["versions"]]
    assert kinds == sorted(kinds, key=["text", "photo"].index), "a photo stays one"
    photos = [one for one in done["versions"] if one["kind"] == "photo"]
    assert photos[0]["method"] == "editMessageMedia" and states(photos)[0] == "generating"
    files = [file_of(telegram, one) for one in photos]
    assert files[0].format == "JPEG" and files[0].size == (256, 256)
    assert files[-1].format == "PNG" and states(photos)[-1] == "done"
    shown_first = [
        two["time"] for one, two in pairwise([done["versions"][0], *photos[:-1]])
        if two["method"] == "editMessageMedia"
    ]  # fmt: skip
    assert len(shown_first) <= most(shown_first)


def test_on_telegram_a_preview_goes_with_its_attempt(chats: Everywhere) -> None:
    telegram = chats.telegram
    telegram.say(f"a lost ship {SLOW} --steps 60", BOB, BOB)
    telegram.press(previewed(telegram, "a lost ship"), "Cancel", BOB, BOB)
    gone = telegram.card("a lost ship", "cancelled", chat=BOB)
    assert file_of(telegram, gone["versions"][-1]).size == BLANK
    # What is drawn after all takes the same message.
    telegram.press(gone, "Retry", BOB, BOB)
    again = previewed(telegram, "a lost ship")
    assert again["message_id"] == gone["message_id"]
    told = states(again["versions"])
    assert told[told.index("cancelled") + 1] in ("queued", "generating")
    telegram.press(again, "Cancel", BOB, BOB)
    telegram.card("a lost ship", "cancelled", chat=BOB)


def test_on_discord_the_attachment_is_replaced(chats: Everywhere) -> None:
    discord = chats.discord
    discord.command("imagine", prompt=f"a windmill {SLOW}", steps=20)
    done = discord.card("a windmill", "done in")
    versions = [one for one in done["versions"] if one["attachments"]]
    assert all(len(one["attachments"]) == 1 for one in versions)
    first, last = (one["attachments"][0] for one in (versions[0], versions[-1]))
    assert states(versions)[0] == "generating"
    assert first["content_type"] == "image/jpeg" and "Not finished" in first["description"]
    assert last["content_type"] == "image/png" and "Not finished" not in last["description"]
    for one in versions:
        assert one["embeds"][0]["image"]["url"] == one["attachments"][0]["url"]
        assert one["embeds"][0]["description"].startswith("a windmill")
    # Progress in between leaves it where it is: a new address would flicker.
    addresses = {one["attachments"][0]["url"] for one in versions[:-1]}
    assert len(addresses) <= most([one["time"] for one in versions])
    assert httpx.get(last["url"]).content.startswith(b"\x89PNG")


def test_on_discord_a_preview_goes_with_its_attempt(chats: Everywhere) -> None:
    discord = chats.discord
    discord.command("imagine", prompt=f"a lost kite {SLOW}", steps=60)
    card = discord.until(
        lambda: [
            one for one in discord.messages()
            if one["versions"][-1]["attachments"]
            and "a lost kite" in str(one["versions"][-1]["embeds"])
        ]
    )[0]  # fmt: skip
    discord.press(card["id"], "Cancel")
    last = discord.card("a lost kite", "cancelled")["versions"][-1]
    assert last["attachments"] == [] and not last["embeds"][0].get("image")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_telegram_knows_better_what_a_message_is(house: House) -> None:
    """An edit whose answer never came may have made a photo of it; a new group has it as text."""
    made = house.generations.submit(
        validate({"prompt": "a wall"}), Asker("telegram", str(ANN)), "e", {"chat": ANN}
    )
    failed = house.generations.fail(made, "It broke.")
    assert failed
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "JPEG")
    card = replace(house.card(made), state=State.GENERATING, preview="x")

    async def story(url: str) -> None:
        async with Bot(TELEGRAM_TOKEN, base_url=url) as bot:
            drawer = TelegramDrawer(bot)
            photo = await send(bot, made.address, card, out.getvalue(), 0)
            words = await send(bot, made.address, card, None, 0)
            for sent, media in ((photo, 0), (words, -1)):
                row = replace(failed, message=str(sent.message_id), shown_media=media)
                await drawer.draw(row, house.card(failed), None)

    with wire() as (door, url):
        door.post("/limits", json={"private_per_second": None})
        door.post("/user_message", json={"chat_id": ANN, "user_id": ANN, "text": "hello"})
        asyncio.run(story(url))
        told = door.get("/messages", params={"chat_id": ANN}).json()["messages"][1:]
    assert [one["versions"][-1]["kind"] for one in told] == ["photo", "text"]
    assert all("It broke." in shown(one["versions"][-1]) for one in told)
    assert told[0]["versions"][-1]["photo"]["height"] == BLANK[1]
