"""Platforms that ask for silence, refuse, forget or answer twice: what people see, what is called.

The outages that last for half a minute are in `tests/outages.py` (`make outages`).
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.database import generations
from tests.journeys.chats import Everywhere, everywhere, shown
from tests.servers.plug import HANG

HUSH = 4
ANN = 501


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    with everywhere(tmp_path_factory.mktemp("outages"), DRAWQUEUE_MENTION_AFTER="0") as made:
        yield made


def all_rows(house: Everywhere) -> list[Any]:
    with house.drawqueue.database() as database, database.read() as connection:
        return list(connection.execute(select(generations)).mappings())


def row(house: Everywhere, prompt: str) -> Any:
    """The row of the one picture with this prompt."""
    (found,) = [one for one in all_rows(house) if one["request"]["prompt"].startswith(prompt)]
    return found


def discord_calls(house: Everywhere, path: str, method: str = "PATCH") -> list[dict[str, Any]]:
    """What Discord was asked, by path and method."""
    calls = house.discord.door.get("/control/calls").json()
    return [one for one in calls if re.search(path, one["path"]) and one["method"] == method]


def telegram_calls(house: Everywhere, chat: int) -> list[dict[str, Any]]:
    """What was sent or edited in a chat of Telegram's."""
    calls = house.telegram.door.get("/control/calls").json()
    spoken = [one for one in calls if re.match("send|edit", one["method"])]
    return [one for one in spoken if str(one["params"].get("chat_id")) == str(chat)]


# Silence that is asked for


@pytest.mark.parametrize("method", ["editMessageMedia", "sendMessage"])
def test_telegram_is_left_in_peace_by_every_process(house: Everywhere, method: str) -> None:
    telegram, chat = house.telegram, 600 + len(method)
    telegram.say(f"patient, {method} sleep:0.3 --steps 12", chat, chat)
    telegram.card(f"patient, {method}", chat=chat)
    telegram.until(lambda: row(house, f"patient, {method}")["state"] == "generating")
    telegram.post("fail", method=method, status=429, retry_after=HUSH, times=1)
    if method == "sendMessage":  # The bot is told, and the posters keep it.
        telegram.say("/queue", chat, chat)
    (refused,) = telegram.until(
        lambda: [one for one in telegram_calls(house, chat) if one.get("status") == 429]
    )
    if method != "sendMessage":  # A poster is told, and the bot keeps it.
        time.sleep(1)
        telegram.say("/queue", chat, chat)
    telegram.card(f"patient, {method}", "done in", chat=chat)
    telegram.card("In all:", chat=chat)
    after = [one["time"] - refused["time"] for one in telegram_calls(house, chat)]
    assert not [moment for moment in after if 0.3 < moment < HUSH], after
    assert min(moment for moment in after if moment >= HUSH) < HUSH + 3
    assert len(telegram.messages(chat)) == 2


def test_a_silence_of_all_discord_is_kept_in_every_channel(house: Everywhere) -> None:
    discord, other = house.discord, "710"
    discord.door.post("/control/guild", json={
        "id": "700", "members": ["501"], "channels": [{"id": other}],
    })  # fmt: skip
    discord.command("imagine", prompt="a loud one sleep:0.3", steps=12)
    discord.command("imagine", place={"channel_id": other}, prompt="one elsewhere sleep:0.3",
                    steps=12)  # fmt: skip
    discord.card("a loud one", "")
    discord.until(lambda: row(house, "a loud one")["state"] == "generating")
    discord.door.post("/control/fail", json={
        "method": "PATCH", "path_regex": "/messages/\\d", "status": 429, "retry_after": HUSH,
        "json": {"global": True},
    })  # fmt: skip
    discord.card("a loud one", "done in")
    discord.card("one elsewhere", "done in", channel=other)
    calls = discord_calls(house, r"/messages/\d")
    (hush,) = [one["time"] for one in calls if one["status"] == 429]
    after = [one["time"] - hush for one in calls if one["time"] > hush]
    assert not [moment for moment in after if 0.3 < moment < HUSH], after


# Networks


def test_a_network_that_blinks_costs_seconds_and_a_line_in_the_log(house: Everywhere) -> None:
    discord, telegram, chat = house.discord, house.telegram, 650
    log = house.drawqueue.log
    begun = len(log.read_text())
    discord.command("imagine", prompt="a blink here sleep:0.3", steps=8)
    telegram.say("a blink there sleep:0.3 --steps 8", chat, chat)
    discord.card("a blink here", "")
    telegram.card("a blink there", chat=chat)
    for plug in (house.discord_plug, house.telegram_plug):
        plug.pull(HANG)
    for prompt in ("a blink here", "a blink there"):
        discord.until(lambda prompt=prompt: row(house, prompt)["state"] == "done")
    time.sleep(1)
    for plug in (house.discord_plug, house.telegram_plug):
        plug.put_back()
    discord.card("a blink here", "done in", seconds=15)
    telegram.card("a blink there", "done in", chat=chat, seconds=15)
    assert len(telegram.messages(chat)) == 1
    assert "Traceback" not in log.read_text()[begun:]
    starts = log.read_text().count("on line as")
    assert starts == log.read_text()[:begun].count("on line as"), "no process fell"


# What is gone


