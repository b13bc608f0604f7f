"""One's own pictures found again, counted, told of as a family and deleted, on all three chats of
one house."""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.journeys.chats import (
    ANN,
    BOB,
    TELEGRAM_TOKEN,
    Discord,
    Telegram,
    on_discord,
    server,
    shown,
)
from tests.journeys.test_discord_pictures import child, imagine, newest, number_of, press

GROUP = -700


@dataclass
class House:
    """One Drawqueue, and what people do in its chats."""

    discord: Discord
    telegram: Telegram
    web: httpx.Client

    def line(self, text: str) -> dict[str, Any]:
        """What a line in the web chat is answered with."""
        return dict(self.web.post("/api/chat", json={"text": text}).json())


@pytest.fixture(scope="module")
def house(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("history")
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        on_discord(
            folder, DATABASE_URL=new_database(), DRAWQUEUE_SHARED_HISTORY="1",
            TELEGRAM_TOKEN=TELEGRAM_TOKEN, TELEGRAM_API_URL=f"{address}/bot",
            TELEGRAM_FILE_URL=f"{address}/file/bot",
        ) as discord,
    ):  # fmt: skip
        telegram = Telegram(door, discord.drawqueue)
        telegram.post("limits", private_per_second=None, group_per_minute=None)
        discord.door.post("/control/limits", json={"messages": [50, 5.0], "webhooks": [50, 2.0]})
        discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") == 2)
        yield House(discord, telegram, discord.drawqueue.client)


def numbers(text: str) -> list[int]:
    """The pictures that a page names, line by line."""
    lines = [line for line in text.replace("\\", "").splitlines() if line.startswith("#")]
    return [int(line.split()[0][1:]) for line in lines]


def page(discord: Discord, asked: str) -> dict[str, Any]:
    """What the one answer shows now."""

    def there() -> Any:
        answer = discord.only_answer(asked)
        return answer if newest(answer)["content"] else None

    answer = discord.until(there)
    assert answer["ephemeral"], "for the asker's eyes alone"
    return newest(answer)


def said(version: dict[str, Any]) -> str:
    """Discord's words without the signs that make them plain."""
    return str(version["content"]).replace("\\", "")


def keys(version: dict[str, Any]) -> list[str]:
    """The labels of the buttons, on either platform."""
    rows = version.get("components") or []
    if markup := version.get("reply_markup"):
        return [one["text"] for row in markup["inline_keyboard"] for one in row]
    return [one["label"] for row in rows for one in row["components"]]


def all_done(house: House) -> bool:
    return set(house.discord.drawqueue.rows().values()) <= {"done"}


def test_on_discord_one_answer_is_searched_and_turned(house: House) -> None:
    discord = house.discord
    discord.command("imagine", prompt="a lighthouse of Bob's", user=BOB)
    for way in ("fog", "sun"):
        discord.command("imagine", prompt=f"{{red, blue, green, gold, grey}} lighthouse in {way}")
    imagine(discord, "an owl")
    discord.until(lambda: len(house.discord.drawqueue.rows()) == 12 and all_done(house))
    asked = discord.command("history", words="light* state:done")
    first = page(discord, asked)
    assert "Your pictures, newest first (“light*”, state done):" in said(first)
    assert "Bob" not in first["content"] and "owl" not in first["content"]
    found = numbers(first["content"])
    assert len(found) == 8 and found == sorted(found, reverse=True) and keys(first) == ["Older ▶"]
    assert first["attachments"][0]["filename"] == "history.png"
    answer = discord.only_answer(asked)["id"]
    discord.press(answer, "Older ▶")
    second = discord.until(lambda: "◀ Newer" in keys(now := page(discord, asked)) and now)
    rest = numbers(second["content"])
    assert len(rest) == 2 and max(rest) < min(found) and keys(second) == ["◀ Newer"]
    assert len(second["attachments"]) == 1, "another sheet in the place of the first"
    discord.press(answer, "◀ Newer")
    discord.until(lambda: numbers(page(discord, asked)["content"]) == found)
    for given, words in (
        ({"state": "lost"}, "“state” must be one of"),
        ({"words": "colour:red"}, "There is no filter “colour:”"),
        ({"words": "zebra"}, "Nothing of yours fits “zebra”"),
        ({"before": "1"}, "There is nothing of yours before #1"),
    ):
        told = page(discord, discord.command("history", unchecked=True, **given))
        assert words in said(told) and not told["attachments"]
    # Bob finds his own alone; of the channel, what everybody has seen.
    told = page(discord, discord.command("history", BOB, words="lighthouse"))
    assert len(numbers(told["content"])) == 1 and "Bob" in told["content"]
    told = page(discord, discord.command("history", BOB, chat="yes", words="owl"))
    assert len(numbers(told["content"])) == 1
    discord.door.post("/control/guild", json={
        "id": "900", "channels": [{"id": "901"}], "members": [ANN, BOB],
    })  # fmt: skip
    elsewhere = discord.command("history", BOB, place={"channel_id": "901"}, chat="yes")
    assert "Nothing was drawn in this chat yet" in str(discord.only_answer(elsewhere))
    # Kept under a tag, and found by it.
    told = page(discord, discord.command("favourite", id=str(found[0])))
    assert said(told).startswith(f"#{found[0]} is a favourite now.")
    told = page(discord, discord.command("tag", id=str(found[1]), words="Sea, night sky"))
    assert f"#{found[1]} has 2 tags: night sky, sea." in said(told)
    told = page(discord, discord.command("history", tag="SEA"))
    assert numbers(told["content"]) == [found[1]] and "(tag sea)" in said(told)
    told = page(discord, discord.command("history", favourite="yes"))
    assert numbers(told["content"]) == [found[0]]
    told = page(discord, discord.command("tag", BOB, id=str(found[1]), words="mine"))
    assert f"There is no #{found[1]} of yours." in told["content"]
    counted = page(discord, discord.command("stats"))["content"]
    assert "In all: 11 asked for: done 11, failed 0, cancelled 0" in counted


