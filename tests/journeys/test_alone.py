"""What is told where nobody reads along: keys for programs, links to the page with the brush."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.journeys.chats import ANN, BOB, Everywhere, everywhere, shown

ADDRESS = "https://draw.example"
GROUP = -100


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    with everywhere(tmp_path_factory.mktemp("alone"), DRAWQUEUE_PUBLIC_URL=ADDRESS) as made:
        yield made


# Keys, and programs that draw with them


def draw(chats: Everywhere, told: str, prompt: str) -> int:
    """Draw as a program does with the key that somebody was told; the picture's number."""
    found = re.match(r"dq_[\w-]{30,}", told.replace("\\", ""))
    assert found, told
    with httpx.Client(
        base_url=chats.drawqueue.client.base_url,
        headers={"Authorization": f"Bearer {found[0]}"},
    ) as program:
        number = int(program.post("/api/jobs", json={"prompt": prompt}).json()["id"])
        chats.drawqueue.until_log("on line as")

        def done() -> bool:
            return program.get(f"/api/jobs/{number}").json()["status"] == "done"

        chats.discord.until(done)
        assert program.get(f"/media/{number}/0").headers["content-type"] == "image/png"
    return number


def test_one_made_on_discord(chats: Everywhere) -> None:
    discord = chats.discord
    answer = discord.only_answer(discord.command("key", task="new", which="my script"))
    assert answer["ephemeral_for"] == ANN
    number = draw(chats, answer["versions"][-1]["content"], "a fox for a script")
    shown = discord.command("show", id=str(number))
    discord.until(lambda: "a fox for a script" in str(discord.answers(shown)))
    gone = discord.only_answer(discord.command("key", task="revoke", which="1"))
    assert "Key 1 (my script) works no more." in gone["versions"][-1]["content"]


def test_one_made_on_telegram_alone(chats: Everywhere) -> None:
    telegram = chats.telegram
    number = draw(chats, telegram.only_answer("/key new")["text"], "an owl for a script")
    telegram.say(f"/show {number}")
    telegram.card("an owl for a script", "done in")
    listed = telegram.only_answer("/key list")["text"]
    assert "2. a program: may ask for pictures" in listed and "last used" in listed
    aloud = telegram.only_answer("/key new", chat=GROUP, user=501)["text"]
    assert aloud == "Write /key to me alone, where nobody reads along."


# The button under a finished picture


def test_on_discord_the_link_is_for_who_asked(chats: Everywhere) -> None:
    discord = chats.discord
    discord.command("imagine", prompt="a fox to paint on")
    card = discord.card("a fox to paint on", "done in")["id"]
    answer = discord.only_answer(discord.press(card, "🖌 Paint"))
    assert answer["ephemeral_for"] and f"{ADDRESS}/paint/" in answer["versions"][-1]["content"]
    other = discord.only_answer(discord.press(card, "🖌 Paint", BOB))
    assert ADDRESS not in other["versions"][-1]["content"]
    discord.card("a fox to paint on", "done in")


def test_on_telegram_the_link_comes_where_nobody_reads_along(chats: Everywhere) -> None:
    telegram = chats.telegram
    telegram.say("an owl to paint on")
    card = telegram.card("an owl to paint on", "done in")
    before = len(telegram.messages())
    assert telegram.press(card, "🖌 Paint") == ""
    told = telegram.until(lambda: telegram.messages()[before:])
    assert f"{ADDRESS}/paint/" in shown(told[0]["versions"][-1])
    telegram.say("/imagine a hen to paint on", chat=GROUP)
    card = telegram.card("a hen to paint on", "done in", chat=GROUP)
    said = telegram.press(card, "🖌 Paint", chat=GROUP)
    assert said.startswith("Write /paint ") and said.endswith("nobody reads along.")
    assert not any(ADDRESS in str(one) for one in telegram.messages(GROUP))
