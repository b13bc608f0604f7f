"""What is one's own to take away: reported and taken down, forgotten; on all three chats of one
house."""

import contextlib
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.chats import ANN, BOB, TELEGRAM_TOKEN, Telegram, on_discord, server, shown
from tests.journeys.test_discord_pictures import imagine, menu, newest, number_of
from tests.journeys.test_history import GROUP, House, keys, page, said

ROOM, MODS = "901", -901
# Telegram's numbers are these people's there, too.
HOST = 502


@pytest.fixture(scope="module")
def house(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("mine")
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        on_discord(
            folder, DATABASE_URL=new_database(), TELEGRAM_TOKEN=TELEGRAM_TOKEN,
            TELEGRAM_API_URL=f"{address}/bot", TELEGRAM_FILE_URL=f"{address}/file/bot",
            DRAWQUEUE_REPORTS=f"discord:channel:{ROOM},telegram:chat:{MODS}",
            DRAWQUEUE_MODERATORS=f"discord:{BOB},telegram:{HOST}",
        ) as discord,
    ):  # fmt: skip
        telegram = Telegram(door, discord.drawqueue)
        telegram.post("limits", private_per_second=None, group_per_minute=None)
        discord.door.post("/control/limits", json={"messages": [50, 5.0], "webhooks": [50, 2.0]})
        telegram.post("chat", chat_id=MODS, type="supergroup", title="Moderators", admins=[])
        telegram.post("chat", chat_id=GROUP, type="supergroup", title="Group", admins=[])
        discord.door.post("/control/guild", json={
            "id": "900", "channels": [{"id": ROOM}], "members": [ANN, BOB],
        })  # fmt: skip
        discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") == 2)
        yield House(discord, telegram, discord.drawqueue.client)


def reported(house: House, number: int, words: str) -> dict[str, Any]:
    """The message that shows moderators on Discord what was reported, once it says so."""

    def find() -> dict[str, Any] | None:
        for message in house.discord.messages(ROOM):
            last = newest(message)
            if f"#{number} " in str(last["embeds"]) and words in last["content"]:
                return message
        return None

    return dict(house.discord.until(find))


def test_on_discord_a_picture_is_reported_and_taken_down(house: House) -> None:
    discord = house.discord
    card = imagine(discord, "an ugly fox")
    number = number_of(card)
    asked = menu(discord, "Report this", card["id"], BOB)
    told = page(discord, asked)
    assert said(told) == f"Thank you. The moderators will look at #{number}."
    shown_there = reported(house, number, "reported")
    last = newest(shown_there)
    (file,) = last["attachments"]
    assert file["filename"].startswith("SPOILER_") and keys(last) == ["Take down", "Keep"]
    assert "an ugly fox" in str(last) and f"discord:{BOB}" in str(last)
    assert f"discord:{ANN}" in str(last["embeds"][0]["footer"])
    for user, done in ((ANN, False), (BOB, True)):
        answer = discord.door.post("/control/press", json={
            "message_id": shown_there["id"], "channel_id": ROOM, "label": "Take down",
            "user_id": user, "permissions": "0",
        })  # fmt: skip
        words = said(newest(discord.only_answer(str(answer.json()["interaction_id"]))))
        taken = f"#{number} is taken down: its picture and its prompt are gone"
        assert (taken in words) == done, words
    gone = newest(discord.until(lambda: next(
        (one for one in discord.messages() if "taken down" in newest(one)["content"]), None
    )))  # fmt: skip
    assert not gone["attachments"] and keys(gone) == [] and "fox" not in str(gone)
    assert "The moderators of this chat can tell you why." in str(gone["embeds"])
    over = newest(reported(house, number, "taken down"))
    assert not over["attachments"] and keys(over) == [] and "fox" not in str(over)
    shown_to_all = [one for one in discord.messages(ROOM) if not one["ephemeral"]]
    assert len(shown_to_all) == 1, "one message, edited"
    words = said(page(discord, discord.command("retry", id=str(number))))
    assert "was taken down by a moderator" in words


def taken(data: bytes) -> list[str]:
    """The names in a ZIP."""
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        return found.namelist()


def test_everybody_takes_theirs_away(house: House) -> None:
    number = number_of(imagine(house.discord, "a fox to take away"))
    asked = house.discord.command("export")

    def file() -> dict[str, Any] | None:
        told = [newest(one) for one in house.discord.answers(asked) if one["ephemeral"]]
        files = [file for one in told for file in one["attachments"]]
        return files[0] if files else None

    found = house.discord.until(file)
    assert found["filename"] == "drawqueue.zip"
    assert f"pictures/{number}-1.png" in taken(httpx.get(found["url"]).content)
    telegram = house.telegram
    telegram.say("/imagine a tower to take away")
    telegram.card("a tower to take away", "done in")
    assert "to me alone" in shown(telegram.only_answer("/export", GROUP))
    telegram.say("/export")
    telegram.until(lambda: any(
        newest(one)["kind"] == "document" for one in telegram.messages()
    ))  # fmt: skip
    made = house.line("/imagine a gate to take away")["job"]["id"]
    house.discord.drawqueue.until(made, "done")
    told = house.line("/export")["text"]
    link = next(line for line in told.splitlines() if line.startswith("/export/"))
    answer = house.web.get(link)
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "private, no-store"
    assert f"pictures/{made}-1.png" in taken(answer.content)
    assert f"pictures/{number}-1.png" not in taken(answer.content)
    for forged in (f"{link}x", link.replace(".", "x."), "/export/x"):
        assert house.web.get(forged).status_code == 403


