"""Discord, end to end: the real bot and worker against a wire-level Discord on loopback."""

import io
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import text

from core.phrases import composed
from tests.journeys.chats import ANN, BOB, CHANNEL, Discord, on_discord

MANAGE_MESSAGES = 1 << 13
HUSH = 4
# As long as Discord's ids are.
SOMEBODY = "123456789012345678"


@pytest.fixture(scope="module")
def discord(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Discord]:
    folder = tmp_path_factory.mktemp("discord")
    with on_discord(folder, DATABASE_URL=new_database(), DRAWQUEUE_MENTION_AFTER="12") as made:
        yield made


@pytest.mark.both_databases
def test_a_prompt_becomes_a_picture_in_one_message(discord: Discord) -> None:
    asked = discord.command("imagine", prompt="a lighthouse sleep:0.4", steps=14, seed=7)
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


@pytest.mark.both_databases(slow=True)
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


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        ("imagine", {"wings": 2}, ["no option “wings”", "Known: prompt"]),
        ("imagine", {"steps": 999}, ["“steps”", "1 to 150"]),
        ("imagine", {"width": 1600}, ["at most 1024 pixels"]),
        ("imagine", {"seed": 2**63}, ["“seed”", "4294967295"]),
        ("imagine", {"model": "nope"}, ["no model “nope”", "On offer: pattern"]),
        ("imagine", {"model": "nope", "sampler": "magic"}, ["“nope”", "“sampler”", "Euler a"]),
        ("imagine", {"prompt": "  "}, ["Write what to draw"]),
        ("imagine", {"prompt": "x" * 4001}, ["4001 characters", "4000 is the most"]),
        ("show", {"id": "99999"}, ["no #99999"]),
        ("show", {"id": "a fox"}, ["by its number"]),
        ("cancel", {}, ["nothing to cancel"]),
        ("dance", {}, ["do not know that command", "/help"]),
    ],
)
def test_bad_input_is_one_answer_to_the_asker_alone(
    discord: Discord, command: str, given: dict[str, Any], words: list[str]
) -> None:
    before = discord.drawqueue.rows()
    given = {"prompt": "a fox", **given} if command == "imagine" else given
    # Clients check bounds and know the commands; an old one or a strange one does not.
    asked = discord.command(command, BOB, unchecked=True, **given)
    told = discord.only_answer(asked)
    assert told["ephemeral"] and all(word in told["content"] for word in words), told["content"]
    assert discord.drawqueue.rows().keys() == before.keys()


def number_of(card: dict[str, Any]) -> int:
    return int(card["versions"][-1]["embeds"][0]["footer"]["text"].split()[0].strip("#"))


@pytest.mark.both_databases(slow=True)
def test_a_button_of_anothers_or_of_another_moment_is_one_answer(discord: Discord) -> None:
    discord.command("imagine", prompt="a busy one sleep:0.5", steps=100)
    busy = discord.card("a busy one", "generating")
    discord.command("imagine", prompt="a wrongly pressed one")
    card = discord.card("a wrongly pressed one", "queued")
    number, rows = number_of(card), discord.drawqueue.rows()

    def refused(label: str, words: str, state: str, user: str = ANN) -> None:
        told = discord.only_answer(discord.press(card["id"], label, user, stale=True))
        assert told["ephemeral"] and words in told["content"]
        now = discord.drawqueue.rows()
        assert now.keys() == rows.keys() and now[number] == state

    refused("Cancel", "Only the person who asked", "queued", BOB)
    discord.press(card["id"], "Cancel")
    discord.card("a wrongly pressed one", "cancelled")
    refused("Cancel", f"#{number} is already cancelled", "cancelled")
    refused("Retry", "Only the person who asked", "cancelled", BOB)
    discord.press(card["id"], "Retry")
    discord.card("a wrongly pressed one", "queued")
    refused("Retry", f"#{number} is still queued; it can be retried when it is over", "queued")
    discord.press(busy["id"], "Cancel")
    discord.card("a wrongly pressed one", "done in")
    refused("Cancel", f"#{number} is already done", "done")
    refused("🎲 New seed", "Only the person who asked", "done", BOB)


def test_a_nasty_prompt_is_plain_words_and_pings_nobody(discord: Discord) -> None:
    nasty = (
        f"@everyone @here <@{SOMEBODY}> <@&{SOMEBODY}> **bold** ||hidden|| `code` "
        "[x](http://a.example) <b>html</b> \u202egnp\u2067 quiet"
    )
    discord.command("imagine", prompt=nasty)
    done = discord.card("quiet", "done in")
    for version in done["versions"]:
        assert not any(version["pings"].values())
        if not version["embeds"]:
            continue
        written = version["embeds"][0]["description"]
        assert not re.search(r"@everyone|@here|<@[!&]?\d|(?<!\\)[*|`]|(?<!\\)\[", written), written
        assert re.sub("[\\\\\u200b]", "", written) == nasty, "nothing is lost"
        ours = version["content"] + version["embeds"][0]["footer"]["text"]
        assert not re.search("[\u202e\u2067]", ours)


def test_past_the_tokens_life_it_speaks_as_the_bot(discord: Discord) -> None:
    discord.command("imagine", prompt="a late one sleep:0.3", steps=20)
    discord.card("a late one", "generating")
    discord.door.post("/control/clock", json={"advance": 16 * 60})
    done = discord.card("a late one", "done in", seconds=60)
    assert done["versions"][-1]["route"] == "channel"
    picture = done["versions"][-1]["attachments"][0]
    assert Image.open(io.BytesIO(httpx.get(picture["url"]).content)).size == (256, 256)


