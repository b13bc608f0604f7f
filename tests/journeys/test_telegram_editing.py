"""Changing what waits on Telegram, end to end: the button's question, and one's own message."""

import io
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from tests.journeys.chats import Telegram, on_telegram, shown
from tests.journeys.test_telegram import number_of

ANN, BOB, GROUP = 501, 502, -700
BUSY = "a busy one sleep:0.5"


@pytest.fixture(scope="module")
def telegram(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Telegram]:
    with on_telegram(tmp_path_factory.mktemp("telegram"), DATABASE_URL=new_database()) as made:
        made.post("chat", chat_id=GROUP, type="supergroup", title="Group", admins=[BOB])
        yield made


def drawing(telegram: Telegram) -> dict[str, Any]:
    """Something long is drawn for somebody else, so that whatever is asked for waits."""
    telegram.say(f"/imagine {BUSY} --steps 150", chat=BOB, user=BOB)
    return telegram.card(BUSY, "generating", chat=BOB)


@pytest.fixture
def busy(telegram: Telegram) -> Iterator[dict[str, Any]]:
    going = drawing(telegram)
    yield going
    telegram.press(going, "Cancel", BOB, BOB, stale=True)
    telegram.until(lambda: "generating" not in telegram.drawqueue.rows().values())


def question(telegram: Telegram, card: dict[str, Any], chat: int = ANN) -> dict[str, Any]:
    """What Edit asks, after its button was pressed."""
    before = len(telegram.messages(chat))
    assert telegram.press(card, "Edit", chat) == ""
    telegram.until(lambda: len(telegram.messages(chat)) > before)
    return telegram.messages(chat)[-1]


def asked(telegram: Telegram) -> dict[str, Any]:
    """With what the last message was sent."""
    calls: list[dict[str, Any]] = telegram.door.get("/control/calls?method=sendMessage").json()
    return dict(calls[-1]["params"])


def edit(telegram: Telegram, told: dict[str, Any], text: str, chat: int = ANN) -> None:
    number = told["message"]["message_id"]
    telegram.post("edit_user_message", chat_id=chat, message_id=number, text=text)


def test_an_answer_to_the_question_changes_the_same_card(
    telegram: Telegram, busy: dict[str, Any]
) -> None:
    telegram.say("/imagine a hasty <b>fox</b> --seed 7 --steps 9")
    card = telegram.card("a hasty <b>fox</b>", "queued")
    number = number_of(card)
    told = question(telegram, card)
    assert shown(told["versions"][-1]) == (
        f"✏️ #{number}: answer this message with what is to be drawn. It keeps its place in line. "
        "Now it is (tap to copy):\na hasty <b>fox</b> --steps 9 --seed 7"
    )
    (code,) = told["versions"][-1]["entities"]
    assert code["type"] == "code"
    assert '"force_reply": true' in str(asked(telegram)["reply_markup"]).replace("True", "true") \
        .replace("'", '"')  # fmt: skip
    answer = telegram.only_answer(
        "a patient wolf --steps 10", reply_to_message_id=told["message_id"]
    )
    assert shown(answer) == f"#{number} is changed. It keeps its place in line."
    changed = telegram.card("a patient wolf", "queued", "seed 7", "10 steps")
    assert changed["message_id"] == card["message_id"]
    refused = telegram.only_answer("a wolf --steps 999", reply_to_message_id=told["message_id"])
    assert "from 1 to 150; got 999" in shown(refused)
    telegram.press(busy, "Cancel", BOB, BOB)
    done = telegram.card("a patient wolf", "done in")
    assert done["message_id"] == card["message_id"]
    late = telegram.only_answer("a late fox", reply_to_message_id=told["message_id"])
    assert f"#{number} is done already" in shown(late) and "/imagine a late fox" in shown(late)


@pytest.mark.both_databases(slow=True)
def test_ones_own_message_edited_changes_the_same_job(
    telegram: Telegram, busy: dict[str, Any]
) -> None:
    told = telegram.say("a hurried fox --seed 7")
    card = telegram.card("a hurried fox", "queued")
    messages, rows = len(telegram.messages()), telegram.drawqueue.rows()
    edit(telegram, told, "/imagine a calm fox --steps 9")
    edit(telegram, told, "/imagine a calm wolf --steps 10")
    changed = telegram.card("a calm wolf", "queued", "seed 7", "10 steps")
    assert changed["message_id"] == card["message_id"], "the last words count, in the same card"
    assert len(telegram.messages()) == messages and telegram.drawqueue.rows() == rows
    before = len(telegram.messages())
    edit(telegram, told, "a calm wolf --wings 2")
    telegram.until(lambda: len(telegram.messages()) > before)
    assert "There is no --wings" in shown(telegram.messages()[-1]["versions"][-1])
    telegram.press(busy, "Cancel", BOB, BOB)
    done = telegram.card("a calm wolf", "done in")
    assert done["message_id"] == card["message_id"]
    before = len(telegram.messages())
    # Nothing is new in the first; whoever changes words too late hears of it.
    edit(telegram, told, "a calm wolf --steps 10  ")
    edit(telegram, told, "a calm bear")
    telegram.card(f"#{number_of(done)} is done already", "/imagine a calm bear")
    assert len(telegram.messages()) == before + 1
    assert telegram.drawqueue.rows().keys() == rows.keys()


