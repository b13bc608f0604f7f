"""Who writes in a group's or a channel's name on Telegram, where one account stands for all; and
groups that are called differently later."""

import asyncio
from typing import Any

import pytest
from telegram import Bot

from bots.telegram_chat import TelegramChat
from core.asking import Ask
from core.commands import from_text, run
from core.house import House
from core.lifecycle import State
from core.people import Asker
from tests.core.test_policy import submit
from tests.journeys.chats import TELEGRAM_TOKEN, wire

OURS, THEIRS, CHANNEL, BOB = -701, -702, -1009, 502
# Whom Telegram names in place of anonymous administrators, and of channels.
NOBODY = {
    "group": {"id": 1087968824, "is_bot": True, "first_name": "Group"},
    "channel": {"id": 136817688, "is_bot": True, "first_name": "Channel"},
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_writes_in_a_groups_name_is_nobody_elsewhere(house: House) -> None:
    def write(text: str, chat: int, name: int, **more: Any) -> dict[str, Any]:
        told = door.post("/user_message", json={
            "chat_id": chat, "user_id": BOB, "text": text, **more,
        }).json()  # fmt: skip
        kind = "group" if name == chat else "channel"
        named = {"id": name, "type": "supergroup" if name == chat else kind, "title": str(name)}
        return {**told, "message": {**told["message"], "from": NOBODY[kind], "sender_chat": named}}

    async def story(url: str) -> None:
        async with Bot(TELEGRAM_TOKEN, base_url=url) as bot:
            chat = TelegramChat(house, bot)

            async def said(update: dict[str, Any]) -> str:
                event = str(update["update_id"])
                chat.inbox.record({event: update})
                chat._start(event)
                await asyncio.gather(*chat._tasks)
                place = {"chat_id": update["message"]["chat"]["id"]}
                told = door.get("/messages", params=place).json()["messages"]
                newest = [one for one in told if one["from_bot"]][-1]["versions"][-1]
                return str(newest.get("text") or newest.get("caption"))

            await said(write("/imagine a secret fox", OURS, OURS))
            await said(write("/imagine a channel's fox", OURS, CHANNEL))
            assert [house.generations.get(id_).asker for id_ in (1, 2)] == ["-701", "-1009"]
            for line in ("/show 1", "/retry 1", "/cancel 1", "/delete 1", "/cancel all", "/edit 1"):
                told = await said(write(line, THEIRS, THEIRS))
                assert "fox" not in told, line
            # In our group one of a channel's is nobody either, who is another channel's.
            assert "There is no #2 of yours" in await said(write("/show 2", OURS, -1010))
            for id_ in (1, 2):
                assert house.generations.get(id_).state == State.QUEUED
            # It is theirs who wrote it, and an administrator's is every one of the group.
            assert "fox" in await said(write("/edit 1", OURS, OURS))
            await said(write("/cancel 1", OURS, OURS))
            await said(write("/cancel 2", OURS, OURS))
            for id_ in (1, 2):
                assert house.generations.get(id_).state == State.CANCELLED

    with wire() as (door, url):
        door.post("/limits", json={"private_per_second": None, "group_per_minute": None})
        asyncio.run(story(url))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_group_that_became_a_supergroup_keeps_what_is_its_own(house: House) -> None:
    def ann(chat: int) -> Asker:
        return Asker("telegram", "501", keeper=True, moderator=True, chat=f"telegram:chat:{chat}")

    def say(line: str, chat: int) -> str:
        name, given, faults = from_text(line)
        return run(house, name, Ask(ann(chat), line, {"chat": chat}, given, faults)).text

    async def migrate(url: str) -> int:
        door.post("/chat", json={"chat_id": OURS, "type": "group", "admins": [501]})
        new = int(door.post("/migrate", json={"chat_id": OURS}).json()["migrate_to_chat_id"])
        async with Bot(TELEGRAM_TOKEN, base_url=url) as bot:
            chat = TelegramChat(house, bot)
            told = await bot.do_api_request("getUpdates", {"offset": 0})
            # Told once more, it is as it is.
            for again in (0, 1):
                events = {str(one["update_id"] + 1000 * again): one for one in told}
                chat.inbox.record(events)
                for event in events:
                    chat._start(event)
                await asyncio.gather(*chat._tasks)
        return new

    house.presets.save(ann(OURS), "misty", "{prompt} in mist", {})
    say("/preset share misty", OURS)
    say("/settings set count 3 channel", OURS)
    say("/settings set preset misty channel", OURS)
    drawn = submit(house, Asker("telegram", "502", chat=f"telegram:chat:{OURS}"), "a fox")
    with wire() as (door, url):
        new = asyncio.run(migrate(url))
    assert new != OURS
    values = house.tastes.values(ann(new), here=True)
    assert (values["count"].value, values["preset"].value) == ("3", "misty")
    bob = Asker("telegram", "502", chat=f"telegram:chat:{new}")
    assert house.presets.find(bob, "misty").template == "{prompt} in mist"
    assert house.generations.visible(drawn.id, ann(new)), "its administrator's to look after"
    assert not house.presets.of(Asker("telegram", "502", chat=f"telegram:chat:{OURS}"))[0].id