@pytest.mark.parametrize("route", [
    "/webhooks/", pytest.param("/channels/", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_hush_is_obeyed_and_the_picture_arrives(discord: Discord, route: str) -> None:
    prompts = "the first patient one", "the second patient one"
    # The first so long that a busy machine shows it being drawn, and none so long that who asked
    # is told in a message that it is there.
    for prompt, steps in zip(prompts, (22, 4), strict=True):
        discord.command("imagine", prompt=f"{route} {prompt} sleep:0.3", steps=steps)
    first = discord.card(f"{route} {prompts[0]}", "generating")
    if route == "/channels/":
        discord.door.post("/control/clock", json={"advance": 16 * 60})
    before = len(discord.messages())
    edit = {"method": "PATCH", "path_regex": f"^{route}.*/messages/"}
    discord.door.post(
        "/control/fail", json={**edit, "status": 429, "retry_after": HUSH, "times": 2}
    )
    done = discord.card(f"{route} {prompts[0]}", "done in", seconds=60)
    assert done["id"] == first["id"] and done["versions"][-1]["attachments"]
    discord.card(f"{route} {prompts[1]}", "done in", seconds=60)
    assert len(discord.messages()) == before, "no new message"
    calls = discord.door.get("/control/calls").json()
    edits = [one for one in calls if re.search("^/(channels|webhooks)/.*/messages/", one["path"])]
    begun = [one["time"] for one in edits if one["status"] == 429 and one["path"][:10] == route]
    assert len(begun) == 2
    for hush in begun:
        # Whichever process was told so, all of them are quiet.
        early = [one["time"] - hush for one in edits if 0.3 < one["time"] - hush < HUSH]
        assert not early, early


@pytest.mark.both_databases
def test_buttons_work_after_the_bot_was_killed(discord: Discord) -> None:
    discord.command("imagine", prompt="a survivor")
    done = discord.card("a survivor", "done in")
    os.kill(discord.drawqueue.processes()["bots.discord_chat"], signal.SIGKILL)
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


def completed(discord: Discord, typed: str) -> list[str]:
    answer = discord.door.post("/control/autocomplete", json={
        "name": "imagine", "focused": "prompt", "value": typed, "user_id": ANN,
        "channel_id": CHANNEL,
    }).json()  # fmt: skip
    assert answer["after"] < 1
    return [choice["value"] for choice in answer["choices"]]


def test_a_prompt_is_completed_and_never_cut(discord: Discord) -> None:
    # The first is what was typed: it is what Enter takes.
    assert completed(discord, "a fox, gold")[:2] == ["a fox, gold", "a fox, golden hour"]
    assert len(completed(discord, "")) == 25
    assert completed(discord, "a fox, xyzzy") == []
    long = "x" * 84 + ", gold"
    assert completed(discord, long)[1] == "x" * 84 + ", golden hour"
    assert completed(discord, "x" * 90 + ", gold") == [], "a choice has 100 characters"
    assert completed(discord, "x" * 5000 + ", ") == []


def test_words_turn_their_page_and_random_draws(discord: Discord) -> None:
    told = discord.only_answer(discord.command("words"))
    assert told["ephemeral"] and "lighting: golden hour" in told["content"]
    discord.press(told["id"], "lighting")

    def turned() -> bool:
        (now,) = [one for one in discord.messages() if one["id"] == told["id"]]
        return str(now["versions"][-1]["content"]).startswith("lighting: golden hour, soft window")

    discord.until(turned)
    told = discord.only_answer(discord.command("words", category="style"))
    assert "Did you mean styles?" in told["content"]
    discord.command("random", category="styles", seed=7)
    prompt = composed(7, ["styles"])
    done = discord.card(prompt, "done in")
    assert "seed 7" in done["versions"][-1]["embeds"][0]["footer"]["text"]


def answer(discord: Discord, asked: str) -> str:
    """What an interaction was answered with, once it was."""

    def words() -> str:
        told = discord.interaction(asked)
        first = str((told.get("original") or {}).get("content") or "")
        return first or "".join(str(one.get("content")) for one in told["followups"])

    return str(discord.until(words))


@pytest.mark.both_databases(slow=True)
def test_the_other_commands(discord: Discord) -> None:
    assert "You have nothing in the queue" in answer(discord, discord.command("queue", BOB))
    assert "/imagine" in answer(discord, discord.command("help"))
    discord.command("imagine", prompt="a shown one")
    done = discord.card("a shown one", "done in")
    number = done["versions"][-1]["embeds"][0]["footer"]["text"].split()[0]
    before = len(discord.messages())
    discord.command("show", id=number)
    discord.until(lambda: discord.card("a shown one", "done in")["id"] != done["id"])
    assert len(discord.messages()) == before + 1
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


@pytest.mark.slow
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
        time.sleep(2)
    assert acked < 3
    discord.card("a locked out one", "done in")


# SQLite's readers wait for nobody.
@pytest.mark.on_postgresql
def test_a_slow_database_is_told_in_time(discord: Discord) -> None:
    discord.command("imagine", BOB, prompt="a busy neighbour sleep:0.5", steps=100)
    going = discord.card("a busy neighbour", "generating")
    discord.command("imagine", prompt="a waiting fox")
    card = discord.card("a waiting fox", "queued")
    with discord.drawqueue.database() as database, database.write() as rows:
        rows.execute(text("LOCK TABLE generations"))
        asked = discord.press(card["id"], "Edit")
        told = discord.only_answer(asked)
    assert told["ephemeral"] and "Please press once more" in told["content"]
    assert discord.interaction(asked)["acked"] < 3
    discord.press(card["id"], "Cancel")
    discord.press(going["id"], "Cancel", BOB)
