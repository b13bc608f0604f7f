"""Changing what waits on Discord, end to end: the button, its modal, and the card that stays."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.journeys.chats import ANN, BOB, Discord, on_discord
from tests.journeys.test_discord import number_of

BUSY = "a busy one sleep:0.5"


@pytest.fixture(scope="module")
def discord(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Discord]:
    with on_discord(tmp_path_factory.mktemp("discord"), DATABASE_URL=new_database()) as made:
        yield made


@pytest.fixture
def busy(discord: Discord) -> Iterator[dict[str, Any]]:
    """Something long is drawn, so that whatever is asked for waits."""
    asked = discord.command("imagine", BOB, prompt=BUSY, steps=150)
    going = discord.card(BUSY, "generating")
    assert discord.interaction(asked)
    yield going
    discord.press(going["id"], "Cancel", BOB, stale=True)
    discord.until(lambda: "generating" not in discord.drawqueue.rows().values())


def opened(discord: Discord, asked: str) -> dict[str, Any]:
    told = discord.until(lambda: one if (one := discord.interaction(asked))["ack_type"] else None)
    assert told["ack_type"] == 9, discord.answers(asked)
    assert told["acked"] < 3
    return dict(told)


def field(modal: dict[str, Any]) -> dict[str, Any]:
    label, *_ = modal["ack_data"]["components"]
    return dict(label["component"])


def submit(discord: Discord, modal: dict[str, Any], words: str) -> str:
    answer = discord.door.post(
        "/control/modal", json={"interaction_id": modal["id"], "values": {"words": words}}
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["interaction_id"])


@pytest.mark.both_databases(slow=True)
def test_edit_changes_the_same_card_and_that_is_drawn(
    discord: Discord, busy: dict[str, Any]
) -> None:
    discord.command("imagine", prompt="a hasty fox", seed=7, steps=9)
    card = discord.card("a hasty fox", "queued")
    modal = opened(discord, discord.press(card["id"], "Edit"))
    assert field(modal)["value"] == "a hasty fox --steps 9 --seed 7"
    before = len(discord.messages())
    asked = submit(discord, modal, "a patient wolf --steps 10")
    changed = discord.card("a patient wolf", "queued")
    assert changed["id"] == card["id"] and number_of(changed) == number_of(card)
    last = changed["versions"][-1]["embeds"][0]["footer"]["text"]
    assert "seed 7" in last and "10 steps" in last
    assert discord.interaction(asked)["acked"] < 3
    # Opened before, and handed in after another one: the last words count.
    again = opened(discord, discord.press(card["id"], "Edit", stale=True))
    assert field(again)["value"] == "a patient wolf --steps 10 --seed 7"
    submit(discord, again, "a patient bear --steps 10")
    discord.card("a patient bear", "queued")
    assert len(discord.messages()) == before and not discord.answers(asked)
    discord.press(busy["id"], "Cancel", BOB)
    done = discord.card("a patient bear", "done in")
    assert done["id"] == card["id"] and done["versions"][-1]["attachments"]
    assert not discord.door.get("/control/calls", params={"unknown": 1}).json()


def test_what_cannot_be_is_one_answer_to_who_asked(discord: Discord, busy: dict[str, Any]) -> None:
    discord.command("imagine", prompt="a stubborn fox")
    card = discord.card("a stubborn fox", "queued")
    number = number_of(card)
    told = discord.only_answer(discord.press(card["id"], "Edit", BOB))
    assert told["ephemeral"] and "Only the person who asked for this picture" in told["content"]
    modal = opened(discord, discord.press(card["id"], "Edit"))
    told = discord.only_answer(submit(discord, modal, "a *new* fox --steps 999"))
    assert told["ephemeral"] and "from 1 to 150; got 999" in told["content"]
    assert "a \\*new\\* fox --steps 999" in told["content"], "what was written is not lost"
    told = discord.only_answer(
        submit(discord, opened(discord, discord.press(card["id"], "Edit")), "{red, blue} fox")
    )
    assert f"That makes 2 pictures, and #{number} is one" in told["content"]
    late = opened(discord, discord.press(card["id"], "Edit"))
    discord.press(card["id"], "Cancel")
    discord.card("a stubborn fox", "cancelled")
    told = discord.only_answer(submit(discord, late, "a late fox"))
    assert told["ephemeral"] and f"#{number} is cancelled already" in told["content"]
    assert told["content"].count("a late fox") == 1 and "/imagine a late fox" in told["content"]
    told = discord.only_answer(discord.press(card["id"], "Edit", stale=True))
    assert told["ephemeral"] and f"#{number} is cancelled already" in told["content"]
    discord.card("a stubborn fox", "cancelled")


def test_an_edit_by_command_and_what_is_too_long_for_a_modal(
    discord: Discord, busy: dict[str, Any]
) -> None:
    discord.command("imagine", prompt="w" * 3995)
    card = discord.card("w" * 100, "queued")
    number = number_of(card)
    told = discord.only_answer(discord.press(card["id"], "Edit"))
    assert told["ephemeral"] and f"/edit {number} and new words" in told["content"]
    told = discord.only_answer(
        discord.command("edit", id=f"#{number}", words="a short fox --seed 4")
    )
    assert told["ephemeral"] and f"#{number} is changed" in told["content"].replace("\\", "")
    discord.card("a short fox", "queued")
    told = discord.only_answer(discord.command("edit"))
    assert f"/edit {number} a short fox --seed 4" in told["content"]
    discord.press(card["id"], "Cancel")


def test_edit_after_the_bot_was_killed(discord: Discord, busy: dict[str, Any]) -> None:
    discord.command("imagine", prompt="a lasting fox")
    card = discord.card("a lasting fox", "queued")
    modal = opened(discord, discord.press(card["id"], "Edit"))
    online = discord.drawqueue.log.read_text().count("on line as")
    os.kill(discord.drawqueue.processes()["bots.discord_chat"], signal.SIGKILL)
    discord.until(lambda: discord.drawqueue.log.read_text().count("on line as") > online)
    submit(discord, modal, "a lasting wolf")
    discord.card("a lasting wolf", "queued")
    modal = opened(discord, discord.press(card["id"], "Edit"))
    assert field(modal)["value"].startswith("a lasting wolf --seed ")
    discord.press(card["id"], "Cancel", ANN)
