"""What a chat platform was told we have: kept, acted upon once, forgotten when it is safe."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from core.database import now, updates
from core.house import House
from core.inbox import KEPT, Inbox, Waiting, prune


@pytest.fixture
def inbox(house: House) -> Inbox:
    return Inbox(house.database, house.queue, "telegram")


def test_what_comes_twice_is_news_once(inbox: Inbox) -> None:
    assert inbox.record({"1": {"n": 1}, "2": {"n": 2}}) == ["1", "2"]
    assert inbox.record({"2": {"n": 2}, "3": {"n": 3}}) == ["3"]
    inbox.handled("1")
    assert inbox.record({"1": {"n": 1}}) == []
    assert inbox.unhandled() == ["2", "3"]


def test_two_who_record_the_same_at_once_make_one_piece_of_news(inbox: Inbox) -> None:
    both = threading.Barrier(2)

    def record(number: int) -> int:
        both.wait()
        return len(inbox.record({str(number): {}, f"{number}b": {}}))

    with ThreadPoolExecutor(2) as pool:
        for number in range(15):
            assert sum(pool.map(record, [number, number])) == 2


def test_what_is_handled_is_opened_no_more_and_its_words_are_gone(
    inbox: Inbox, house: House
) -> None:
    inbox.record({"1": {"text": "a secret"}})
    assert inbox.open("1") == Waiting({"text": "a secret"}, None)
    inbox.handled("1")
    assert inbox.open("1") is None and inbox.unhandled() == []
    with house.database.read() as connection:
        assert connection.execute(select(updates.c.body)).scalar_one() == {}
    assert inbox.open("never heard of") is None


def test_what_was_acted_upon_keeps_its_body_and_its_answer(inbox: Inbox) -> None:
    inbox.record({"1": {"text": "/cancel"}, "2": {"text": "/quiet"}})
    inbox.acted("1", "#3 is cancelled.")
    inbox.acted("2", "")
    first, second = inbox.open("1"), inbox.open("2")
    assert first and first.body["text"] == "/cancel" and first.words == "#3 is cancelled."
    assert second and second.words == "", "no words are an answer too"
    assert inbox.unhandled() == ["1", "2"], "acted upon is not yet answered"


def test_a_platform_sees_its_own(inbox: Inbox, house: House) -> None:
    other = Inbox(house.database, house.queue, "elsewhere")
    inbox.record({"1": {"n": 1}})
    assert other.record({"1": {"n": 2}}) == ["1"]
    other.handled("1")
    assert inbox.unhandled() == ["1"] and other.unhandled() == []


def test_who_waits_is_woken_by_what_is_stored(inbox: Inbox) -> None:
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        waiting = pool.submit(inbox.wait, 10)
        time.sleep(0.1)
        inbox.record({"1": {}})
        waiting.result(10)
    assert time.monotonic() - begun < 5


def test_only_what_nobody_sends_again_is_forgotten(inbox: Inbox, house: House) -> None:
    inbox.record({"old": {}, "new": {}, "waiting": {}})
    inbox.handled("old")
    inbox.handled("new")
    with house.database.write() as connection:
        connection.execute(
            update(updates).where(updates.c.event == "old").values(handled=now() - KEPT * 1.1)
        )
        connection.execute(
            update(updates).where(updates.c.event == "waiting").values(received=now() - KEPT * 9)
        )
    assert prune(house.database) == 1
    assert inbox.record({"old": {}, "new": {}}) == ["old"]
    assert "waiting" in inbox.unhandled()


def test_an_update_is_one_processs_until_that_is_done_with_it_or_dies(
    inbox: Inbox, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.inbox.CLAIM_SECONDS", 0.4)
    other = Inbox(house.database, house.queue, "telegram")
    inbox.record({"1": {}, "2": {}})
    assert inbox.claim("1") and inbox.claim("1") and not other.claim("1")
    assert other.claim("2"), "each by itself"
    for _ in range(4):
        time.sleep(0.2)
        inbox.keep(["1"])
    assert not other.claim("1"), "it said so again"
    inbox.handled("1")
    assert other.claim("1") and other.open("1") is None
    time.sleep(0.5)
    assert inbox.claim("2"), "the other died"


def test_what_belongs_together_is_found_and_done_at_once(inbox: Inbox) -> None:
    def of(group: str) -> dict[str, object]:
        return {"message": {"album": group}}

    odd = {"5": {}, "6": {"message": 7}, "7": {"message": {"album": None}}, "8": []}
    inbox.record({"1": of("a"), "2": of("b"), "3": of("a"), "4": of("a"), **odd})
    inbox.handled("4")
    assert inbox.alike(("message", "album"), "a") == {"1": of("a"), "3": of("a")}
    inbox.handled("1", "3")
    assert inbox.alike(("message", "album"), "a") == {}
    assert inbox.unhandled() == ["2", "5", "6", "7", "8"]


def test_what_says_the_same_number_is_found_on_both_databases(inbox: Inbox) -> None:
    of = {"message": {"message_id": 12}}
    inbox.record({"1": of, "2": {"message": {"message_id": 120}}, "3": {"message": {}}})
    assert inbox.alike(("message", "message_id"), "12") == {"1": of}
