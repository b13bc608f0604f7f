"""Keys that are made in a chat, and programs that draw with them."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.journeys.chats import ANN, Everywhere, everywhere


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    with everywhere(tmp_path_factory.mktemp("keys")) as made:
        yield made


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
    aloud = telegram.only_answer("/key new", chat=-100, user=501)["text"]
    assert aloud == "Write /key to me alone, where nobody reads along."
