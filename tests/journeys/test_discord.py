"""Discord, end to end: the real bot and worker against a wire-level Discord on loopback."""

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import text

from tests.journeys.chats import ANN, BOB, CHANNEL, Discord, on_discord
from tests.journeys.test_web import children

MANAGE_MESSAGES = 1 << 13


@pytest.fixture(scope="module")
def discord(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Discord]:
    folder = tmp_path_factory.mktemp("discord")
    with on_discord(folder, DATABASE_URL=new_database(), DRAWQUEUE_MENTION_AFTER="12") as made:
        yield made


@pytest.mark.both_databases
def test_a_prompt_becomes_a_picture_in_one_message(discord: Discord) -> None:
    asked = discord.command("imagine", prompt="a lighthouse sleep:0.4", steps=25, seed=7)
    done = discord.card("a lighthouse", "done in")
    assert discord.interaction(asked)["acked"] < 3
    told = [version["content"] for version in done["versions"]]
    assert any("generating" in words for words in told)
    last = done["versions"][-1]
    assert "seed 7" in last["embeds"][0]["footer"]["text"]
    picture = last["attachments"][0]
    assert picture["width"] == picture["height"] == 256
    assert "a lighthouse" in picture["description"]
    png = Image.open(io.BytesIO(httpx.get(picture["url"]).content))
    assert "Seed: 7" in png.info["parameters"]
    assert not discord.door.get("/control/calls", params={"unknown": 1}).json()


@pytest.mark.both_databases
def test_buttons(discord: Discord) -> None:
    discord.command("draw", prompt="a long one sleep:0.5", steps=100)
    going = discord.card("a long one", "generating")
    refused = discord.press(going["id"], "Cancel", user=BOB)
    discord.until(
        lambda: "Only the person who asked" in str(discord.interaction(refused)["followups"])
    )
    discord.press(going["id"], "Cancel", user=BOB, permissions=MANAGE_MESSAGES)
    stopped = discord.card("a long one", "cancelled")
    assert stopped["id"] == going["id"]
    discord.press(stopped["id"], "Retry")
    again = discord.card("a long one", "generating")
    assert again["id"] == going["id"], "the same card"
    discord.press(again["id"], "Cancel")
    discord.card("a long one", "cancelled")
    discord.command("generate", prompt="a quick one")
    done = discord.card("a quick one", "done in")
    before = len(discord.messages())
    discord.press(done["id"], "🎲 New seed")
    discord.until(lambda: len(discord.messages()) == before + 1)


def test_faults_are_told_to_the_asker_alone(discord: Discord) -> None:
    asked = discord.command("imagine", prompt="a fox", model="nope", sampler="magic")
    answer = discord.until(lambda: discord.interaction(asked).get("ack_data"))
    assert "“sampler”" in answer["content"] and answer["flags"] & 64
    asked = discord.command("show", id="99999")
    discord.until(lambda: "no #99999" in str(discord.interaction(asked)["followups"]))


def test_a_nasty_prompt_pings_nobody(discord: Discord) -> None:
    discord.command("imagine", prompt=f"@everyone <@{BOB}> **bold** [x](http://a.example) quiet")
    done = discord.card("quiet", "done in")
    for version in done["versions"]:
        assert not any(version["pings"].values()) if version["pings"] else True


def test_past_the_tokens_life_it_speaks_as_the_bot(discord: Discord) -> None:
    discord.command("imagine", prompt="a late one sleep:0.3", steps=40)
    discord.card("a late one", "generating")
    discord.door.post("/control/clock", json={"advance": 16 * 60})
    done = discord.card("a late one", "done in", seconds=60)
    assert done["versions"][-1]["route"] == "channel"
    picture = done["versions"][-1]["attachments"][0]
    assert Image.open(io.BytesIO(httpx.get(picture["url"]).content)).size == (256, 256)


@pytest.mark.both_databases
def test_buttons_work_after_the_bot_was_killed(discord: Discord) -> None:
    discord.command("imagine", prompt="a survivor")
    done = discord.card("a survivor", "done in")
    os.kill(children(discord.drawqueue)["bots.discord_chat"], signal.SIGKILL)
    discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") >= 2)
    before = len(discord.messages())
    discord.press(done["id"], "Retry")
    discord.until(lambda: len(discord.messages()) == before + 1)


