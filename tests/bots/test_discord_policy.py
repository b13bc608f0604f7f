"""Classes, limits and questions as Discord's people meet them."""

from collections.abc import Callable

import pytest

from core import settings
from core.lifecycle import State
from tests.bots.test_discord_handlers import Chat
from tests.bots.test_discord_handlers import chat as chat

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_role_gives_its_class(chat: Chat, rules: Callable[[str], None]) -> None:
    rules(
        f"[classes.turbo]\nweight=4\nmembers=['discord:role:{chat.role}']\n"
        "[classes.fast]\nmembers=['everyone']\n"
    )
    chat.imagine()
    chat.imagine(who=chat.moderator)
    found = [chat.house.generations.get(number).class_name for number in (1, 2)]
    assert found == ["fast", "turbo"]


def test_quota_is_told_to_the_asker_alone(chat: Chat, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nqueued=2\njobs_per_day=9\n[chat]\nqueued=40\n")
    chat.imagine()
    told = chat.say("quota").response
    assert "You: 1 of 2 in line, 1 of 9 pictures today." in told.content
    assert "This chat: 1 of 40 in line." in told.content and told.flags.ephemeral


def test_a_limit_is_told_to_the_asker_alone(chat: Chat, rules: Callable[[str], None]) -> None:
    rules("[classes.fast]\nmembers=['everyone']\nqueued=1\n")
    chat.imagine()
    before = len(chat.seen(chat.ann))
    chat.say("imagine", prompt="one more")
    assert "You have 1 of at most 1 pictures in line" in chat.only_answer(before)
    assert chat.rows() == 1


def test_lists_name_guilds_and_channels(chat: Chat, rules: Callable[[str], None]) -> None:
    rules(f"[access]\nblock=['discord:channel:{chat.channel.id}']\n")
    chat.say("imagine", prompt="a fox")
    assert "does not let you draw here" in chat.only_answer()
    assert chat.rows() == 0


def test_many_are_asked_about_and_queued_once(chat: Chat) -> None:
    chat.say("imagine", prompt="{red, green} fox", repeat=4)
    assert "8 pictures" in chat.only_answer() and chat.rows() == 0
    question = chat.seen(chat.ann)[-1]
    chat.press(question, "Queue them all")
    answered = chat.seen(chat.ann)[-1]
    assert answered.id == question.id and not answered.components
    assert "8 pictures are in line, #1 to #8" in answered.content
    assert chat.rows() == 8 and chat.state(8) == State.QUEUED
    waiting = [one.id for one in chat.house.showing.stale(["discord"])]
    assert len(waiting) == 8, "a poster sends their cards"


def test_many_are_declined(chat: Chat) -> None:
    chat.say("imagine", prompt="a fox", repeat=6)
    question = chat.seen(chat.ann)[-1]
    chat.press(question, "No, none")
    assert chat.seen(chat.ann)[-1].content == "Nothing was queued." and chat.rows() == 0


def test_flags_in_the_prompt_are_understood(chat: Chat) -> None:
    chat.say("imagine", prompt="a fox --seed 7 —steps 9 --no dogs", steps=5)
    request = chat.house.generations.get(1).request
    assert (request.prompt, request.negative_prompt) == ("a fox", "dogs")
    assert (request.seed, request.steps) == (7, 5), "an option counts before a flag"
    before = len(chat.seen(chat.ann))
    chat.say("imagine", prompt="a fox --wings 2", steps=7)
    assert "There is no --wings" in chat.only_answer(before) and chat.rows() == 1


def test_priority_and_first(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        chat.imagine()
    assert "#3 queued (place 1" in chat.say("priority", level="high").response.content
    before = len(chat.seen(chat.ann))
    chat.say("first", id="2")
    assert "Only a moderator" in chat.only_answer(before)
    monkeypatch.setenv("DRAWQUEUE_MODERATORS", f"discord:role:{chat.role}")
    settings._read.cache_clear()
    assert "#2 queued (place 1" in chat.say("first", chat.moderator, id="2").response.content


@pytest.mark.parametrize("name", ["class", "priority"])
def test_what_may_be_chosen_is_completed(chat: Chat, name: str) -> None:
    option = {"class": "choice", "priority": "level"}[name]
    found = chat.do(chat.ann.autocomplete(chat.channel, name, option, ""))
    expected = {"class": ["fast"], "priority": ["low", "normal", "high"]}[name]
    assert [choice["value"] for choice in found] == expected


def test_a_code_links_and_is_told_to_one_alone(chat: Chat) -> None:
    told = chat.say("link").response
    assert told.flags.ephemeral and "/link " in told.content
