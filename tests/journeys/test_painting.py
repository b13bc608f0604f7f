"""The button under a finished picture that leads to the page with the brush."""

from collections.abc import Iterator

import pytest

from tests.journeys.chats import BOB, Everywhere, everywhere, shown

ADDRESS = "https://draw.example"
GROUP = -100


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everywhere]:
    with everywhere(tmp_path_factory.mktemp("painting"), DRAWQUEUE_PUBLIC_URL=ADDRESS) as made:
        yield made


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