def test_in_a_group_only_who_asked_is_asked_and_answers(
    telegram: Telegram, busy: dict[str, Any]
) -> None:
    told = telegram.say("/imagine a shy fox", chat=GROUP)
    card = telegram.card("a shy fox", "queued", chat=GROUP)
    number = number_of(card)
    refusal = "Only the person who asked for this picture can change it."
    assert telegram.press(card, "Edit", GROUP, BOB) == refusal
    asks = question(telegram, card, GROUP)
    assert shown(asks["versions"][-1]).startswith(f"✏️ #{number}: User {ANN}, answer this message")
    assert "selective" in str(asked(telegram)["reply_markup"])
    reply = {"reply_to_message_id": asks["message_id"]}
    assert shown(telegram.only_answer("a bold fox", GROUP, BOB, **reply)) == refusal
    answer = telegram.only_answer("a brave fox", GROUP, **reply)
    assert f"#{number} is changed" in shown(answer)
    telegram.card("a brave fox", "queued", chat=GROUP)
    # Words that answer nothing of ours are talk, and so is an edit of such.
    talk = telegram.say("nice weather", chat=GROUP, reply_to_message_id=card["message_id"])
    edit(telegram, talk, "very nice weather", GROUP)
    edit(telegram, told, "/imagine a proud fox", GROUP)
    telegram.card("a proud fox", "queued", chat=GROUP)
    telegram.press(card, "Cancel", GROUP)
    stopped = telegram.card("a proud fox", "cancelled", chat=GROUP)
    telegram.press(stopped, "Retry", GROUP)
    telegram.card("a proud fox", "queued", chat=GROUP)
    edit(telegram, told, "/imagine a fox again", GROUP)
    telegram.card("a fox again", "queued", chat=GROUP)
    telegram.press(stopped, "Cancel", GROUP, stale=True)


def test_what_begins_with_a_photo_and_what_makes_several(
    telegram: Telegram, busy: dict[str, Any]
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (320, 192), "red").save(out, "PNG")
    told = telegram.send(out.getvalue(), "a painted fox --strength 0.5")
    card = telegram.card("a painted fox", "remix, strength 0.5")
    edit(telegram, told, "a painted wolf --strength 0.7")
    changed = telegram.card("a painted wolf", "remix, strength 0.7")
    assert changed["message_id"] == card["message_id"]
    several = telegram.say("a {red, blue} fox")
    telegram.card("a blue fox", "queued")
    telegram.card("a red fox", "queued")
    before = len(telegram.messages())
    edit(telegram, several, "a green fox")
    telegram.until(lambda: len(telegram.messages()) > before)
    last = shown(telegram.messages()[-1]["versions"][-1])
    assert last == "That message asked for 2 pictures: Edit under each changes it."


@pytest.mark.both_databases(slow=True)
def test_an_edit_that_comes_while_the_bot_is_away_comes_after_what_it_changes(
    telegram: Telegram, busy: dict[str, Any]
) -> None:
    os.kill(telegram.drawqueue.processes()["bots.telegram_chat"], signal.SIGKILL)
    told = telegram.say("/imagine an early fox --seed 7")
    edit(telegram, told, "/imagine a later fox --seed 7")
    edit(telegram, told, "/imagine the latest fox --seed 7")
    card = telegram.card("the latest fox", "queued")
    cards = [m for m in telegram.messages() if "fox" in shown(m["versions"][0])
             and f"#{number_of(card)} " in shown(m["versions"][0])]  # fmt: skip
    assert len(cards) == 1
    asks = question(telegram, card)
    os.kill(telegram.drawqueue.processes()["bots.telegram_chat"], signal.SIGKILL)
    telegram.say("the very latest fox", reply_to_message_id=asks["message_id"])
    telegram.card("the very latest fox", "queued", "seed 7")


@pytest.mark.slow
def test_an_edit_that_comes_twice_changes_once(telegram: Telegram, busy: dict[str, Any]) -> None:
    told = telegram.say("/imagine a doubled fox")
    telegram.card("a doubled fox", "queued")
    first = telegram.post(
        "edit_user_message", chat_id=ANN, message_id=told["message"]["message_id"],
        text="/imagine a first wolf",
    )  # fmt: skip
    telegram.card("a first wolf", "queued")
    edit(telegram, told, "/imagine a second wolf")
    telegram.card("a second wolf", "queued")
    telegram.post("redeliver", update_id=first["update_id"])
    edit(telegram, told, "/imagine a third wolf")
    card = telegram.card("a third wolf", "queued")
    words = [shown(one).split("\n")[1] for one in card["versions"]]
    assert words == sorted(words, key=["a doubled fox", "a first wolf", "a second wolf",
                                       "a third wolf"].index)  # fmt: skip
