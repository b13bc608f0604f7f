"""Telegram, end to end: the real bot and worker against a wire-level Bot API on loopback."""

import asyncio
import io
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from telegram import Bot

from bots import telegram_cards
from core.cards import Card
from core.lifecycle import State
from core.phrases import composed
from tests.journeys.chats import SECOND_THOUGHT, Telegram, on_telegram, shown
from tests.journeys.chats import TELEGRAM_TOKEN as TOKEN

ANN, BOB, GROUP, FORUM = 501, 502, -700, -800


@pytest.fixture(scope="module")
def telegram(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Telegram]:
    with on_telegram(tmp_path_factory.mktemp("telegram"), DATABASE_URL=new_database()) as made:
        made.post("chat", chat_id=GROUP, type="supergroup", title="Group", admins=[BOB])
        made.post("chat", chat_id=FORUM, type="supergroup", title="F", topics=[77], is_forum=True)
        yield made


@pytest.mark.both_databases
def test_a_prompt_becomes_a_photo_in_one_message(telegram: Telegram) -> None:
    before = len(telegram.messages())
    telegram.say("/imagine a fox's den sleep:0.4 —steps 14 --seed 7 --no people")
    done = telegram.card("a fox's den", "done in")
    assert len(telegram.messages()) == before + 1
    told = [shown(version) for version in done["versions"]]
    assert "queued" in told[0] and any("generating" in words for words in told)
    last = done["versions"][-1]
    assert last["kind"] == "photo" and last["photo"]["width"] == 256
    assert "seed 7" in shown(last) and "14 steps" in shown(last)
    calls = telegram.door.get("/control/calls").json()
    calls = calls["calls"] if isinstance(calls, dict) else calls
    assert not [one for one in calls if "404" in str(one.get("error_code", one.get("status", "")))]


def test_plain_words_in_private_and_a_welcome(telegram: Telegram) -> None:
    telegram.say("just a lighthouse")
    telegram.card("just a lighthouse", "done in")
    telegram.say("/start")
    telegram.card("Tap for an example")
    menu = telegram.door.get("/control/commands").json()
    assert "imagine" in str(menu)


@pytest.mark.both_databases(slow=True)
def test_buttons_are_for_the_asker_and_for_administrators(telegram: Telegram) -> None:
    telegram.say("/imagine a long one sleep:0.5 --steps 100", chat=GROUP)
    going = telegram.card("a long one", "generating", chat=GROUP)
    telegram.say("/imagine a waiting one", chat=GROUP)
    waiting = telegram.card("a waiting one", "queued", chat=GROUP)
    assert "Before yours: " in telegram.press(waiting, "Why am I waiting?", chat=GROUP)
    assert "Only the person" in telegram.press(going, "Cancel", chat=GROUP, user=503)
    assert telegram.press(going, "Cancel", chat=GROUP, user=BOB) == ""
    stopped = telegram.card("a long one", "cancelled", chat=GROUP)
    assert stopped["message_id"] == going["message_id"]
    telegram.press(stopped, "Retry", chat=GROUP)
    again = telegram.card("a long one", "generating", chat=GROUP)
    assert again["message_id"] == going["message_id"]
    telegram.press(again, "Cancel", chat=GROUP)


@pytest.mark.both_databases(slow=True)
def test_retry_and_a_new_seed_make_new_cards(telegram: Telegram) -> None:
    telegram.say("/imagine a twin --seed 9")
    first = telegram.card("a twin", "done in")
    before = len(telegram.messages())
    telegram.press(first, "Retry")
    telegram.until(lambda: len(telegram.messages()) == before + 1)
    telegram.press(first, "🎲 New seed")
    telegram.until(lambda: len(telegram.messages()) == before + 2)


@pytest.mark.both_databases
def test_an_update_that_comes_twice_is_handled_once(telegram: Telegram) -> None:
    told = telegram.say("/imagine a double")
    telegram.card("a double", "done in")
    before = len(telegram.messages())
    telegram.post("redeliver", update_id=told["update_id"])
    time.sleep(1.5)
    assert len(telegram.messages()) == before


