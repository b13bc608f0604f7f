"""Platforms that ask for silence, refuse, forget or answer twice: what people see, what is called.

The outages that last for half a minute are in `tests/outages.py` (`make outages`).
"""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys.chats import CHANNEL, Everywhere, everywhere

HUSH = 5
ANN = 501


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    with everywhere(tmp_path_factory.mktemp("outages"), DRAWQUEUE_MENTION_AFTER="0") as made:
        yield made


def row(house: Everywhere, prompt: str) -> Any:
    """The row of the one picture with this prompt."""
    from sqlalchemy import select

    from core.database import generations

    with house.drawqueue.database() as database, database.read() as connection:
        rows = connection.execute(select(generations)).all()
    (found,) = [one for one in rows if one.request["prompt"].startswith(prompt)]
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


@pytest.mark.parametrize("method", ["editMessageText", "sendMessage"])
def test_telegram_is_left_in_peace_by_every_process(house: Everywhere, method: str) -> None:
    telegram, chat = house.telegram, 600 + len(method)
    telegram.say("a patient one sleep:0.3 --steps 12", chat, chat)
    telegram.card("a patient one", "generating", chat=chat)
    telegram.post("fail", method=method, status=429, retry_after=HUSH, times=1)
    if method == "sendMessage":
        telegram.say("/queue", chat, chat)
    calls = telegram.until(
        lambda: [one for one in telegram_calls(house, chat) if one.get("status") == 429]
    )
    if method != "sendMessage":
        time.sleep(1)
        telegram.say("/queue", chat, chat)
    telegram.card("a patient one", "done in", chat=chat)
    telegram.card("In all:", chat=chat)
    after = [one["time"] - calls[0]["time"] for one in telegram_calls(house, chat)]
    assert not [moment for moment in after if 0.3 < moment < HUSH], after
    late = sorted(moment for moment in after if moment >= HUSH)
    assert late[0] < HUSH + 3 and len(telegram.messages(chat)) == 2


def test_a_silence_of_all_discord_is_kept_in_every_channel(house: Everywhere) -> None:
    discord, other = house.discord, "710"
    discord.door.post("/control/guild", json={
        "id": "700", "members": ["501"], "channels": [{"id": other}],
    })  # fmt: skip
    discord.command("imagine", prompt="a loud one sleep:0.3", steps=12)
    discord.command("imagine", place={"channel_id": other}, prompt="one elsewhere sleep:0.3",
                    steps=12)  # fmt: skip
    discord.card("a loud one", "generating")
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


# What is gone


GONE = {
    "message": (
        lambda house, card: ("delete_message", {"message_id": card["id"]}), "404 (10008)"
    ),
    "channel": (lambda house, card: ("delete_channel", {"channel_id": "720"}), "404 (10003)"),
    "guild": (lambda house, card: ("kick_bot", {"guild_id": "701"}), "403 (50001)"),
}  # fmt: skip


@pytest.mark.parametrize("what", GONE)
def test_what_is_gone_on_discord_is_asked_for_once(house: Everywhere, what: str) -> None:
    discord, channel, prompt = house.discord, "720", f"a homeless one, no {what}"
    discord.door.post("/control/guild", json={
        "id": "701", "members": ["501"], "channels": [{"id": channel}],
    })  # fmt: skip
    discord.command("imagine", place={"channel_id": channel}, prompt=f"{prompt} sleep:0.3",
                    steps=8)  # fmt: skip
    card = discord.card(prompt, "queued", channel=channel)
    # What the token may still edit is no stranger's business: here it is dead.
    discord.door.post("/control/clock", json={"advance": 16 * 60})
    door, reason = GONE[what]
    discord.door.post(f"/control/{door(house, card)[0]}", json=door(house, card)[1])
    discord.command("imagine", prompt=f"beside {prompt}")
    discord.until(lambda: row(house, prompt).state == "done")
    discord.card(f"beside {prompt}", "done in", seconds=5)
    lost = row(house, prompt)
    assert reason in lost.undeliverable
    time.sleep(4)
    tried = discord_calls(house, f"^/(channels|webhooks)/.*/messages/{lost.message}$")
    refused = [one for one in tried if one["status"] in (401, 403, 404)]
    assert len(refused) <= 4, "once with the token, once as the bot, in two processes at most"
    assert not discord_calls(house, f"/channels/{channel}/messages$", "POST")
    asked = discord.command("show", id=f"#{lost.id}")
    shown = discord.until(lambda: discord.answers(asked))[0]
    discord.until(lambda: discord.answers(asked)[0]["attachments"])
    assert shown["channel_id"] == CHANNEL


@pytest.mark.parametrize("what", ["block", "delete_message"])
def test_what_is_gone_on_telegram_is_asked_for_once(house: Everywhere, what: str) -> None:
    telegram, chat, prompt = house.telegram, 630 + len(what), f"a homeless one after {what}"
    telegram.say(f"{prompt} sleep:0.3 --steps 8", chat, chat)
    card = telegram.card(prompt, chat=chat)
    telegram.post(what, chat_id=chat, user_id=chat, message_id=card["message_id"])
    telegram.say(f"beside {what}", ANN, ANN)
    telegram.until(lambda: row(house, prompt).state == "done")
    telegram.card(f"beside {what}", "done in", seconds=8)
    lost = telegram.until(lambda: (found := row(house, prompt)).undeliverable and found)
    before = len(telegram_calls(house, chat))
    time.sleep(4)
    calls = telegram_calls(house, chat)
    assert len(calls) == before and len([one for one in calls if one["status"] != 200]) == 1
    assert ("no more" if what == "block" else "message to edit not found") in lost.undeliverable
    if what == "block":
        telegram.post("block", user_id=chat, blocked=False)
    telegram.say(f"/show {lost.id}", chat, chat)
    shown = telegram.card(prompt, "done in", chat=chat)
    assert shown["message_id"] != card["message_id"]
