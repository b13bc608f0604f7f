"""What a classifier marks, as people on Discord, Telegram and the web meet it, over the wire.

The classifier is a real one in small, which marks what is red; what is drawn of a red picture by
/remix is red.
"""

import asyncio
import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageChops, ImageStat
from telegram import Bot

from bots import telegram_cards
from core.cards import Card
from core.lifecycle import State
from core.policy import Show
from tests import checkers
from tests.journeys.chats import (
    ANN,
    TELEGRAM_TOKEN,
    Discord,
    Telegram,
    on_discord,
    server,
    shown,
    wire,
)
from tests.journeys.test_discord_pictures import number_of, spec
from tests.journeys.test_telegram_pictures import written
from tests.journeys.test_telegram_trouble import huge

OPEN, ADULT, THREAD, BLURRED, WITHHELD = "9000", "9001", "9002", "9003", "9004"
GROUP, BLURRED_GROUP, WITHHELD_GROUP = -700, -701, -702
POLICY = f"""
[classes.fast]
members = ["everyone"]
[marked]
blur = ["discord:channel:{BLURRED}", "telegram:chat:{BLURRED_GROUP}"]
withhold = ["discord:channel:{WITHHELD}", "telegram:chat:{WITHHELD_GROUP}"]
"""
Said = dict[str, Any]


@dataclass
class House:
    """One Drawqueue with a classifier, and what people do in its chats."""

    discord: Discord
    telegram: Telegram
    web: httpx.Client

    def remix(self, prompt: str, colour: str, channel: str, **options: Any) -> Said:
        """Have a picture drawn that is nearly of one colour; its finished card."""
        place = {"dm": True} if channel == "dm" else {"channel_id": channel}
        picture = spec(Image.new("RGB", (256, 256), colour))
        asked = self.discord.command(
            "remix", place=place, prompt=prompt, image=picture, strength=0.1, **options
        )
        there = self.discord.interaction(asked)["channel_id"]
        return self.discord.card(prompt, "done in", channel=there)

    def press(self, card: Said, label: str, channel: str = OPEN) -> None:
        answer = self.discord.door.post("/control/press", json={
            "message_id": card["id"], "channel_id": channel, "label": label, "user_id": ANN,
            "permissions": "0", "stale": False,
        })  # fmt: skip
        assert answer.status_code == 200, answer.text

    def sent(self, prompt: str, colour: str, chat: int) -> Said:
        """The same on Telegram."""
        out = io.BytesIO()
        Image.new("RGB", (256, 256), colour).save(out, "PNG")
        self.telegram.send(out.getvalue(), f"/remix {prompt} --strength 0.1", chat)
        return self.telegram.card(prompt, "done in", chat=chat)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("safety")
    (folder / "policy.toml").write_text(POLICY)
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        on_discord(
            folder, DRAWQUEUE_POLICY=str(folder / "policy.toml"),
            DRAWQUEUE_CLASSIFIER=checkers.classifier(folder / "classifier"),
            TELEGRAM_TOKEN=TELEGRAM_TOKEN, TELEGRAM_API_URL=f"{address}/bot",
            TELEGRAM_FILE_URL=f"{address}/file/bot",
        ) as discord,
    ):  # fmt: skip
        telegram = Telegram(door, discord.drawqueue)
        telegram.post("limits", private_per_second=None, group_per_minute=None)
        for group in (GROUP, BLURRED_GROUP, WITHHELD_GROUP):
            telegram.post("chat", chat_id=group, type="supergroup", title="Group", admins=[502])
        discord.door.post("/control/limits", json={"messages": [50, 5.0], "webhooks": [50, 2.0]})
        discord.door.post("/control/guild", json={
            "id": "900", "members": [ANN], "channels": [
                {"id": OPEN}, {"id": ADULT, "nsfw": True}, {"id": THREAD, "thread_of": ADULT},
                {"id": BLURRED}, {"id": WITHHELD},
            ],
        })  # fmt: skip
        discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") == 2)
        yield House(discord, telegram, discord.drawqueue.client)


def last(card: Said) -> Said:
    return dict(card["versions"][-1])


def file_of(version: Said) -> str:
    (file,) = version["attachments"]
    return str(file["filename"])


def told(version: Said) -> str:
    return str(version["embeds"][0]["description"])


def seen(version: Said) -> Image.Image:
    (file,) = version["attachments"]
    return Image.open(io.BytesIO(httpx.get(file["url"]).content))