def test_what_is_gone_on_discord_is_asked_for_once_and_kept(house: Everywhere) -> None:
    discord = house.discord
    gone = {"message": "404 (10008)", "channel": "404 (10003)", "guild": "403 (50001)"}
    channels = {what: str(720 + place) for place, what in enumerate(gone)}
    for what, channel in channels.items():
        discord.door.post("/control/guild", json={
            "id": f"8{channel}", "members": ["501"], "channels": [{"id": channel}],
        })  # fmt: skip
        place = {"channel_id": channel}
        discord.command("imagine", place=place, prompt=f"no {what} sleep:0.2", steps=8)
    cards = {what: discord.card(f"no {what}", "", channel=channels[what]) for what in gone}
    # Past the tokens' life: with one the bot could still speak where it was thrown out.
    discord.door.post("/control/clock", json={"advance": 16 * 60})
    discord.door.post("/control/delete_message", json={"message_id": cards["message"]["id"]})
    discord.door.post("/control/delete_channel", json={"channel_id": channels["channel"]})
    discord.door.post("/control/kick_bot", json={"guild_id": f"8{channels['guild']}"})
    discord.command("imagine", prompt="beside what is gone")
    for what in gone:
        discord.until(lambda what=what: row(house, f"no {what}")["state"] == "done")
    discord.card("beside what is gone", "done in", seconds=5)
    time.sleep(3)
    for what, reason in gone.items():
        lost = row(house, f"no {what}")
        assert reason in lost["undeliverable"]
        tried = discord_calls(house, f"^/(channels|webhooks)/.*/messages/{lost['message']}$")
        refused = [one for one in tried if one["status"] in (401, 403, 404)]
        assert 1 <= len(refused) <= 2, "by the token, and as the bot"
        assert not discord_calls(house, f"/channels/{channels[what]}/messages$", "POST")
        asked = discord.command("show", id=f"#{lost['id']}")
        discord.until(lambda asked=asked: any(m["attachments"] for m in discord.answers(asked)))


def test_what_is_gone_on_telegram_is_asked_for_once_and_kept(house: Everywhere) -> None:
    telegram, chats = house.telegram, {"block": 631, "delete_message": 632}
    for what, chat in chats.items():
        telegram.say(f"before {what} sleep:0.2 --steps 8", chat, chat)
    for what, chat in chats.items():
        card = telegram.card(f"before {what}", chat=chat)
        telegram.post(what, chat_id=chat, user_id=chat, message_id=card["message_id"])
    telegram.say("beside what is gone", ANN, ANN)
    for what in chats:
        telegram.until(lambda what=what: row(house, f"before {what}")["state"] == "done")
    telegram.card("beside what is gone", "done in", seconds=5)
    time.sleep(3)
    reasons = {"block": "lets me write there no more", "delete_message": "essage to edit not found"}
    for what, chat in chats.items():
        lost = row(house, f"before {what}")
        assert reasons[what] in lost["undeliverable"]
        calls = telegram_calls(house, chat)
        refused = [one for one in calls if one["status"] == (403 if what == "block" else 400)]
        same = [one for one in refused if "not modified" in one["description"]]
        assert len(refused) - len(same) == 1, refused
        assert len([one for one in calls if "send" in one["method"]]) == 1
        if what == "block":
            telegram.post("block", user_id=chat, blocked=False)
        telegram.say(f"/show {lost['id']}", chat, chat)
        telegram.until(lambda chat=chat: len(telegram.pictures(chat)) == 1)


# Two of each bot


def test_two_of_each_bot_do_and_answer_everything_once(house: Everywhere, tmp_path: Path) -> None:
    discord, telegram, chat = house.discord, house.telegram, 640
    logs = [tmp_path / "discord", tmp_path / "telegram"]
    # Not answered yet when the second bot looks for what is left to do.
    telegram.post("fail", method="sendMessage", status=500, description="Oops", times=4)
    telegram.say("/quiet", chat, chat)
    telegram.say("a delayed one", chat, chat)
    with house.another("bots.discord_chat", logs[0]), house.another("bots.telegram_chat", logs[1]):
        discord.until(lambda: all("on line as" in log.read_text() for log in logs))
        asked = [discord.command("imagine", prompt=f"doubled {number}") for number in range(3)]
        for number in range(3):
            telegram.say(f"doubled here {number}", chat, chat)
        telegram.say("/models", chat, chat)
        for number in range(3):
            discord.card(f"doubled {number}", "done in")
            telegram.card(f"doubled here {number}", "done in", chat=chat)
        telegram.card("a delayed one", "done in", chat=chat)
        telegram.card("up to 1024 pixels", chat=chat)
        time.sleep(2)
    prompts = [one["request"]["prompt"] for one in all_rows(house)]
    assert len([one for one in prompts if "doubled" in one or "delayed" in one]) == 7
    assert all(len(discord.answers(one)) == 1 for one in asked)
    told = [shown(one["versions"][-1]).splitlines() for one in telegram.messages(chat)]
    assert len(told) == 6, told
    assert "I will not mention you" in str(told), "and not again"
    assert "answered it first" in house.drawqueue.log.read_text() + logs[0].read_text()
    assert "Traceback" not in logs[0].read_text() + logs[1].read_text()
