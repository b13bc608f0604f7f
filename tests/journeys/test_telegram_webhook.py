"""Telegram, whose updates come to the web process instead of being fetched."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from core.settings import Telegram as Settings
from tests.journeys.chats import TELEGRAM_TOKEN, Telegram, on_telegram, shown
from tests.journeys.test_telegram_editing import drawing, edit
from tests.journeys.test_telegram_trouble import bot_of


@pytest.fixture(scope="module")
def telegram(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Telegram]:
    with on_telegram(
        tmp_path_factory.mktemp("webhook"), DATABASE_URL=new_database(), TELEGRAM_WEBHOOK="1",
        DRAWQUEUE_MENTION_AFTER="3",
    ) as made:  # fmt: skip
        yield made


@pytest.mark.both_databases(slow=True)
def test_updates_come_once_and_wait_for_the_bot(telegram: Telegram) -> None:
    telegram.say("a hooked one")
    telegram.card("a hooked one", "done in")
    methods = str(telegram.door.get("/control/calls").json())
    assert "setWebhook" in methods and "getUpdates" not in methods
    forged = telegram.drawqueue.client.post("/webhook/telegram", json={"update_id": 1})
    assert forged.status_code == 404
    told = telegram.say("a slow one sleep:0.5 --steps 8")
    telegram.post("redeliver", update_id=told["update_id"])
    telegram.card("a slow one", "done in")
    telegram.card("your picture is here")
    cards = [m for m in telegram.messages() if "a slow one" in shown(m["versions"][-1])]
    assert len(cards) == 1
    os.kill(bot_of(telegram), signal.SIGKILL)
    telegram.say("sent while the bot was away")
    telegram.card("sent while the bot was away", "done in")


def test_one_that_cannot_be_read_holds_up_no_other(telegram: Telegram) -> None:
    os.kill(bot_of(telegram), signal.SIGKILL)  # They wait for its next start.
    proof = {"x-telegram-bot-api-secret-token": Settings(TELEGRAM_TOKEN=TELEGRAM_TOKEN).hook_secret}
    for bad in ({"update_id": 90001}, {"update_id": 90002, "message": {}},
                {"update_id": 90003, "message": 7}):  # fmt: skip
        hooked = telegram.drawqueue.client.post("/webhook/telegram", json=bad, headers=proof)
        assert hooked.status_code == 204
    telegram.say("after what cannot be read")
    telegram.card("after what cannot be read", "done in")
    log = telegram.drawqueue.log.read_text()
    failed = [log.count(f"update {number} failed [fault ") for number in (90001, 90002, 90003)]
    assert failed == [0, 1, 1]


def test_ones_own_message_is_edited(telegram: Telegram) -> None:
    drawing(telegram)
    told = telegram.say("/imagine a hooked fox")
    telegram.card("a hooked fox", "queued")
    edit(telegram, told, "/imagine a hooked wolf")
    telegram.card("a hooked wolf", "queued")