def test_models_are_completed_from_memory(discord: Discord) -> None:
    answer = discord.door.post("/control/autocomplete", json={
        "name": "imagine", "focused": "sampler", "value": "karras", "user_id": ANN,
        "channel_id": CHANNEL,
    }).json()  # fmt: skip
    assert {"DPM++ 2M Karras"} <= {choice["value"] for choice in answer["choices"]}
    assert answer["after"] < 1


def answer(discord: Discord, asked: str) -> str:
    """What an interaction was answered with, once it was."""

    def words() -> str:
        told = discord.interaction(asked)
        first = str((told.get("original") or {}).get("content") or "")
        return first or "".join(str(one.get("content")) for one in told["followups"])

    return str(discord.until(words))


@pytest.mark.both_databases
def test_the_other_commands(discord: Discord) -> None:
    assert "You have nothing in the queue" in answer(discord, discord.command("queue", BOB))
    assert "/imagine" in answer(discord, discord.command("help"))
    discord.command("imagine", prompt="a shown one")
    done = discord.card("a shown one", "done in")
    number = done["versions"][-1]["embeds"][0]["footer"]["text"].split()[0]
    before = len(discord.messages())
    discord.command("show", id=number)
    discord.until(lambda: len(discord.messages()) == before + 1)
    assert discord.card("a shown one", "done in")["id"] != done["id"]
    assert "no #" in answer(discord, discord.command("show", BOB, id=number))


def test_in_a_thread_and_in_a_direct_message(discord: Discord) -> None:
    discord.door.post("/control/guild", json={
        "id": "900", "members": [ANN], "channels": [
            {"id": "901"}, {"id": "902", "thread_of": "901", "name": "pictures"}],
    })  # fmt: skip
    discord.command("imagine", place={"channel_id": "902"}, prompt="a threaded one")
    discord.card("a threaded one", "done in", channel="902")
    asked = discord.command("imagine", place={"dm": True}, prompt="a private one")
    channel = discord.interaction(asked)["channel_id"]
    discord.card("a private one", "done in", channel=channel)
    assert not discord.interaction(asked)["followups"], "the bot can edit there for ever"


def test_where_the_bot_is_not_it_says_so_before_the_token_dies(discord: Discord) -> None:
    place = {"channel_id": "950", "guild_id": "951", "user_install": True}
    asked = discord.command("imagine", place=place, prompt="an installed one")
    assert "/show" in str(discord.until(lambda: discord.interaction(asked)["followups"]))
    discord.card("an installed one", "done in", channel="950")


def test_a_long_wait_is_mentioned_once_unless_turned_off(discord: Discord) -> None:
    def mentions() -> list[dict[str, Any]]:
        return [
            m for m in discord.messages() if "your picture is here" in m["versions"][0]["content"]
        ]

    before = len(mentions())
    discord.command("imagine", prompt="a slow one sleep:0.5", steps=28)
    discord.card("a slow one", "done in")
    discord.until(lambda: len(mentions()) == before + 1)
    assert mentions()[-1]["versions"][0]["pings"]["users"] == [ANN]
    assert "not mention you" in answer(discord, discord.command("quiet"))
    discord.command("imagine", prompt="a slow and quiet one sleep:0.5", steps=28)
    discord.card("a slow and quiet one", "done in")
    time.sleep(3)
    assert len(mentions()) == before + 1


def test_a_picture_over_the_guilds_limit_is_made_smaller(discord: Discord) -> None:
    discord.door.post("/control/guild", json={
        "id": "960", "members": [ANN], "channels": [{"id": "961"}],
        "attachment_size_limit": 5_000,
    })  # fmt: skip
    discord.command(
        "imagine", place={"channel_id": "961"}, prompt="a heavy one", width=1024, height=1024
    )
    done = discord.card("a heavy one", "done in", channel="961")
    picture = done["versions"][-1]["attachments"][0]
    assert picture["size"] <= 5_000 and not picture["filename"].endswith(".png")


@pytest.mark.both_databases
def test_it_acknowledges_while_the_database_is_locked(discord: Discord) -> None:
    with discord.drawqueue.database() as database, database.write() as rows:
        if discord.drawqueue.database_url:
            # A write of SQLite's locks all there is; here it is said.
            rows.execute(text("LOCK TABLE generations"))
        asked = discord.command("imagine", prompt="a locked out one")
        acked = discord.until(lambda: discord.interaction(asked)["acked"])
        time.sleep(4)
    assert acked < 3
    discord.card("a locked out one", "done in")