def test_on_discord_a_family_is_drawn_and_a_picture_deleted(house: House) -> None:
    discord = house.discord
    one = imagine(discord, "a lonely fox")
    number = number_of(one)
    press(discord, one, "Vary (strong)")
    varied = child(discord, f"from #{number}")
    asked = discord.command("tree", id=str(number_of(varied)))
    told = page(discord, asked)
    assert f"The family of #{number_of(varied)}:" in told["content"]
    assert [line.split()[0] for line in said(told).splitlines()[1:]] == [
        f"#{number}", "·"
    ]  # fmt: skip
    (file,) = told["attachments"]
    drawn = Image.open(io.BytesIO(httpx.get(file["url"]).content))
    assert file["filename"] == "tree.png" and drawn.height > drawn.width
    strange = discord.command("tree", BOB, id=str(number))
    assert f"There is no #{number} of yours." in page(discord, strange)["content"]
    strange = discord.command("delete", BOB, id=str(number))
    assert f"There is no #{number} of yours." in page(discord, strange)["content"]
    asked = discord.command("delete", id=str(number))
    words = said(page(discord, asked))
    assert words.startswith(f"#{number} is deleted: its picture and its prompt are gone.")
    gone = discord.until(lambda: next(
        (now for now in map(newest, discord.messages()) if "deleted by" in now["content"]),
        None,
    ))  # fmt: skip
    assert not gone["attachments"] and keys(gone) == [] and "fox" not in str(gone)
    assert f"#{number} " in gone["embeds"][0]["footer"]["text"]
    told = page(discord, discord.command("history", words="lonely fox"))
    assert numbers(told["content"]) == [number_of(varied)]
    told = page(discord, discord.command("tree", id=str(number_of(varied))))
    assert f"#{number} deleted" in said(told)


def test_on_telegram_too(house: House) -> None:
    telegram = house.telegram
    for way in ("fog", "sun"):
        telegram.say(f"/imagine {{red, blue, green, gold, grey}} castle in {way}")
    telegram.until(lambda: sum(
        "done in" in shown(one["versions"][-1]) for one in telegram.messages()
    ) == 10)  # fmt: skip
    before = len(telegram.messages())
    told = telegram.only_answer("/history castle since:1d")
    assert "Your pictures, newest first (“castle”, since" in shown(told)
    found = numbers(shown(told))
    assert len(found) == 8 and told["kind"] == "photo" and keys(told) == ["Older ▶"]

    def answer() -> dict[str, Any]:
        return dict(telegram.messages()[before])

    assert telegram.press(answer(), "Older ▶") == ""
    second = telegram.until(lambda: keys(newest(answer())) == ["◀ Newer"] and newest(answer()))
    rest = numbers(shown(second))
    assert len(rest) == 2 and max(rest) < min(found) and second["kind"] == "photo"
    telegram.press(answer(), "◀ Newer")
    telegram.until(lambda: numbers(shown(newest(answer()))) == found)
    assert len(telegram.messages()) == before + 1, "one answer, edited"
    assert "There is no filter “page:”" in shown(telegram.only_answer("/history page:2"))
    assert "Nothing of yours fits “lighthouse”" in shown(
        telegram.only_answer("/history lighthouse")
    )
    told = telegram.only_answer(f"/tag {found[0]} sea, night sky")
    assert f"#{found[0]} has 2 tags: night sky, sea." in shown(told)
    told = telegram.only_answer('/history tag:"night sky"')
    assert numbers(shown(told)) == [found[0]]
    assert "10 asked for: done 10" in shown(telegram.only_answer("/stats"))
    # Where others read along, nothing of one's own is told but what was drawn there.
    telegram.post("chat", chat_id=GROUP, type="supergroup", title="Group", admins=[])
    for line in ("/history", "/history castle", "/tree"):
        told = telegram.only_answer(line, GROUP)
        assert "to me alone, where nobody reads along" in shown(told) and told["kind"] == "text"
    told = telegram.only_answer("/history chat:yes", GROUP)
    assert "Nothing was drawn in this chat yet." in shown(told)
    # A family and its end.
    number = found[0]
    card = telegram.card(f"#{number} · ")
    telegram.press(card, "Upscale 2×")
    telegram.card(f"from #{number}", "done in")
    family = telegram.only_answer(f"/tree {number}")
    assert family["kind"] == "photo" and f"The family of #{number}:" in shown(family)
    told = telegram.only_answer(
        "/delete",
        reply_to_message_id=card["message_id"],
    )
    assert shown(told).startswith(f"#{number} is deleted: its picture and its prompt are gone.")
    gone = telegram.card("deleted by its asker")
    assert gone["message_id"] == card["message_id"] and "castle" not in shown(newest(gone))
    assert number not in numbers(shown(telegram.only_answer("/history castle")))