def test_answers_stay_in_their_topic(telegram: Telegram) -> None:
    telegram.say("/imagine a topical one", chat=FORUM, message_thread_id=77, is_topic_message=True)
    done = telegram.card("a topical one", "done in", chat=FORUM)
    assert done.get("message_thread_id", 77) == 77


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/imagine a fox --wings 2", ("no --wings", "/help flags")),
        ("/imagine a fox --steps 999", ("“steps”", "1 to 150")),
        ("/imagine a fox --wings 2 --steps 999", ("--wings", "1 to 150")),
        ("/imagine a fox --seed 9223372036854775808", ("“seed”", "4294967295")),
        ("/imagine a fox --model nope", ("no model “nope”", "On offer: pattern")),
        ("/imagine a fox --steps", ("--steps needs a number, such as --steps 30",)),
        ("/imagine", ("Write what to draw",)),
        ("/imagine --seed 7", ("Write what to draw",)),
        ("x" * 4001, ("4001 characters", "4000 is the most")),
        ("/show 99999", ("no #99999",)),
        ("/show a fox", ("by its number",)),
        ("/dance", ("/help",)),
        ("/ imagine cat", ("Did you mean /imagine …?",)),
        ("/imagine@ cat", ("Did you mean /imagine …?",)),
        ("//imagine cat", ("Did you mean /imagine …?",)),
    ],
)
def test_bad_input_is_one_clear_answer(
    telegram: Telegram, text: str, words: tuple[str, ...]
) -> None:
    before = telegram.drawqueue.rows()
    told = telegram.only_answer(text)
    assert all(word in shown(told) for word in words), shown(told)
    assert telegram.drawqueue.rows().keys() == before.keys()


def number_of(card: dict[str, Any]) -> int:
    found = re.search(r"#(\d+) · ", shown(card["versions"][-1]))
    assert found
    return int(found[1])


@pytest.mark.both_databases(slow=True)
def test_a_button_of_anothers_or_of_another_moment_is_one_answer(telegram: Telegram) -> None:
    telegram.say("/imagine a busy one sleep:0.5 --steps 100", chat=GROUP)
    busy = telegram.card("a busy one", "generating", chat=GROUP)
    telegram.say("/imagine a wrongly pressed one", chat=GROUP)
    card = telegram.card("a wrongly pressed one", "queued", chat=GROUP)
    number, rows = number_of(card), telegram.drawqueue.rows()
    messages = len(telegram.messages(GROUP))

    def refused(button: str, words: str, state: str, user: int = ANN) -> None:
        assert words in telegram.press(card, button, GROUP, user, stale=True)
        time.sleep(SECOND_THOUGHT)
        assert len(telegram.messages(GROUP)) == messages, "the words above it are the answer"
        now = telegram.drawqueue.rows()
        assert now.keys() == rows.keys() and now[number] == state

    refused("Cancel", "Only the person who asked", "queued", 503)
    assert telegram.press(card, "Cancel", GROUP) == ""
    telegram.card("a wrongly pressed one", "cancelled", chat=GROUP)
    refused("Cancel", f"#{number} is already cancelled", "cancelled")
    refused("Retry", "Only the person who asked", "cancelled", 503)
    assert telegram.press(card, "Retry", GROUP) == ""
    telegram.card("a wrongly pressed one", "queued", chat=GROUP)
    refused("Retry", f"#{number} is still queued; it can be retried when it is over", "queued")
    telegram.press(busy, "Cancel", GROUP)
    telegram.card("a wrongly pressed one", "done in", chat=GROUP)
    refused("Cancel", f"#{number} is already done", "done")
    refused("🎲 New seed", "Only the person who asked", "done", 503)


NASTY = (
    "<b>bold</b> & <a href='tg://user?id=502'>B</a> @everyone @bobby123 *x* _y_ "
    "[z](tg://user?id=5) #tag \u202egnp\u2067 "
)
# What Telegram would tell somebody about, or draw in another way.
LIVE = {"mention", "text_mention", "text_link", "bold", "italic", "code", "pre", "spoiler"}


def entities(version: dict[str, Any]) -> list[str]:
    """What a person's words became, below our own bold line and above our own last one."""
    found = version.get("entities", []) + version.get("caption_entities", [])
    text = shown(version).encode("utf-16-le")
    first = text.find("\n".encode("utf-16-le")) // 2
    last = text.rfind("\n".encode("utf-16-le")) // 2
    return [one["type"] for one in found if first < one["offset"] < last]


def test_a_nasty_prompt_is_plain_words_and_mentions_nobody(telegram: Telegram) -> None:
    telegram.say(f"/imagine {NASTY}" + "x" * 3500, chat=GROUP)
    done = telegram.card("<b>bold</b> &", "done in", chat=GROUP)
    for version in done["versions"]:
        assert not LIVE & set(entities(version)), entities(version)
        first, prompt, *ours = shown(version).split("\n")
        assert NASTY.strip() in prompt.replace("\u2060", "")
        # A mark reaches to the end of its line.
        assert not re.search("[\u202e\u2067]", first + "".join(ours))
    told = telegram.only_answer("/imagine a fox --model @bobby123", chat=GROUP)
    assert "no model" in shown(told) and not told.get("entities")