def sharpness(image: Image.Image) -> float:
    """How much two pixels beside each other differ at most, of 255."""
    grey = image.convert("L")
    beside = grey.crop((1, 0, grey.width, grey.height))
    apart = ImageChops.difference(grey.crop((0, 0, grey.width - 1, grey.height)), beside)
    return float(ImageStat.Stat(apart).extrema[0][1])


def shown_again(house: House, asked: str) -> Said:
    """The one picture that a command was answered with, once nothing else stands there."""

    def find() -> Said | None:
        answers = house.discord.answers(asked)
        there = len(answers) == 1 and last(answers[0])["attachments"]
        return answers[0] if there else None

    return dict(house.discord.until(find))


# Discord


def test_what_is_marked_is_covered_and_the_rest_is_not(house: House) -> None:
    marked = last(house.remix("a covered one", "red", OPEN))
    assert file_of(marked) == "SPOILER_picture.png"
    assert "image" not in marked["embeds"][0], "in an embed nothing is covered"
    assert "Covered: marked as nsfw." in told(marked)
    assert "a covered one" in str(marked["attachments"][0]["description"])
    plain = last(house.remix("a plain one", "blue", OPEN))
    assert file_of(plain) == "picture.png" and "Covered" not in told(plain)
    assert "picture.png" in plain["embeds"][0]["image"]["url"]


def test_what_comes_of_a_marked_one_is_covered_too(house: House) -> None:
    grid = house.remix("a covered grid", "red", OPEN, count=2)
    assert file_of(last(grid)) == "SPOILER_picture.png"
    number = number_of(grid)

    def newer(than: int, words: str = "") -> Said:
        def find() -> Said | None:
            for message in house.discord.messages(OPEN):
                shown_ = message["versions"][-1]
                done = shown_["embeds"] and "done in" in shown_["content"]
                if done and number_of(message) > than and words in str(shown_["embeds"]):
                    return message
            return None

        return dict(house.discord.until(find))

    house.press(grid, "U2")
    picked = newer(number)
    assert file_of(last(picked)) == "SPOILER_picture.png"
    house.press(picked, "Upscale 2×")
    large = newer(number_of(picked), "upscaled 2×")
    assert file_of(last(large)) == "SPOILER_picture.png" and seen(last(large)).width == 512
    house.press(picked, "Vary (subtle)")
    varied = newer(number_of(large))
    assert file_of(last(varied)) == "SPOILER_picture.png"


def test_made_smaller_it_stays_covered(house: House) -> None:
    house.discord.door.post("/control/guild", json={
        "id": "970", "members": [ANN], "channels": [{"id": "971"}], "attachment_size_limit": 4000,
    })  # fmt: skip
    small = last(house.remix("a heavy covered one", "red", "971", width=1024, height=1024))
    assert file_of(small) == "SPOILER_picture.webp"


@pytest.mark.parametrize("channel", [ADULT, THREAD])
def test_where_discord_restricts_age_it_is_shown_but_not_from_there(
    house: House, channel: str
) -> None:
    card = house.remix(f"a grown up one {channel}", "red", channel)
    assert file_of(last(card)) == "picture.png" and last(card)["embeds"][0]["image"]
    # By its number elsewhere, it is as it is there.
    for place, name in ((OPEN, "SPOILER_picture.png"), (channel, "picture.png")):
        asked = house.discord.command("show", place={"channel_id": place}, id=str(number_of(card)))
        answer = shown_again(house, asked)
        assert not answer["ephemeral"] and file_of(last(answer)) == name


def test_in_a_direct_message_it_is_covered(house: House) -> None:
    assert file_of(last(house.remix("a private one", "red", "dm"))) == "SPOILER_picture.png"


@pytest.mark.parametrize("channel", [BLURRED, WITHHELD])
def test_what_is_hidden_is_shown_to_who_asked_alone(house: House, channel: str) -> None:
    card = house.remix(f"a hidden one {channel}", "red", channel)
    number, shown_ = number_of(card), last(card)
    assert f"marked as nsfw. Who asked for it sees it by /show {number}" in told(shown_)
    if channel == WITHHELD:
        assert shown_["attachments"] == [] and "image" not in shown_["embeds"][0]
        assert "The picture is not shown here" in told(shown_)
    else:
        blurred = seen(shown_)
        assert blurred.size == (256, 256) and "Seed: " in blurred.info["parameters"]
        assert sharpness(blurred) < 10
    for version in card["versions"]:
        for file in version["attachments"]:
            picture = Image.open(io.BytesIO(httpx.get(file["url"]).content))
            assert sharpness(picture) < 10, "the picture itself was never sent"
    before = len([one for one in house.discord.messages(channel) if not one["deleted"]])
    asked = house.discord.command("show", place={"channel_id": channel}, id=str(number))
    answer = shown_again(house, asked)
    assert answer["ephemeral"] and file_of(last(answer)) == "SPOILER_picture.png"
    assert sharpness(seen(last(answer))) > 10
    there = [one for one in house.discord.messages(channel) if not one["deleted"]]
    assert len([one for one in there if not one["ephemeral"]]) <= before