def test_on_the_web_and_for_programs(house: House) -> None:
    for way in ("fog", "sun"):
        made = house.line(f"/imagine {{red, blue, green, gold, grey}} bridge in {way}")
    last = made["also"][-1]
    house.discord.drawqueue.until(last, "done")
    told = house.line("/history bridge")
    found = numbers(told["text"])
    assert len(found) == 8 and found[0] == last
    assert told["samples"][0] == {"name": f"#{last}", "url": f"/media/{last}/0/small"}
    (button,) = told["buttons"]
    assert button["label"] == "Older ▶"
    action, id_ = button["id"].split(":")
    second = house.web.post(f"/api/pages/{id_}/{action}").json()
    rest = numbers(second["text"])
    assert len(rest) == 2 and max(rest) < min(found)

    def jobs(**asked: Any) -> list[int]:
        return [one["id"] for one in house.web.get("/api/jobs", params=asked).json()]

    assert jobs(words="bridge") == [*found, *rest] == jobs()
    assert jobs(words="bridge", limit=8) == found
    assert jobs(words="bridge", limit=8, before=found[-1]) == rest
    assert jobs(words="gold bridge", status="done", type="imagine", model="pattern", since="1d")
    assert jobs(words="castle") == jobs(until="1d") == jobs(type="remix") == []
    refused = house.web.get("/api/jobs", params={"type": "dream", "since": "soon"})
    assert refused.status_code == 422 and len(refused.json()["faults"]) == 2
    again = house.web.post(f"/api/jobs/{last}/reseed").json()["id"]
    house.discord.drawqueue.until(again, "done")
    family = house.line(f"/tree {again}")
    assert family["text"].splitlines()[1].startswith(f"#{last} ")
    drawn = house.web.get(family["samples"][0]["url"])
    assert Image.open(io.BytesIO(drawn.content)).size[1] > 200
    gone = house.line(f"/delete {last}")
    assert gone["text"].startswith(f"#{last} is deleted") and gone["job"]["results"] == []
    assert gone["job"]["prompt"] == "" and gone["job"]["card"]["buttons"] == []
    for path in ("", "/stream", "/why"):
        assert house.web.get(f"/api/jobs/{last}{path}").status_code == 404
    for path in ("0", "tree", "preview", "source/0"):
        assert house.web.get(f"/media/{last}/{path}").status_code == 404
    assert house.web.get(f"/paint/{last}.1").status_code == 404
    assert last not in jobs() and house.web.post(f"/api/jobs/{last}/retry").status_code == 404


def test_anothers_is_reached_by_no_path(house: House) -> None:
    """Rows of Discord's and Telegram's people, asked for by the web chat's."""
    rows = house.discord.drawqueue.rows()
    own = {one["id"] for one in house.web.get("/api/jobs?limit=200").json()}
    others = [id_ for id_ in rows if id_ not in own]
    assert len(others) > 20
    for line in ("/history", "/history lighthouse", "/history castle", "/history state:done"):
        text = house.line(line).get("text", "")
        assert not set(numbers(text)) & set(others), line
    for id_ in others[:3]:
        for path in (f"/media/{id_}/tree", f"/media/{id_}/0", f"/api/jobs/{id_}"):
            assert house.web.get(path).status_code == 404
        for line in (f"/tree {id_}", f"/delete {id_}", f"/show {id_}"):
            assert "no #" in house.line(line)["error"]
        for way in ("newer", "older"):
            assert house.web.post(f"/api/pages/{id_}/{way}").status_code in (404, 409)
