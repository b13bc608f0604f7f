"""Classes, limits, linked accounts and many pictures at once, on all three chats of one house."""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.chats import (
    ANN,
    TELEGRAM_TOKEN,
    Discord,
    Telegram,
    on_discord,
    server,
    shown,
)  # fmt: skip

GROUP = -700
POLICY = f"""
[classes.patron]
weight = 4
members = ["discord:user:{ANN}"]
queued = 12
[classes.fast]
members = ["everyone"]
steps = 50
jobs_per_day = 100
[line]
ask_above = 3
[access]
block = ["telegram:user:666"]
"""


@dataclass
class House:
    """One Drawqueue, and what people do in its chats."""

    discord: Discord
    telegram: Telegram
    web: httpx.Client


@pytest.fixture(scope="module")
def house(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("policy")
    (folder / "policy.toml").write_text(POLICY)
    with (
        server("telegram_server", TELEGRAM_TOKEN) as address,
        contextlib.closing(httpx.Client(base_url=address, timeout=60)) as door,
        on_discord(
            folder, DATABASE_URL=new_database(), DRAWQUEUE_POLICY=str(folder / "policy.toml"),
            TELEGRAM_TOKEN=TELEGRAM_TOKEN, TELEGRAM_API_URL=f"{address}/bot",
            TELEGRAM_FILE_URL=f"{address}/file/bot",
        ) as discord,
    ):  # fmt: skip
        telegram = Telegram(door, discord.drawqueue)
        telegram.post("limits", private_per_second=None, group_per_minute=None)
        discord.door.post("/control/limits", json={"messages": [50, 5.0], "webhooks": [50, 2.0]})
        telegram.post("chat", chat_id=GROUP, type="supergroup", title="Group", admins=[502])
        discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") == 2)
        yield House(discord, telegram, discord.drawqueue.client)


def code(words: str) -> str:
    found = re.search(r"/link (\w{4}-\w{4})", words)
    assert found, words
    return found[1]


def test_two_prompts_are_two_cards_on_discord(house: House) -> None:
    discord = house.discord
    before = len(discord.messages())
    discord.command("imagine", prompt="a {ruby, jade} fox")
    for prompt in ("a ruby fox", "a jade fox"):
        done = discord.card(prompt, "done in")
        assert len(done["versions"][-1]["attachments"]) == 1
    assert len(discord.messages()) == before + 2


def test_many_are_asked_about_on_discord(house: House) -> None:
    discord = house.discord
    asked = discord.only_answer(discord.command("imagine", prompt="{old, new} owl", repeat=2))
    assert "4 pictures, about" in asked["versions"][-1]["content"]
    before = len(discord.messages())
    discord.press(asked["id"], "Queue them all")
    discord.until(lambda: owls_done(discord) == 4)
    cards = [m for m in discord.messages() if "owl" in str(m["versions"][-1]["embeds"])]
    assert len(cards) == 4 and len(discord.messages()) == before + 4


def owls_done(discord: Discord) -> int:
    last = [message["versions"][-1] for message in discord.messages()]
    return sum("owl" in str(one["embeds"]) and "done in" in one["content"] for one in last)


def test_many_are_asked_about_on_telegram(house: House) -> None:
    telegram = house.telegram
    telegram.say("/imagine {wet, dry} stone --repeat 2")
    asked = telegram.card("That makes 4 pictures")
    assert "are in line" in telegram.press(asked, "Queue them all")
    telegram.card("4 pictures are in line")

    def done() -> list[dict[str, Any]]:
        last = [(one["message_id"], one["versions"][-1]) for one in telegram.messages()]
        return [m for m, v in last if "stone" in shown(v) and "done in" in shown(v)]

    telegram.until(lambda: len(done()) == 4)
    question = next(m for m in telegram.messages() if m["message_id"] == asked["message_id"])
    assert not (question["versions"][-1].get("reply_markup") or {}).get("inline_keyboard")


def test_a_single_prompt_of_two_is_two_cards_on_telegram(house: House) -> None:
    before = len(house.telegram.messages())
    house.telegram.say("/imagine a {tin, clay} cup")
    for words in ("a tin cup", "a clay cup"):
        house.telegram.card(words, "done in")
    assert len(house.telegram.messages()) == before + 2


def test_the_json_interface_asks_too(house: House) -> None:
    given = {"prompt": "a {b, c} d", "parameters": {"repeat": 2}}
    asked = house.web.post("/api/jobs", json=given)
    assert asked.status_code == 409 and "4 pictures" in asked.json()["error"]
    made = house.web.post("/api/jobs", json={**given, "confirm": True})
    assert made.status_code == 202 and len(made.json()["also"]) == 3
    for job in (made.json()["id"], *made.json()["also"]):
        house.discord.drawqueue.until(job, "done")


def test_caps_and_lists_are_told_where_one_asks(house: House) -> None:
    told = house.telegram.only_answer("/imagine a fox --steps 60")
    assert "Class fast draws at most 50 steps; asked: 60." in shown(told)
    told = house.telegram.only_answer("a fox", chat=666, user=666)
    assert "does not let you draw here" in shown(told)
    answer = house.web.post("/api/jobs", json={"prompt": "a fox", "parameters": {"steps": 60}})
    assert answer.status_code == 422 and "50 steps" in answer.json()["error"]


def test_a_full_share_is_told_with_the_time_to_wait(house: House) -> None:
    made = house.web.post(
        "/api/jobs",
        json={"prompt": "a fox", "parameters": {"repeat": 40}, "confirm": True},
    )
    assert made.status_code == 202
    much = house.web.post(
        "/api/jobs", json={"prompt": "x {1,2}", "parameters": {"repeat": 20}, "confirm": True}
    )
    assert much.status_code == 202
    over = house.web.post(
        "/api/jobs", json={"prompt": "x", "parameters": {"repeat": 30}, "confirm": True}
    )
    assert over.status_code == 429 and "of 100 pictures today" in over.json()["error"]
    assert int(over.headers["retry-after"]) > 0
    for job in (made.json(), much.json()):
        for number in (job["id"], *job["also"]):
            house.web.delete(f"/api/jobs/{number}")


def test_accounts_are_linked_across_platforms(house: House) -> None:
    discord, telegram = house.discord, house.telegram
    mine = discord.card("a ruby fox", "done in")
    number = re.search(r"#(\d+)", mine["versions"][-1]["embeds"][0]["footer"]["text"])
    assert number
    stranger = shown(telegram.only_answer(f"/show {number[1]}"))
    assert "no #" in stranger
    told = discord.only_answer(discord.command("link"))
    assert told["flags"] & 64, "the asker alone reads the code"
    written = code(told["versions"][-1]["content"])
    assert "to me alone" in shown(telegram.only_answer(f"/link {written}", chat=GROUP))
    assert "wrong, was used" in shown(telegram.only_answer(f"/link {written}")), "others read it"
    written = code(discord.only_answer(discord.command("link"))["versions"][-1]["content"])
    assert f"code of discord:{ANN}" in shown(telegram.only_answer(f"/link {written}"))
    assert "Linked with discord" in shown(telegram.only_answer(f"/link {written} yes"))
    before = len(telegram.messages())
    telegram.say(f"/show {number[1]}")
    telegram.until(lambda: len(telegram.messages()) > before)
    assert telegram.messages()[-1]["versions"][-1]["kind"] == "photo"
    assert "Your class: patron, weight 4." in shown(telegram.only_answer("/quota"))
    assert "wrong, was used" in shown(telegram.only_answer(f"/link {written}"))
    assert "by itself again" in shown(telegram.only_answer("/unlink"))
    assert "Your class: fast" in shown(telegram.only_answer("/quota"))