def test_a_hush_is_obeyed_and_the_picture_arrives(telegram: Telegram) -> None:
    telegram.post("fail", method="editMessageMedia", status=429, retry_after=3, times=1)
    telegram.say("a patient one")
    telegram.card("a patient one", "done in")


def test_a_platform_that_is_down_gets_the_picture_later(telegram: Telegram) -> None:
    telegram.post("fail", method="editMessageMedia", status=500, description="Oops", times=2)
    telegram.say("a delayed one")
    telegram.card("a delayed one", "done in")


@pytest.mark.both_databases
def test_kill_9_of_the_bot_loses_nothing(telegram: Telegram) -> None:
    telegram.say("a survivor sleep:0.3 --steps 10")
    telegram.card("a survivor")
    os.kill(telegram.drawqueue.processes()["bots.telegram_chat"], signal.SIGKILL)
    telegram.say("a newcomer")
    telegram.card("a survivor", "done in")
    telegram.card("a newcomer", "done in")
    assert TOKEN not in telegram.drawqueue.log.read_text()


def test_words_turn_their_page_and_random_draws(telegram: Telegram) -> None:
    before = len(telegram.messages())
    assert "mood: serene" in shown(telegram.only_answer("/words"))
    for key, words in (("lighting", "lighting: golden hour"), ("‹ Categories", "subjects: "),
                       ("mood", "mood: serene")):  # fmt: skip
        assert telegram.press(telegram.messages()[-1], key) == ""
        telegram.until(
            lambda words=words: shown(telegram.messages()[-1]["versions"][-1]).startswith(words)
        )
    assert len(telegram.messages()) == before + 1
    telegram.say("/random styles mood --seed 7")
    done = telegram.card(composed(7, ["styles", "mood"]), "done in")
    assert "seed 7" in shown(done["versions"][-1])
    assert "Known: subjects" in shown(telegram.only_answer("/random " + "w" * 200))


def test_a_group_that_became_a_supergroup_keeps_its_card(telegram: Telegram) -> None:
    telegram.post("chat", chat_id=-990, type="group", title="Small", admins=[BOB])
    telegram.say("/imagine a migrant sleep:0.4 --steps 16", chat=-990)
    telegram.card("a migrant", "generating", chat=-990)
    new = telegram.post("migrate", chat_id=-990)["migrate_to_chat_id"]
    done = telegram.card("a migrant", "done in", chat=new)
    assert len(telegram.messages(new)) == 1, "one card there, edited from then on"
    telegram.press(done, "Retry", chat=new)
    telegram.until(lambda: len(telegram.messages(new)) == 2)


def test_another_poller_is_told_and_outlived(telegram: Telegram) -> None:
    telegram.door.post(f"/bot{TOKEN}/getUpdates", json={"timeout": 0})
    telegram.until(lambda: "Another program polls" in telegram.drawqueue.log.read_text())
    telegram.say("still here")
    telegram.card("still here", "done in")


def test_in_a_group_it_listens_to_commands_alone(telegram: Telegram) -> None:
    telegram.post("limits", privacy=False)
    before = len(telegram.messages(GROUP))
    telegram.say("what a lovely day", chat=GROUP)
    telegram.say("/imagine@another_bot a fox", chat=GROUP)
    telegram.say("/imagine a grouped one", chat=GROUP)
    telegram.card("a grouped one", "done in", chat=GROUP)
    assert len(telegram.messages(GROUP)) == before + 1


def test_what_is_no_photo_to_telegram_comes_as_a_document(telegram: Telegram) -> None:
    strip = io.BytesIO()
    Image.new("RGB", (2100, 100)).save(strip, "PNG")
    card = Card(1, 1, State.DONE, "done", "a strip", "seed 1", 0.0, (), ("1",), "a strip")

    async def send() -> None:
        address = str(telegram.door.base_url)
        async with Bot(TOKEN, base_url=f"{address}/bot") as bot:
            await telegram_cards.send(bot, {"chat": ANN}, card, strip.getvalue(), 0)

    asyncio.run(send())
    assert telegram.messages()[-1]["versions"][-1]["kind"] == "document"
