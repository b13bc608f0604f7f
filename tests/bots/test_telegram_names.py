"""Who writes in a group's or a channel's name on Telegram, where one account stands for all."""

import asyncio
from typing import Any

import pytest
from telegram import Bot

from bots.telegram_chat import TelegramChat
from core.house import House
from core.lifecycle import State
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