def test_on_discord_somebody_is_forgotten_and_another_is_not(house: House) -> None:
    discord = house.discord
    card = imagine(discord, "a private owl")
    discord.command("imagine", prompt="an owl of Bob's", user=BOB)
    discord.card("an owl of Bob's", "done in")
    asked = discord.command("forget")
    told = page(discord, asked)
    assert "Shall I forget everything of yours, for good?" in told["content"]
    assert "nobody gets a second quota" in told["content"]
    assert keys(told) == ["Yes, forget me", "No, keep everything"]
    discord.press(discord.only_answer(asked)["id"], "Yes, forget me")
    discord.until(lambda: "forgotten" in page(discord, asked)["content"])
    left = discord.until(lambda: (
        ids if card["id"] not in (ids := [one["id"] for one in alive(house)]) else None
    ))  # fmt: skip
    assert left and "an owl of Bob's" in str(alive(house)), "Bob's stays"
    assert not [one for one in alive(house) if "taken down" in newest(one)["content"]]
    told = page(discord, discord.command("history"))
    assert "You have no pictures yet" in told["content"]


def alive(house: House) -> list[dict[str, Any]]:
    """The cards in the channel that nobody deleted."""
    return [one for one in house.discord.messages() if not one["deleted"] and
            newest(one)["embeds"]]  # fmt: skip


def test_on_telegram_too(house: House) -> None:
    telegram = house.telegram
    telegram.say("/imagine a red tower", GROUP)
    card = telegram.card("a red tower", "done in", chat=GROUP)
    told = telegram.only_answer(
        "/report it is ugly", GROUP, HOST + 1, reply_to_message_id=card["message_id"]
    )
    assert "The moderators will look at" in shown(told)
    photo = telegram.card("reported", "a red tower", "it is ugly", chat=MODS)
    last = newest(photo)
    assert last["kind"] == "photo" and last["has_media_spoiler"]
    assert keys(last) == ["Take down", "Keep"]
    assert "in a chat that you moderate" in telegram.press(photo, "Take down", MODS, HOST + 1)
    number = shown(newest(card)).split("#")[1].split()[0]
    telegram.say(f"/takedown {number} towers are ugly", HOST, HOST)
    gone = telegram.card("taken down by a moderator", "Why: towers are ugly", chat=GROUP)
    assert gone["message_id"] == card["message_id"] and "a red tower" not in shown(newest(gone))
    over = telegram.card("taken down by", "Why: towers are ugly", chat=MODS)
    assert over["message_id"] == photo["message_id"] and keys(newest(over)) == []
    # Forgotten: of two messages one is too old to be deleted.
    telegram.say("/imagine an old mill")
    old = telegram.card("an old mill", "done in")
    telegram.post("clock", advance=49 * 3600)
    telegram.say("/imagine a new mill")
    new = telegram.card("a new mill", "done in")
    told = telegram.only_answer("/forget", GROUP)
    assert "to me alone, where nobody reads along" in shown(told)
    question = telegram.only_answer("/forget")
    assert "Telegram lets me delete them for 48 hours" in shown(question)
    telegram.press(telegram.card("Shall I forget everything"), "Yes, forget me")

    def now(message: dict[str, Any]) -> dict[str, Any] | None:
        same = (one for one in telegram.messages() if one["message_id"] == message["message_id"])
        return next((newest(one) for one in same), None)

    telegram.until(lambda: now(new) is None)
    emptied = telegram.until(
        lambda: left if (left := now(old)) and "deleted by" in shown(left) else None
    )
    assert "mill" not in shown(emptied) and keys(emptied) == []
    assert "You have no pictures yet" in shown(telegram.only_answer("/history"))


def test_on_the_web_too(house: House) -> None:
    made = house.line("/imagine a blue gate")["job"]["id"]
    house.discord.drawqueue.until(made, "done")
    assert house.line(f"/report {made} a wrong gate")["text"].startswith("Thank you")
    shown_there = reported(house, made, "reported")
    assert "a wrong gate" in str(newest(shown_there))
    discord = house.discord
    words = said(page(discord, discord.command(
        "takedown", BOB, id=str(made), reason="gates are wrong"
    )))  # fmt: skip
    assert f"#{made} is taken down" in words
    assert house.web.get(f"/api/jobs/{made}").status_code == 404
    assert house.web.get(f"/media/{made}/0").status_code == 404
    other = house.line("/imagine a green gate")["job"]["id"]
    house.discord.drawqueue.until(other, "done")
    asked = house.line("/forget")
    agree = next(one for one in asked["buttons"] if one["id"].startswith("agree"))
    told = house.web.post("/api/proposals/{1}/{0}".format(*agree["id"].split(":"))).json()["text"]
    assert "forgotten" in told and "Reload this page" in told
    house.discord.until(lambda: house.web.get("/api/jobs").json() == [])
    for path in (f"/media/{other}/0", f"/api/jobs/{other}"):
        assert house.web.get(path).status_code == 404


def test_anothers_is_reached_by_no_path(house: House) -> None:
    """What somebody drew on Discord, asked for by the web chat's person, who moderates nothing."""
    discord = house.discord
    number = number_of(imagine(discord, "a secret cave"))
    for line in (f"/report {number}", f"/takedown {number}", f"/reports {number}"):
        assert f"There is no #{number}" in house.line(line)["error"], line
    question = house.discord.command("forget")
    page(discord, question)
    for id_ in range(1, 9):
        for answer in ("agree", "refuse"):
            refused = house.web.post(f"/api/proposals/{id_}/{answer}")
            assert refused.status_code in (404, 409), refused.text
    for action in ("takedown", "keep"):
        assert house.web.post(f"/api/jobs/{number}/{action}").status_code == 404
    assert house.line("/reports")["text"] == "Nothing waits for a moderator."
    assert discord.card("a secret cave", "done in")
