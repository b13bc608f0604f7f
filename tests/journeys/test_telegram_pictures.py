"""Pictures on Telegram: sent along, answered, in albums; picked, varied, made larger."""

import asyncio
import base64
import io
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select
from telegram import Bot

from bots.poster import Poster
from bots.telegram_cards import TelegramDrawer, keyboard
from bots.telegram_chat import TelegramChat
from core.database import generations
from core.house import House
from core.media import Media
from core.options import Mode, Request, validate
from core.people import Asker
from core.rows import Generation
from tests.journeys.chats import SECOND_THOUGHT, Telegram, on_telegram, shown, wire
from tests.journeys.chats import TELEGRAM_TOKEN as TOKEN

ANN, BOB, GROUP = 501, 502, -700
ORANGE, GREY = (255, 140, 0), (128, 128, 128)


@pytest.fixture(scope="module")
def telegram(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Telegram]:
    with on_telegram(tmp_path_factory.mktemp("pictures"), DATABASE_URL=new_database()) as made:
        made.post("chat", chat_id=GROUP, type="supergroup", title="Group", admins=[503])
        yield made


def plain(
    size: tuple[int, int] = (256, 256), colour: Any = ORANGE, mode: str = "RGB"
) -> Image.Image:
    return Image.new(mode, size, colour)