# Telegram


def kept(house: House, version: Said) -> Image.Image:
    """A photo as the bot has handed it to Telegram."""
    file = version["photo"]["file_id"]
    data = house.telegram.door.get("/control/file", params={"file_id": file}).content
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("chat", [501, GROUP])
def test_on_telegram_it_is_covered(house: House, chat: int) -> None:
    card = last(house.sent("a covered photo", "red", chat))
    assert card["kind"] == "photo" and card["has_media_spoiler"]
    assert "Covered: marked as nsfw." in shown(card)
    plain = last(house.sent("a plain photo", "blue", chat))
    assert plain["kind"] == "photo" and "has_media_spoiler" not in plain


def number_on(card: Said) -> str:
    return shown(last(card)).split(" · ")[0].rsplit("#", 1)[1]


def test_on_telegram_what_is_blurred_is_blurred(house: House) -> None:
    card = house.sent("a blurred photo", "red", BLURRED_GROUP)
    assert last(card)["kind"] == "photo" and "has_media_spoiler" not in last(card)
    assert sharpness(kept(house, last(card))) < 10
    words = f"Blurred: marked as nsfw. Who asked for it sees it by /show {number_on(card)}"
    assert words in shown(last(card))


def test_on_telegram_what_is_withheld_is_shown_in_private(house: House) -> None:
    card = house.sent("a withheld photo", "red", WITHHELD_GROUP)
    assert {version["kind"] for version in card["versions"]} == {"text"}
    number = number_on(card)
    answer = house.telegram.only_answer(f"/show {number}", WITHHELD_GROUP)
    assert answer["kind"] == "text" and "The picture is not shown here" in shown(answer)
    answer = house.telegram.only_answer(f"/show {number}", GROUP)
    assert answer["kind"] == "photo" and answer["has_media_spoiler"], "another chat's own rule"
    answer = house.telegram.only_answer(f"/show {number}")
    assert answer["kind"] == "photo" and answer["has_media_spoiler"]
    assert sharpness(kept(house, answer)) > 10


def test_on_telegram_what_can_be_no_photo_is_blurred(tmp_path: Path) -> None:
    """Telegram covers photos alone."""
    ruled = Image.new("RGB", (2600, 100), "white")
    ruled.paste("red", (1300, 0, 2600, 100))
    card = Card(
        generation=7, version=1, state=State.DONE, status="done", prompt="a wall", details="",
        progress=1.0, buttons=(), media=("key",), alt="", show=Show.SPOILER,
    )  # fmt: skip

    async def send(url: str) -> None:
        async with Bot(TELEGRAM_TOKEN, base_url=url) as bot:
            for picture in (huge(), written(ruled)):
                await telegram_cards.send(bot, {"chat": 501}, card, picture, 0)

    with wire() as (door, url):
        door.post("/user_message", json={"chat_id": 501, "user_id": 501, "text": "hello"})
        asyncio.run(send(url))
        sent = door.get("/messages", params={"chat_id": 501}).json()["messages"][1:]
        photo, document = (one["versions"][-1] for one in sent)
        assert photo["kind"] == "photo" and photo["has_media_spoiler"]
        assert document["kind"] == "document"
        file = door.get("/file", params={"file_id": document["document"]["file_id"]})
    assert sharpness(Image.open(io.BytesIO(file.content))) < 10 < sharpness(ruled)


# The web


def test_on_the_web_the_mark_is_told(house: House) -> None:
    for colour, mark, show in (("red", "nsfw", "spoiler"), ("blue", None, "plain")):
        out = io.BytesIO()
        Image.new("RGB", (256, 256), colour).save(out, "PNG")
        upload = house.web.post("/api/uploads", content=out.getvalue()).json()["id"]
        made = house.web.post("/api/jobs", json={
            "type": "remix", "prompt": "a fox", "images": [upload],
            "parameters": {"strength": 0.1},
        }).json()  # fmt: skip
        job = house.discord.drawqueue.until(made["id"], "done")
        assert job["results"][0].get("marked") == mark and job["card"]["show"] == show
        assert house.web.get(job["results"][0]["url"]).status_code == 200