def written(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def half_white() -> bytes:
    """A mask: the right half is painted."""
    mask = plain(colour="black")
    mask.paste("white", (128, 0, 256, 256))
    return written(mask)


def number_of(card: dict[str, Any]) -> int:
    found = re.search(r"#(\d+) · ", shown(card["versions"][-1]))
    assert found
    return int(found[1])


def row(telegram: Telegram, card: dict[str, Any]) -> tuple[Request, int | None]:
    """What is drawn on a card, and what it came of."""
    with telegram.drawqueue.database() as database, database.read() as connection:
        one = connection.execute(
            select(generations).where(generations.c.id == number_of(card))
        ).one()
    return Request.read(one.request), one.parent


def stored(telegram: Telegram, key: str) -> Image.Image:
    return Image.open(io.BytesIO(Media(str(telegram.drawqueue.home / "media")).load(key)))


def picture(telegram: Telegram, card: dict[str, Any]) -> Image.Image:
    """The picture as the bot has handed it to Telegram."""
    file = card["versions"][-1]["photo"]["file_id"]
    data = telegram.door.get("/control/file", params={"file_id": file}).content
    return Image.open(io.BytesIO(data)).convert("RGB")


def away_from(image: Image.Image, colour: tuple[int, int, int]) -> float:
    """How far the pixels are from a colour, 0 to 255."""
    pixels = list(image.resize((32, 32), Image.Resampling.NEAREST).get_flattened_data())
    return sum(abs(a - b) for one in pixels for a, b in zip(one, colour, strict=True)) / 3 / 1024


def rows_of(card: dict[str, Any]) -> list[list[str]]:
    keyboard = card["versions"][-1]["reply_markup"]["inline_keyboard"]
    return [[button["text"] for button in buttons] for buttons in keyboard]


def quiet(telegram: Telegram, act: Callable[[], Any], chat: int = GROUP) -> None:
    """Nothing comes of something done."""
    before, rows = len(telegram.messages(chat)), telegram.drawqueue.rows()
    act()
    time.sleep(1)
    assert len(telegram.messages(chat)) == before and telegram.drawqueue.rows() == rows


# Sent along


@pytest.mark.both_databases(slow=True)
def test_a_photo_with_a_command_is_drawn_anew(telegram: Telegram) -> None:
    before = len(telegram.messages())
    telegram.send(written(plain((600, 300))), "/remix a fox —strength 0.1 --seed 5")
    done = telegram.card("a fox", "done in")
    assert len(telegram.messages()) == before + 1
    assert "remix, strength 0.1" in shown(done["versions"][-1])
    drawn = picture(telegram, done)
    assert abs(drawn.width / drawn.height - 2) < 0.1 and away_from(drawn, ORANGE) < 20
    telegram.send(written(plain((600, 300))), "/draw a wild fox --strength 0.9 --seed 5")
    wild = picture(telegram, telegram.card("a wild fox", "done in"))
    assert away_from(wild, ORANGE) > 40


def test_a_photo_with_plain_words_in_private_is_drawn_anew(telegram: Telegram) -> None:
    telegram.send(written(plain()), "a plain hen")
    request, parent = row(telegram, telegram.card("a plain hen", "done in"))
    assert request.mode == Mode.REMIX and parent is None
    # The largest of the sizes that Telegram keeps.
    assert stored(telegram, request.sources[0]).size == (256, 256)


def test_a_photo_without_words_of_its_sender_is_asked_about(telegram: Telegram) -> None:
    rows = telegram.drawqueue.rows()
    sent = telegram.only(lambda: telegram.send(written(plain())))
    assert "Send it with a caption, or answer it" in shown(sent)
    telegram.post("chat", chat_id=BOB, type="private")
    theirs = telegram.send(written(plain()), "what Bob wrote", GROUP, BOB)["message"]
    passed = {"chat_id": ANN, "user_id": ANN, "from_chat_id": GROUP}
    told = telegram.only(
        lambda: telegram.post("forward", message_id=theirs["message_id"], **passed)
    )
    assert "What shall I make of it?" in shown(told)
    assert telegram.drawqueue.rows().keys() == rows.keys()


def test_in_a_group_captions_are_commands_to_this_bot(telegram: Telegram) -> None:
    # As in a group that shows the bot everything.
    telegram.post("limits", privacy=False)
    telegram.send(written(plain()), "/remix a grouped goose", GROUP)
    request, _ = row(telegram, telegram.card("a grouped goose", "done in", chat=GROUP))
    assert request.mode == Mode.REMIX
    for caption in ("", "a fox", "/remix@another_bot a fox", "/unheard_of a fox"):
        quiet(telegram, lambda caption=caption: telegram.send(written(plain()), caption, GROUP))
    album = {"media_group_id": "talk", "chat": GROUP}
    quiet(telegram, lambda: [telegram.send(written(plain()), **album) for _ in range(2)])
    telegram.post("limits", privacy=True)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return written(plain((300, 100)), "JPEG", exif=exif)


def test_files_are_pictures_too(telegram: Telegram) -> None:
    def drawn(words: str, data: bytes, name: str, kind: str = "document", **more: Any) -> Request:
        telegram.attach(kind, data, file_name=name, caption=f"/remix {words}", **more)
        return row(telegram, telegram.card(words, "done in"))[0]

    png = drawn("a filed fox", written(plain((320, 200))), "a.png")
    assert stored(telegram, png.sources[0]).size == (320, 200)
    upright = drawn("an upright fox", rotated(), "b.jpg")
    assert stored(telegram, upright.sources[0]).size == (100, 300)
    assert upright.height > upright.width
    printed = plain(mode="CMYK", colour=(0, 115, 255, 0))
    cmyk = drawn("a printed fox", written(printed, "JPEG"), "c.jpg")
    assert stored(telegram, cmyk.sources[0]).mode == "RGB"
    gif = written(plain(), "GIF", save_all=True, append_images=[plain(colour="navy")])
    moving = drawn("a moving fox", gif, "d.gif", mime_type="image/gif")
    assert away_from(stored(telegram, moving.sources[0]), ORANGE) < 5
    # A GIF becomes a film, of which Telegram has a picture.
    film = drawn(
        "a filmed fox", b"film", "e.mp4", "animation", mime_type="video/mp4",
        thumbnail=base64.b64encode(written(plain((80, 60)))).decode(),
    )  # fmt: skip
    assert stored(telegram, film.sources[0]).size == (80, 60)


def wall() -> bytes:
    """200 megapixels in few bytes."""
    return written(plain((20_000, 10_000), 0, "1"))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"data": b"%PDF-1.7", "file_name": "a.pdf"}, "no picture I can begin with"),
        ({"data": b"words", "file_name": "a.png"}, "I cannot read that as a picture"),
        ({"data": b"\x89PNG\r\n\x1a\n" + b"x" * 99, "file_name": "b.png"}, "picture"),
        ({"size": 20_500_000, "file_name": "c.png"}, "20.5 MB; 20 MB is the most"),
        ({"data": wall, "file_name": "d.png"}, "hundreds of megapixels; 50 is the most"),
        ({"data": b"hum", "kind": "voice"}, "no picture I can begin with"),
        ({"data": b"film", "kind": "video", "file_name": "e.mp4"}, "no picture I can begin with"),
        ({"data": b"film", "kind": "animation", "file_name": "f.mp4"}, "no picture I can"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("caption", ["/remix a fox", "a fox"])
def test_what_is_no_picture_is_one_clear_answer(
    telegram: Telegram, file: dict[str, Any], words: str, caption: str
) -> None:
    rows = telegram.drawqueue.rows()
    data = file.get("data", b"")
    given = {
        "kind": "document",
        "caption": caption,
        **file,
        "data": data() if callable(data) else data,
    }
    told = telegram.only(lambda: telegram.attach(**given))
    assert words in shown(told), shown(told)
    assert telegram.drawqueue.rows().keys() == rows.keys()


def test_an_empty_file_is_one_clear_answer(telegram: Telegram) -> None:
    telegram.post("fail", method="file", status=200)
    told = telegram.only(lambda: telegram.send(written(plain()), "a fox"))
    assert "That file is empty." in shown(told)


def test_faults_in_options_are_told_of_pictures_too(telegram: Telegram) -> None:
    for caption, words in (
        ("/remix a fox --strength 2", "from 0 to 1; got 2"),
        ("/inpaint a hat", "Say what to paint"),
        ("/vary", "pictures that I drew"),
        ("/remix", "Write what to draw"),
    ):
        told = telegram.only(lambda c=caption: telegram.send(written(plain()), c))
        assert words in shown(told), shown(told)


# Answered


def test_a_card_is_answered_with_words(telegram: Telegram) -> None:
    telegram.say("/imagine a first crown --steps 7 --seed 3")
    card = telegram.card("a first crown", "done in")
    to = {"reply_to_message_id": card["message_id"]}
    telegram.say("/remix a second crown --strength 0.2", **to)
    request, parent = row(telegram, telegram.card("a second crown", "done in"))
    assert parent == number_of(card) and request.steps == 7 and request.strength == 0.2
    # Its own file, and not the JPEG that Telegram makes of it.
    assert not request.sources[0].startswith("uploads/")
    telegram.say("a third crown", **to)
    assert row(telegram, telegram.card("a third crown", "done in"))[1] == parent
    telegram.say("/vary strong", **to)
    telegram.until(lambda: len(of(telegram, parent)) == 3)
    telegram.say("/upscale 4", **to)
    large = telegram.card(f"upscaled 4× from #{parent}", "done in")
    assert large["versions"][-1]["photo"]["width"] == 1024
    for line, words in (
        ("/priority high", f"#{parent} is done; only queued ones move."),
        ("/cancel", f"#{parent} is already done."),
        ("/remix a goose --from 99999", "There is no #99999"),
    ):
        assert words in shown(telegram.only_answer(line, **to))
    again = telegram.only_answer("/show", **to)
    assert f"#{parent} · " in shown(again) and again["kind"] == "photo"


def of(telegram: Telegram, parent: int | None) -> list[int]:
    with telegram.drawqueue.database() as database, database.read() as connection:
        found = connection.execute(
            select(generations.c.id).where(generations.c.parent == parent)
        ).scalars()
        return list(found)


def test_a_card_that_is_not_done_is_meant_too(telegram: Telegram) -> None:
    telegram.say("a long crown sleep:0.5 --steps 100")
    long = telegram.card("a long crown")
    # Not what the card says: after so many others, edits of progress may rest for a minute.
    telegram.until(lambda: telegram.drawqueue.rows().get(number_of(long)) == "generating")
    telegram.say("a later crown")
    telegram.card("a later crown", "queued")
    told = telegram.only_answer("/remix a hat", reply_to_message_id=long["message_id"])
    assert "has no picture yet: it is generating" in shown(told)
    telegram.say("/cancel", reply_to_message_id=long["message_id"])
    telegram.card("a long crown", "cancelled")
    telegram.card("a later crown", "done in")


def test_somebody_elses_photo_is_answered_with_a_command(telegram: Telegram) -> None:
    theirs = telegram.send(written(plain()), "what a day", GROUP, BOB)
    assert theirs["update_id"] is None, "the bot does not see it"
    to = {"reply_to_message_id": theirs["message"]["message_id"], "chat": GROUP}
    telegram.say("/remix a crow --strength 0.1", **to)
    done = telegram.card("a crow", "done in", chat=GROUP)
    assert away_from(picture(telegram, done), ORANGE) < 20
    told = telegram.only(lambda: telegram.say("/vary", **to), GROUP)
    assert "pictures that I drew" in shown(told)
    telegram.say("/upscale", **to)
    telegram.card("upscaled 2×", "512×512", "done in", chat=GROUP)


def test_a_picture_of_another_chat_is_answered_in_private(telegram: Telegram) -> None:
    theirs = telegram.send(written(plain()), "what a night", GROUP, BOB)["message"]
    there = {"chat_id": GROUP, "message_id": theirs["message_id"]}
    telegram.say("a raven", external_reply_to=there)
    assert row(telegram, telegram.card("a raven", "done in"))[0].mode == Mode.REMIX


def test_somebody_elses_card_is_a_picture_like_any_other(telegram: Telegram) -> None:
    telegram.say("/imagine a castle of Bob", GROUP, BOB)
    theirs = telegram.card("a castle of Bob", "done in", chat=GROUP)
    telegram.say("/imagine a newest one of Ann sleep:0.5 --steps 100", GROUP)
    telegram.card("a newest one of Ann", chat=GROUP)
    to = {"reply_to_message_id": theirs["message_id"], "chat": GROUP}
    told = telegram.only(lambda: telegram.say("/cancel", **to), GROUP)
    assert "Only the person who asked" in shown(told), "and not Ann's newest is cancelled"
    telegram.press(telegram.card("a newest one of Ann", chat=GROUP), "Cancel", GROUP)
    telegram.say("/remix a castle of Ann", **to)
    request, parent = row(telegram, telegram.card("a castle of Ann", "done in", chat=GROUP))
    assert parent is None and request.sources[0].startswith("uploads/")
    # Who talks about a picture is not drawn another.
    quiet(telegram, lambda: telegram.say("how lovely", **to))


def test_what_made_this(telegram: Telegram) -> None:
    telegram.say("/imagine a picture to know --seed 33")
    card = telegram.card("a picture to know", "done in")
    number = f"#{number_of(card)} · "

    def told(act: Callable[[], Any]) -> dict[str, Any]:
        return telegram.only(act)

    to = {"reply_to_message_id": card["message_id"]}
    again = told(lambda: telegram.say("/identify", **to))
    assert number in shown(again) and "photo" in again
    assert "Retry" in str(again["reply_markup"])
    file = card["versions"][-1]["photo"]["file_id"]
    data = telegram.door.get("/control/file", params={"file_id": file}).content
    # With its recipe as a file, and without as Telegram's own photo.
    assert number in shown(told(lambda: telegram.attach("document", data, caption="/identify",
                                                        file_name="a.png")))  # fmt: skip
    copy = written(Image.open(io.BytesIO(data)).convert("RGB"), "JPEG")
    assert number in shown(told(lambda: telegram.send(copy, "/info")))
    other = told(lambda: telegram.send(written(plain(colour="purple")), "/identify"))
    assert "I do not know that picture" in shown(other)


# Albums and masks


def painted(telegram: Telegram, words: str) -> None:
    """The right half was painted, the left one stayed."""
    done = telegram.card(words, "done in")
    request, _ = row(telegram, done)
    assert request.mode == Mode.INPAINT and request.mask
    drawn = picture(telegram, done)
    middle = drawn.width // 2
    assert away_from(drawn.crop((0, 0, middle - 8, drawn.height)), ORANGE) < 6
    assert away_from(drawn.crop((middle + 8, 0, drawn.width, drawn.height)), ORANGE) > 30


@pytest.mark.both_databases(slow=True)
@pytest.mark.parametrize("captioned", [0, 1])
def test_an_album_is_a_picture_and_its_mask(telegram: Telegram, captioned: int) -> None:
    before = len(telegram.messages())
    captions = ["", ""]
    captions[captioned] = f"/inpaint hat {captioned}"
    for data, caption in zip((written(plain()), half_white()), captions, strict=True):
        telegram.send(data, caption, media_group_id=f"mask{captioned}")
        time.sleep(0.5)
    painted(telegram, f"hat {captioned}")
    time.sleep(2)
    assert len(telegram.messages()) == before + 1


def test_an_album_is_blended_and_the_last_of_two_is_a_style(telegram: Telegram) -> None:
    for at, colour in enumerate(("black", "white", "black", "white")):
        caption = "/blend grey --strength 0" if at == 0 else ""
        telegram.send(written(plain(colour=colour)), caption, media_group_id="grey")
    grey = telegram.card("grey", "blend, strength 0", "done in")
    assert away_from(picture(telegram, grey), (128, 128, 128)) < 3
    photo = telegram.send(written(plain(colour="black")))["message"]
    telegram.send(
        written(plain()), "/style wholly orange --sw 1 --strength 1",
        reply_to_message_id=photo["message_id"],
    )  # fmt: skip
    liked = telegram.card("wholly orange", "style strength 1", "done in")
    assert away_from(picture(telegram, liked), ORANGE) < 6
    assert len(row(telegram, liked)[0].sources) == 2


def test_an_album_is_answered_once(telegram: Telegram) -> None:
    before = len(telegram.messages())
    expected = {
        (2, ""): "What shall I make of it?",
        (3, "/inpaint a hat"): "/inpaint takes 2 pictures; got 3.",
        (2, "a hat"): "/imagine takes 1 picture; got 2.",
        (2, "/upscale"): "/upscale takes 1 picture; got 2.",
    }
    for number, caption in expected:
        for at in range(number):
            group = f"{number}{caption}"
            telegram.send(written(plain()), caption if at == 1 else "", media_group_id=group)
    telegram.until(lambda: len(telegram.messages()) == before + 4)
    time.sleep(2)
    told = sorted(shown(one["versions"][-1]) for one in telegram.messages()[before:])
    assert len(told) == 4
    for words, one in zip(sorted(expected.values()), told, strict=True):
        assert one.startswith(words)


def test_a_mask_is_sent_as_the_answer_to_its_picture(telegram: Telegram) -> None:
    photo = telegram.send(written(plain()))["message"]
    telegram.send(half_white(), "/inpaint a cap", reply_to_message_id=photo["message_id"])
    painted(telegram, "a cap")
    telegram.send(written(plain()), "/remix a start --strength 0")
    card = telegram.card("a start", "done in")
    telegram.send(half_white(), "/inpaint a crest", reply_to_message_id=card["message_id"])
    painted(telegram, "a crest")
    assert row(telegram, telegram.card("a crest", "done in"))[1] == number_of(card)
    told = telegram.only(lambda: telegram.say(
        "/inpaint a wider one --zoom 1.5", reply_to_message_id=card["message_id"]
    ))  # fmt: skip
    assert "a wider one" in shown(told)
    telegram.card("a wider one", "zoom 1.5", "done in")


# Buttons


@pytest.mark.both_databases(slow=True)
def test_one_of_several_is_picked_varied_and_made_larger(telegram: Telegram) -> None:
    telegram.say("/imagine four crowns --count 4 --seed 11")
    grid = telegram.card("four crowns", "done in")
    assert rows_of(grid) == [
        ["U1", "U2", "U3", "U4"], ["V1", "V2", "V3", "V4"], ["Retry", "🎲 New seed"]
    ]  # fmt: skip
    before = len(telegram.messages())
    assert telegram.press(grid, "U2") == ""
    picked = telegram.card("four crowns", "seed 12", "done in")
    assert picked["versions"][-1]["kind"] == "photo" and len(picked["versions"]) == 1
    assert len(telegram.messages()) == before + 1
    sheet = picture(telegram, grid)
    # The second of the sheet's first row.
    cut = sheet.crop((sheet.width - 256, 0, sheet.width, 256))
    assert list(cut.get_flattened_data()) == list(picture(telegram, picked).get_flattened_data())
    again = telegram.press(grid, "U2")
    assert again.startswith(f"#{number_of(picked)} shows that picture already")
    assert rows_of(picked) == [
        ["Vary (subtle)", "Vary (strong)"], ["Upscale 2×", "Upscale 4×"],
        ["Retry", "🎲 New seed", "🖌 Paint"]
    ]  # fmt: skip
    assert telegram.press(grid, "V1") == ""
    telegram.until(lambda: len(of(telegram, number_of(grid))) == 2)
    assert telegram.press(picked, "Upscale 2×") == ""
    large = telegram.card(f"upscaled 2× from #{number_of(picked)}", "done in")
    assert large["versions"][-1]["photo"]["width"] == 512
    assert rows_of(large) == [["Vary (subtle)", "Vary (strong)", "🖌 Paint"]]
    telegram.until(lambda: len(telegram.messages()) == before + 3)
    menu = telegram.door.get("/control/commands").json()[0]["commands"]
    assert {"remix", "inpaint", "vary", "upscale"} < {one["command"] for one in menu}


def test_a_picked_picture_is_shown_once_though_the_bot_died_in_between(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on finds it picked; a poster shows what nobody has shown."""
    # That of `showing` first: it is imported late, and would keep what the other says by then.
    for owner in ("core.showing", "core.generations"):
        monkeypatch.setattr(f"{owner}.EDITOR_LEASE", timedelta(seconds=0.5))
    ann = Asker("telegram", str(ANN))

    def answered(door: Any, status: int) -> bool:
        calls = door.get("/calls", params={"method": "sendPhoto"}).json()
        return any(one.get("status") == status for one in calls)

    async def press(url: str, door: Any, grid: Generation) -> None:
        async with Bot(TOKEN, base_url=url) as bot:
            shown_ = keyboard(house.card(grid).buttons)
            sent = await bot.send_message(ANN, "four", reply_markup=shown_)
            told = door.post("/press", json={
                "chat_id": ANN, "user_id": ANN, "message_id": sent.message_id,
                "callback_data": f"u2:{grid.id}",
            }).json()["update"]  # fmt: skip
            door.post("/fail", json={"method": "sendPhoto", "status": 500})
            first = TelegramChat(house, bot)
            event = str(told["update_id"])
            first.inbox.record({event: told})
            first._start(event)
            while not answered(door, 500):
                await asyncio.sleep(0.05)
            for task in first._tasks:  # It dies before it sends the photo again.
                task.cancel()
            house.queue.redis.flushall()
            second = TelegramChat(house, bot)
            second._start(event)
            await asyncio.gather(*second._tasks)
            poster = Poster(house, [TelegramDrawer(bot)])
            poster._open.add("telegram")
            while not answered(door, 200):
                await poster.round()
                await asyncio.sleep(0.1)
            for _ in range(10):
                await poster.round()
                await asyncio.sleep(0.1)

    made = house.generations.submit(
        validate({"prompt": "four", "count": 4}), ann, "e", {"chat": ANN}
    )
    claimed = house.generations.claim(made.id)
    assert claimed
    results = [
        {"key": house.media.save(made.id, f"{at}.png", written(plain())), "seed": seed,
         "width": 256, "height": 256}
        for at, seed in enumerate(made.request.seeds)
    ]  # fmt: skip
    grid = house.generations.finish(claimed, results, 1.0)
    assert grid
    house.showing.place(grid, "1")
    with wire() as (door, url):
        door.post("/user_message", json={"chat_id": ANN, "user_id": ANN, "text": "hello"})
        asyncio.run(press(url, door, grid))
        told = door.get("/messages", params={"chat_id": ANN}).json()["messages"]
    assert [one["versions"][-1]["kind"] for one in told[2:]] == ["photo"]


# When things go wrong


def bot_of(telegram: Telegram) -> int:
    return telegram.drawqueue.processes()["bots.telegram_chat"]


def test_a_picture_that_is_not_handed_out_at_once_is_fetched_again(telegram: Telegram) -> None:
    telegram.post("fail", method="getFile", status=429, retry_after=1)
    telegram.post("fail", method="file", status=502, page=True)
    telegram.post("fail", method="file", status="drop")
    before = len(telegram.messages())
    telegram.send(written(plain()), "a patient hen")
    telegram.card("a patient hen", "done in")
    assert len(telegram.messages()) == before + 1


@pytest.mark.both_databases(slow=True)
def test_kill_9_before_pictures_are_acted_upon_loses_and_doubles_nothing(
    telegram: Telegram,
) -> None:
    before, rows = len(telegram.messages()), telegram.drawqueue.rows()
    telegram.post("fail", method="getFile", status=500, description="Oops", times=3)
    starts = telegram.drawqueue.log.read_text().count("on line as @")
    telegram.send(written(plain()), "a surviving hen")
    for data, caption in ((written(plain()), ""), (half_white(), "/inpaint a surviving hat")):
        telegram.send(data, caption, media_group_id="survivors")
    telegram.until(lambda: len(calls(telegram, "getFile", 500)) >= 2)
    assert telegram.drawqueue.rows().keys() == rows.keys()
    os.kill(bot_of(telegram), signal.SIGKILL)
    telegram.until(lambda: telegram.drawqueue.log.read_text().count("on line as @") > starts)
    telegram.card("a surviving hen", "done in")
    painted(telegram, "a surviving hat")
    time.sleep(SECOND_THOUGHT)
    assert len(telegram.messages()) == before + 2
    assert len(telegram.drawqueue.rows()) == len(rows) + 2


def calls(telegram: Telegram, method: str, status: int) -> list[Any]:
    found = telegram.door.get("/control/calls", params={"method": method}).json()
    return [one for one in found if one.get("status") == status]


def test_the_token_is_never_written_down(telegram: Telegram) -> None:
    assert calls(telegram, "file", 502), "a page that quotes the address was among the answers"
    assert TOKEN not in telegram.drawqueue.log.read_text()
