"""Drawings that other machines have: handed out, told of, taken up, waited for, given to others."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ConnectionError as RedisAway
from rq import SimpleWorker
from sqlalchemy import select, update

from core import catalog, editing, elsewhere, mending
from core.commands import from_text
from core.database import generations, now, usage
from core.elsewhere import stand_ins
from core.engine import Task
from core.errors import InvalidOptions, TooMuch
from core.fair import FairQueue
from core.house import House
from core.lifecycle import State
from core.options import Mode, Request, validate
from core.people import Asker
from core.queue import DRAW, FRESH_SECONDS
from core.rows import BUSY_SINCE, INSTEAD, LOST, Generation

ANN = Asker("web", "ann")
PUBLIC = "https://draw.example.org"
DONE = {"code": 200, "data": {"taskId": "t1", "state": "success", "resultJson": "{}"}}


@pytest.fixture(autouse=True)
def usual(host: Callable[..., None]) -> None:
    """kie.ai, then Pollinations, then test patterns."""
    host(
        DRAWQUEUE_MODEL="kie,pollinations:flux,pattern", KIE_API_KEY="k",
        DRAWQUEUE_PUBLIC_URL=PUBLIC, DRAWQUEUE_FAILOVER="kie, pollinations:flux, pattern",
    )  # fmt: skip


def asked(house: House, asker: Asker, model: str = "kie", event: str = "e1") -> Generation:
    options = validate({"prompt": "a fox", "model": model, "count": 2})
    return house.generations.submit(options, asker, event, {"chat": "c"})


def claimed(house: House, asker: Asker, model: str = "kie", event: str = "e1") -> Generation:
    """A drawing that a worker has claimed."""
    one = house.generations.claim(asked(house, asker, model, event).id)
    assert one and one.state == State.GENERATING
    return one


def told_where(house: House, one: Generation) -> tuple[str, str, str]:
    """What the address says that another machine is given: engine, number, secret."""
    address = house.elsewhere.announce(one, "kie")
    assert address and address.startswith(f"{PUBLIC}/webhook/")
    engine, number, secret = urlsplit(address).path.split("/")[2:]
    return engine, number, secret


def waiting(house: House, asker: Asker, event: str = "e1") -> tuple[Generation, tuple[str, ...]]:
    one = claimed(house, asker, event=event)
    where = told_where(house, one)
    found = house.elsewhere.hand_out(one, Task("t1", 30.0))
    assert found and found.state == State.WAITING
    return found, where


def row(house: House, one: Generation) -> Generation:
    return house.generations.get(one.id)


def to_fetch(house: House) -> list[str]:
    """The jobs in the engine's line that fetch something."""
    ids = house.queue.line("kie").rq.get_job_ids()
    return [one for one in ids if one.startswith("collect-")]


def let_pass(house: House, seconds: float) -> None:
    """Let the rows believe that so much time has gone."""
    with house.database.write() as connection:
        for one in connection.execute(select(generations)).all():
            values: dict[str, Any] = {
                name: getattr(one, name) - timedelta(seconds=seconds)
                for name in ("created", "started", "due")
                if getattr(one, name)
            }
            connection.execute(
                update(generations).where(generations.c.id == one.id).values(**values)
            )


def costs(house: House) -> dict[str, float]:
    with house.database.read() as connection:
        return {one.who: one.cost for one in connection.execute(select(usage)).all()}


# Lines


def test_a_full_house_has_room_when_anything_leaves_any_line(
    house: House, rules: Callable[[str], None]
) -> None:
    rules("[line]\nlongest=2\n")
    for model, seconds in (("kie", 40.0), ("pattern", 15.0)):
        one = asked(house, ANN, model, f"tried {model}")
        house.queue.pace.learn(one.request, seconds)
        house.generations.cancel(one.id, ANN)
    for index in range(2):
        asked(house, Asker("web", str(index)), event=f"e{index}")
    with pytest.raises(TooMuch, match=r"2 pictures wait.*in about 40 s"):
        asked(house, ANN, "pattern", "e2")
    rules("[line]\nlongest=9\n")
    asked(house, ANN, "pattern", "e2")
    time.sleep(FRESH_SECONDS)
    assert [round(house.queue.room_in(more)) for more in (1, 2, 3)] == [15, 40, 80]
    house.queue.line("kie").present("m1:cpu:1:x")
    assert [round(house.queue.room_in(more)) for more in (1, 2)] == [40, 80], "where one works"


def test_what_is_drawn_wider_elsewhere_than_here_can_be_typed_again(house: House) -> None:
    wide = validate({"prompt": "a fox", "model": "kie", "aspect": "16:9"})
    one = house.generations.submit(wide, ANN, "e1", {"chat": "c"})
    assert one.request.width > 2048
    _name, given, faults = from_text(f"/imagine {editing.line(one)}")
    assert catalog.settle(catalog.requested(given, faults), 7).width == one.request.width


# News


def test_a_row_waits_until_news_come(house: House, ann: Asker) -> None:
    one, where = waiting(house, ann)
    assert one.task and one.task["name"] == "t1" and where[2] not in str(one.task)
    assert not house.elsewhere.due() and not to_fetch(house)
    assert house.elsewhere.take_up(one.id) is None, "it is not time"
    assert house.elsewhere.news(*where, DONE)
    assert to_fetch(house) == [f"collect-{one.id}-1"]
    taken = house.elsewhere.take_up(one.id)
    assert taken and taken.task and taken.task["news"] == DONE
    assert house.generations.finish(taken, [{"key": "k", "seed": 1}], 2.0)


def test_what_waits_for_news_is_fetched_before_what_is_to_be_drawn(
    house: House, ann: Asker
) -> None:
    one, where = waiting(house, ann)
    asked(house, ann, event="e2")
    house.elsewhere.news(*where, DONE)
    assert house.queue.line("kie").rq.get_job_ids()[0] == f"collect-{one.id}-1"


def test_news_that_come_before_their_row_waits_are_kept(house: House, ann: Asker) -> None:
    one = claimed(house, ann)
    where = told_where(house, one)
    assert house.elsewhere.news(*where, DONE)
    assert row(house, one).state == State.GENERATING and not to_fetch(house)
    found = house.elsewhere.hand_out(one, Task("t1", 30.0))
    assert found and found.task and found.task["news"] == DONE and found.task["name"] == "t1"
    assert len(to_fetch(house)) == 1 and house.elsewhere.take_up(one.id)


def test_news_that_come_twice_change_nothing(house: House, ann: Asker) -> None:
    one, where = waiting(house, ann)
    assert house.elsewhere.news(*where, DONE)
    before = row(house, one)
    assert house.elsewhere.news(*where, {"other": 1})
    assert row(house, one) == before and len(to_fetch(house)) == 1


def test_news_that_come_at_once_are_taken_in_once(house: House, ann: Asker) -> None:
    one, where = waiting(house, ann)
    with ThreadPoolExecutor(4) as pool:
        bodies = [{"n": n} for n in range(8)]
        assert all(pool.map(lambda body: house.elsewhere.news(*where, body), bodies))
    task = row(house, one).task
    assert task and task["news"] in bodies and len(to_fetch(house)) == 1


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_news_that_come_when_all_is_over_change_nothing(house: House, ann: Asker, end: str) -> None:
    one, where = waiting(house, ann)
    if end == "done":
        house.generations.finish(one, [{"key": "k", "seed": 1}], 2.0)
    elif end == "failed":
        house.generations.fail(one, "no")
    else:
        house.generations.cancel(one.id, ann)
    before = row(house, one)
    assert before.state == end
    assert house.elsewhere.news(*where, DONE)
    assert row(house, one) == before and not to_fetch(house)


def test_news_of_an_attempt_before_are_not_this_ones(house: House, ann: Asker) -> None:
    one, where = waiting(house, ann)
    house.generations.cancel(one.id, ann)
    house.generations.redo(one.id, ann, "e2")
    assert not house.elsewhere.news(*where, DONE)
    again = house.generations.claim(one.id)
    assert again and not house.elsewhere.news(*where, DONE)
    told_where(house, again)
    assert not house.elsewhere.news(*where, DONE)
    assert row(house, one).task and "news" not in (row(house, one).task or {})


def test_news_of_an_attempt_that_was_lost_are_not_the_next_ones(house: House, ann: Asker) -> None:
    one, where = waiting(house, ann)
    assert house.generations.restart(one, "It failed.")
    assert house.elsewhere.news(*where, DONE), "proven, and late"
    again = house.generations.claim(one.id)
    assert again and again.attempt == 2 and not again.task
    assert not house.elsewhere.news(*where, DONE)
    # It dies before anybody was asked: there is nothing of it to wait for.
    assert not house.elsewhere.adopt(again)


def test_who_does_not_prove_themselves_is_not_heard(house: House, ann: Asker) -> None:
    one, (engine, number, secret) = waiting(house, ann)
    other, there = waiting(house, ann, "e2")
    assert there[2] != secret
    for forged in (
        (engine, number, ""), (engine, number, secret[:-1]), (engine, number, there[2]),
        (engine, number, secret + "x"), (engine, number, "Ä\x00"), (engine, there[1], secret),
        ("pollinations", number, secret), ("", number, secret), (engine, "99", secret),
        (engine, "0", secret), (engine, "-1", secret), (engine, "1" * 40, secret),
        (engine, f"{number} ", secret), (engine, "１", secret), (engine, "x", secret),
    ):  # fmt: skip
        assert not house.elsewhere.news(*forged, DONE), forged
    plain = claimed(house, ann, "pattern", "e3")
    assert not house.elsewhere.news("", str(plain.id), "", DONE)
    for each in (one, other):
        assert "news" not in (row(house, each).task or {})


def test_what_proves_news_is_kept_nowhere(house: House, ann: Asker) -> None:
    """Some say again where they were to send them, in JSON within JSON."""
    one, where = waiting(house, ann)
    said = f'{{"callBackUrl": "{PUBLIC}/webhook/kie/1/{where[2]}"}}'
    assert house.elsewhere.news(*where, {"data": {"param": said, "odd": "\ud800\x00"}})
    kept = row(house, one).task
    assert kept and where[2] not in str(kept) and kept["news"]["data"]["odd"] == "\ud800\x00"


# Handing out


def test_without_an_address_of_its_own_a_house_asks(
    house: House, ann: Asker, host: Callable[..., None]
) -> None:
    host(DRAWQUEUE_PUBLIC_URL="")
    one = claimed(house, ann)
    assert house.elsewhere.announce(one, "kie") == ""
    found = house.elsewhere.hand_out(one, Task("t1", 3.0))
    assert found and found.due and 0 < (found.due - now()).total_seconds() <= 3


def test_what_was_cancelled_meanwhile_is_not_handed_out(house: House, ann: Asker) -> None:
    one, other = claimed(house, ann), claimed(house, ann, event="e2")
    told_where(house, one)
    house.generations.cancel(one.id, ann)
    assert house.elsewhere.hand_out(one, Task("t1")) is None
    assert row(house, one).state == State.CANCELLED
    house.generations.cancel(other.id, ann)
    assert house.elsewhere.announce(other, "kie") is None


def test_a_worker_that_died_before_it_noted_the_task(
    house: House, ann: Asker, host: Callable[..., None]
) -> None:
    one, other = claimed(house, ann), claimed(house, ann, event="e2")
    where = told_where(house, one)
    told_where(house, other)
    one, other = row(house, one), row(house, other)
    assert house.elsewhere.adopt(one)
    found = row(house, one)
    assert found.state == State.WAITING and found.due and found.due > now() + timedelta(minutes=2)
    assert house.elsewhere.news(*where, DONE) and house.elsewhere.take_up(one.id)
    host(DRAWQUEUE_PUBLIC_URL="")
    assert not house.elsewhere.adopt(other), "nobody can tell of it"
    assert not house.elsewhere.adopt(claimed(house, ann, "pattern", "e3"))


def test_news_that_came_to_a_dead_worker_are_not_kept_waiting(house: House, ann: Asker) -> None:
    one = claimed(house, ann)
    where = told_where(house, one)
    looked = row(house, one)
    house.elsewhere.news(*where, DONE)  # Since one looked.
    assert house.elsewhere.adopt(looked) and house.elsewhere.take_up(one.id)


@pytest.mark.parametrize("public", [PUBLIC, ""])
def test_the_sweep_finds_who_died(
    house: House, ann: Asker, host: Callable[..., None], public: str
) -> None:
    host(DRAWQUEUE_PUBLIC_URL=public)
    one = claimed(house, ann)
    house.elsewhere.announce(one, "kie")
    house.queue.redis.delete(f"drawqueue:alive:{one.job}")
    let_pass(house, 6)
    house.mending.sweep()
    found = row(house, one)
    assert (found.state, found.attempt) == (
        (State.WAITING, 1) if public else (State.QUEUED, 2)
    )  # fmt: skip


def test_two_that_sweep_at_once_ask_nobody_twice(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = claimed(house, ann)
    house.elsewhere.announce(one, "kie")
    house.queue.redis.delete(f"drawqueue:alive:{one.job}")
    let_pass(house, 6)
    adopt = house.elsewhere.adopt
    # The other one was a moment faster.
    monkeypatch.setattr(house.elsewhere, "adopt", lambda odd: adopt(odd) and adopt(odd))
    house.mending.sweep()
    found = row(house, one)
    assert (found.state, found.attempt) == (State.WAITING, 1)


# Taking up


def test_one_of_two_takes_it_up(house: House, ann: Asker) -> None:
    one, where = waiting(house, ann)
    house.elsewhere.news(*where, DONE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: house.elsewhere.take_up(one.id), range(8)))
    assert sum(each is not None for each in found) == 1
    # And died over it.
    let_pass(house, elsewhere.COLLECT.total_seconds() + 1)
    assert house.elsewhere.take_up(one.id)


def test_what_nobody_told_of_is_asked_for(house: House, ann: Asker) -> None:
    one, _where = waiting(house, ann)
    house.mending.sweep()
    assert not to_fetch(house)
    let_pass(house, 31)
    house.mending.sweep()
    house.mending.sweep()
    assert to_fetch(house) == [f"collect-{one.id}-1"], "once"


def test_what_redis_forgot_is_asked_for(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, where = waiting(house, ann)
    with monkeypatch.context() as away:

        def gone(*_: Any) -> None:
            raise RedisAway

        away.setattr(house.queue, "line", gone)
        assert house.elsewhere.news(*where, DONE)
    assert not to_fetch(house)
    house.mending.sweep()
    assert len(to_fetch(house)) == 1
    house.queue.redis.flushall()
    house.mending.sweep()
    assert to_fetch(house) == [f"collect-{one.id}-1"] and row(house, one).enqueued != LOST


def test_asking_again(house: House, ann: Asker) -> None:
    one, where = waiting(house, ann)
    house.elsewhere.news(*where, DONE)
    taken = house.elsewhere.take_up(one.id)
    assert taken
    # Their picture could not be fetched: the same news count next time.
    house.elsewhere.ask_again(taken, 20.0)
    found = row(house, one)
    assert found.task and found.task["news"] == DONE
    assert found.due and 15 < (found.due - now()).total_seconds() <= 20
    # They told of one of several tasks.
    house.elsewhere.ask_again(taken, 20.0, found=Task("t1,t2"), stale=True)
    found = row(house, one)
    assert found.task and "news" not in found.task and found.task["name"] == "t1,t2"
    assert house.elsewhere.news(*where, {"n": 2}), "and then of another"
    assert house.elsewhere.take_up(one.id)


@pytest.mark.parametrize("stale", [False, True])
def test_news_that_come_while_one_asks_are_not_lost(house: House, ann: Asker, stale: bool) -> None:
    one, where = waiting(house, ann)
    let_pass(house, 31)
    taken = house.elsewhere.take_up(one.id)
    assert taken
    house.elsewhere.news(*where, DONE)
    house.elsewhere.ask_again(taken, 20.0, found=Task("t1"), stale=stale)
    found = house.elsewhere.take_up(one.id)
    assert found and found.task and found.task["news"] == DONE, "at once"


def test_what_has_gone_on_is_not_asked_for_again(house: House, ann: Asker) -> None:
    one, _where = waiting(house, ann)
    house.generations.cancel(one.id, ann)
    before = row(house, one)
    house.elsewhere.ask_again(one, 20.0, found=Task("t2"))
    assert row(house, one) == before
    house.generations.redo(one.id, ann, "e2")
    house.elsewhere.ask_again(one, 20.0, found=Task("t2"))
    assert row(house, one).task is None


def test_what_takes_too_long_is_not_expected(house: House, ann: Asker) -> None:
    one, _where = waiting(house, ann)
    assert not house.elsewhere.too_late(one)
    let_pass(house, elsewhere.PATIENCE.total_seconds() + 1)
    assert house.elsewhere.too_late(row(house, one))


# What it costs


def test_what_is_cancelled_elsewhere_is_paid_for_once(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    rules("[prices]\nkie = 0.25\n")
    one, _where = waiting(house, ann)
    assert house.generations.cancel(one.id, ann).cost == 0.5
    assert house.generations.stop(one) is None and house.generations.stop(row(house, one)) is None
    assert costs(house) == {f"web:{ann.id}": 0.5}
    assert row(house, one).cost == 0.5
    # What never began costs nothing.
    assert house.generations.cancel(asked(house, ann, event="e2").id, ann).cost == 0
    # Drawn again it costs again.
    house.generations.redo(one.id, ann, "e3")
    again = house.generations.claim(one.id)
    assert again
    told_where(house, again)
    handed = house.elsewhere.hand_out(again, Task("t2"))
    assert handed
    done = house.generations.finish(handed, [{"key": "k", "seed": 1}], 2.0)
    assert done and done.cost == 1.0 and costs(house) == {f"web:{ann.id}": 1.0}


def test_what_is_handed_out_the_moment_it_is_cancelled_is_paid_for(
    house: House, ann: Asker, rules: Callable[[str], None]
) -> None:
    rules("[prices]\nkie = 0.25\n")
    one = claimed(house, ann)
    told_where(house, one)
    house.elsewhere.hand_out(one, Task("t1"))
    ended = house.generations.stop(one)  # As it was looked at before.
    assert ended and ended.state == State.CANCELLED and ended.cost == 0.5


# Limits, and engines that stand in


def test_a_short_wait_is_waited(house: House, ann: Asker) -> None:
    one = claimed(house, ann)
    told_where(house, one)
    again = house.elsewhere.postpone(one, 5.0, "Busy.")
    assert again and (again.state, again.attempt) == (State.QUEUED, 2)
    assert again.request.model == "kie" and "Busy." in str(again.error)
    house.mending.sweep()
    assert not house.queue.line("kie").rq.get_job_ids()
    let_pass(house, 6)
    house.mending.sweep()
    assert house.queue.line("kie").rq.get_job_ids() == [again.job]
    assert house.generations.claim(one.id, again.job)


def test_a_long_wait_is_anothers(house: House, ann: Asker) -> None:
    one = claimed(house, ann)
    again = house.elsewhere.postpone(one, 60.0, "Busy.")
    assert again and again.request.model == "pollinations:flux" and again.line == "pollinations"
    assert house.queue.line("pollinations").rq.get_job_ids() == [again.job]
    assert not house.queue.line("kie").rq.get_job_ids()


def test_a_long_wait_is_waited_where_nobody_stands_in(
    house: House, ann: Asker, host: Callable[..., None]
) -> None:
    host(DRAWQUEUE_FAILOVER="")
    again = house.elsewhere.postpone(claimed(house, ann), 60.0, "Busy.")
    assert again and again.request.model == "kie" and again.due


def test_who_waits_for_too_long_in_all_waits_no_more(
    house: House, ann: Asker, host: Callable[..., None]
) -> None:
    host(DRAWQUEUE_FAILOVER="")
    one = asked(house, ann)
    # It stood in line for long: its engine is not to blame.
    let_pass(house, elsewhere.BUSY.total_seconds() + 60)
    since: dict[str, str] = {}
    for seconds in (10, elsewhere.BUSY.total_seconds() - 20):
        mine = house.generations.claim(one.id)
        assert mine
        told_where(house, mine)
        again = house.elsewhere.postpone(row(house, one), 10.0, "Busy.")
        assert again and again.state == State.QUEUED and again.task
        assert again.task == (since or again.task), "it is counted from the first time"
        with house.database.write() as connection:
            since = {BUSY_SINCE: (now() - timedelta(seconds=seconds)).isoformat()}
            connection.execute(update(generations).values(task=since))
    mine = house.generations.claim(one.id)
    assert mine and house.elsewhere.postpone(mine, 10.0, "Busy.")
    with house.database.write() as connection:
        since = {BUSY_SINCE: (now() - elsewhere.BUSY * 1.01).isoformat()}
        connection.execute(update(generations).values(task=since))
    mine = house.generations.claim(one.id)
    assert mine
    ended = house.elsewhere.postpone(mine, 10.0, "Busy.")
    assert ended and ended.state == State.FAILED and ended.error == "Busy."


def test_what_went_on_meanwhile_is_neither_postponed_nor_given_away(
    house: House, ann: Asker
) -> None:
    one = claimed(house, ann)
    house.generations.cancel(one.id, ann)
    assert house.elsewhere.postpone(one, 5.0, "Busy.") is None
    assert house.elsewhere.postpone(one, 60.0, "Busy.") is None
    assert house.elsewhere.stand_in(one, "Away.") is None
    assert row(house, one).state == State.CANCELLED


def test_engines_stand_in_in_their_order_each_once(house: House, ann: Asker) -> None:
    one, waiting_for = claimed(house, ann), asked(house, ann, "pollinations:flux", "e2")
    second = house.elsewhere.stand_in(one, "kie.ai is away.")
    assert second and second.request.model == "pollinations:flux"
    assert second.first_asked == one.request and second.manner[INSTEAD]["why"] == "kie.ai is away."
    line = house.queue.line("pollinations").rq.get_job_ids()
    assert line == [second.job, waiting_for.job], "its turn has come already"
    mine = house.generations.claim(second.id)
    assert mine
    third = house.elsewhere.stand_in(mine, "Pollinations is away.")
    assert third and third.request.model == "pattern" and third.line == DRAW
    kept = third.manner[INSTEAD]
    assert kept["tried"] == ["kie", "pollinations:flux"] and kept["model"] == "kie"
    assert third.first_asked == one.request
    mine = house.generations.claim(third.id)
    assert mine and house.elsewhere.stand_in(mine, "All are away.") is None


def test_after_the_last_of_the_list_those_before_it_stand_in(house: House, ann: Asker) -> None:
    asked_for, models = "pollinations:flux", []
    one: Generation | None = claimed(house, ann, asked_for)
    house.queue.line("kie").present("m1:cpu:1:x")
    while one and (other := house.elsewhere.stand_in(one, f"{one.request.model} is away.")):
        models.append(other.request.model)
        one = house.generations.claim(other.id)
    assert one and models == ["pattern", "kie"], "each once, and then there is nobody"
    assert one.manner[INSTEAD]["model"] == asked_for == one.first_asked.model
    # Where nobody works on what comes before, it had only to wait for ever.
    house.queue.line("kie").absent("m1:cpu:1:x")
    one = claimed(house, ann, "pattern", "e2")
    assert house.elsewhere.stand_in(one, "It broke.") is None


def test_a_stand_in_draws_what_was_asked_in_its_own_way(house: House, ann: Asker) -> None:
    one = claimed(house, ann)
    second = house.elsewhere.stand_in(one, "Away.")
    assert second
    third = house.elsewhere.stand_in(second, "Away.")
    assert third
    drawn, first = third.request, one.request
    assert (drawn.prompt, drawn.seed, drawn.count) == (first.prompt, first.seed, first.count)
    assert drawn.sampler == "DPM++ 2M" and drawn.size == (1024, 1024), "it draws no larger"
    assert (first.width, first.height) == (2048, 2048)


PLAIN = Request("a fox", "", 512, 256, 8, 5.0, 1, "Euler", "pattern", 1)


def test_who_can_stand_in(host: Callable[..., None]) -> None:
    def found(one: Request, *tried: str) -> tuple[str, int, int] | None:
        other, _further = next(stand_ins(one, tried), (None, False))
        return (other.model, other.width, other.height) if other else None

    host(DRAWQUEUE_FAILOVER="Pattern, KIE, gone:by, pollinations:flux")
    # What is drawn larger keeps its shape.
    assert found(PLAIN) == ("kie", 2896, 1448)
    assert found(PLAIN, "kie") == ("pollinations:flux", 512, 256)
    assert found(PLAIN, "KIE", "pollinations:flux") is None
    last = replace(PLAIN, model="pollinations:flux")
    assert found(last) == ("pattern", 512, 256), "after the last comes the first"
    assert found(last, "pattern") == ("kie", 2896, 1448)
    assert found(last, "pattern", "kie") is None, "each was tried"
    assert found(replace(PLAIN, model="kie"), "pollinations:flux") == ("pattern", 512, 256)
    assert found(replace(PLAIN, model="starter")) is None, "it is not among them"
    host(DRAWQUEUE_FAILOVER="kie, pattern, KIE")
    assert found(replace(PLAIN, model="kie"), "pattern") is None, "nobody stands in for themselves"
    # What they cannot do.
    host(DRAWQUEUE_FAILOVER="Pattern, KIE, gone:by, pollinations:flux")
    for odd in (
        replace(PLAIN, loras=(("style", 1.0),)), replace(PLAIN, vae="soft"),
        replace(PLAIN, mode=Mode.REMIX, sources=("k",)), replace(PLAIN, negative_prompt="rain"),
        replace(PLAIN, mode=Mode.UPSCALE), replace(PLAIN, hires=2.0), replace(PLAIN, tile=True),
    ):  # fmt: skip
        assert found(odd) is None, odd
    # But for one that can.
    host(DRAWQUEUE_FAILOVER="kie, pollinations:flux, pattern")
    rainy = replace(PLAIN, model="kie", negative_prompt="rain")
    assert found(rainy) == ("pattern", 512, 256)
    host(DRAWQUEUE_FAILOVER="")
    assert found(PLAIN) is None


def test_what_is_still_to_be_written_is_given_to_nobody(house: House, ann: Asker) -> None:
    one = replace(claimed(house, ann), request=replace(PLAIN, model="kie", enhance="a-writer"))
    assert house.elsewhere.stand_in(one, "Away.") is None


def test_what_stands_in_a_line_that_nobody_works_on(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, patterns = asked(house, ann), asked(house, ann, "pattern", "e2")
    house.mending.sweep()
    assert row(house, one).request.model == "kie", "its worker may be coming"
    monkeypatch.setattr(mending, "STRANDED_SECONDS", 0.0)
    assert house.mending.sweep() == 0 and row(house, one).request.model == "kie", "nor elsewhere"
    house.queue.line("pollinations").present("m1:cpu:1:x")
    assert house.mending.sweep() == 2
    found = row(house, one)
    assert found.request.model == "pollinations:flux" and found.first_asked.model == "kie"
    last = row(house, patterns)
    assert last.request.model == "pollinations:flux", "and not the first, where nobody works"
    assert last.manner[INSTEAD]["tried"] == ["pattern"]
    house.mending.sweep()
    assert row(house, one) == found, "somebody works there"


def test_who_works_on_a_line_keeps_it(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "STRANDED_SECONDS", 0.0)
    one = asked(house, ann)
    house.queue.line("kie").present("m1:cpu:1:x")
    house.mending.sweep()
    assert row(house, one).request.model == "kie"


def test_retry_asks_first_who_was_asked_first(house: House, ann: Asker) -> None:
    one = claimed(house, ann)
    second = house.elsewhere.stand_in(one, "kie.ai is away.")
    assert second
    house.generations.fail(second, "Pollinations is away, too.")
    again = house.generations.redo(one.id, ann, "e2")
    assert again.id == one.id and again.request == one.request and again.line == "kie"
    assert again.first_asked == one.request and not again.manner.get(INSTEAD) and not again.task
    assert house.queue.line("kie").rq.get_job_ids() == [again.job]
    mine = house.generations.claim(one.id)
    assert mine
    third = house.elsewhere.stand_in(mine, "Away again.")
    assert third and third.manner[INSTEAD]["tried"] == ["kie"], "and all may stand in again"


def test_what_is_made_of_a_picture_is_nobodys_stand_in(house: House, ann: Asker) -> None:
    second = house.elsewhere.stand_in(claimed(house, ann), "kie.ai is away.")
    assert second
    mine = house.generations.claim(second.id)
    assert mine
    done = house.generations.finish(mine, [{"key": "k", "seed": 1}, {"key": "l", "seed": 2}], 1.0)
    assert done
    child = house.generations.redo(done.id, ann, "e2", new_seed=True)
    picked, _new = house.generations.pick(done, 1, ann, {"chat": "c"})
    for each in (child, picked):
        assert INSTEAD not in each.manner and each.first_asked == each.request
        assert each.request.model == "pollinations:flux"


def test_what_a_model_draws_at_least(host: Callable[..., None]) -> None:
    with pytest.raises(InvalidOptions, match="no fewer pixels than 2048×2048; asked: 1024×1024"):
        catalog.settle(validate({"prompt": "a", "model": "kie", "width": 1024, "height": 1024}), 0)
    for aspect in ("1:1", "3:2", "21:9", "9:16"):
        assert catalog.settle(validate({"prompt": "a", "model": "kie", "aspect": aspect}), 0)


# Workers that die, and what nobody fetches


def fetching(house: House, one: Generation, *, begun: bool) -> None:
    """As a worker of RQ's has it that takes a job, and then begins with it."""
    line = house.queue.line(one.line)
    taken = FairQueue.dequeue_any(
        [line.rq], None, house.queue.redis, serializer=line.rq.serializer
    )  # fmt: skip
    assert taken and taken[0].id == f"collect-{one.id}-{one.attempt}"
    if begun:
        worker = SimpleWorker(
            [line.rq], connection=house.queue.redis, serializer=line.rq.serializer
        )
        worker.prepare_execution(taken[0])
        worker.prepare_job_execution(taken[0], remove_from_intermediate_queue=True)


@pytest.mark.parametrize("begun", [False, True])
def test_who_dies_over_what_is_done_does_not_keep_it(house: House, ann: Asker, begun: bool) -> None:
    one, where = waiting(house, ann)
    house.elsewhere.news(*where, DONE)
    fetching(house, one, begun=begun)
    if begun:
        assert house.elsewhere.take_up(one.id)
        # Another worker would do the same beside this one.
        house.elsewhere.look_after(one)
        assert not to_fetch(house), "its worker lives"
    # Killed; and nobody fetches it for a while.
    house.queue.redis.delete(f"drawqueue:alive:{one.job}")
    let_pass(house, elsewhere.COLLECT.total_seconds() + 1)
    house.mending.sweep()
    house.mending.sweep()
    assert to_fetch(house) == [f"collect-{one.id}-1"], "once"
    assert not house.queue.line("kie").rq.started_job_registry.get_job_ids(cleanup=False)
    fetching(house, one, begun=True)
    assert house.elsewhere.take_up(one.id)


def test_who_was_taken_for_dead_and_lives_tells_what_the_task_is_called(
    house: House, ann: Asker
) -> None:
    one = claimed(house, ann)
    told_where(house, one)
    assert house.elsewhere.adopt(row(house, one))
    assert house.elsewhere.hand_out(one, Task("t1", 30.0))
    found = row(house, one)
    assert found.state == State.WAITING and found.task and found.task["name"] == "t1"
    # A call whose answer was lost is done again, when more is known of it.
    house.elsewhere.ask_again(found, 20.0, found=Task("t1,t2"))
    assert house.elsewhere.hand_out(one, Task("t1", 30.0))
    assert (row(house, one).task or {})["name"] == "t1,t2"


def test_what_an_operator_deletes_as_it_is_handed_out_is_fetched_all_the_same(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = claimed(house, ann)
    house.queue.redis.delete(f"rq:job:{one.job}")
    before = house.generations.get
    looked = before(one.id)
    house.elsewhere.hand_out(one, Task("t1", 0.0))
    monkeypatch.setattr(house.generations, "get", lambda _: looked)  # A moment before.
    monkeypatch.setattr(house.mending, "_odd", lambda: [one.id])
    house.mending.sweep()
    assert before(one.id).state == State.WAITING
    assert house.queue.beat(one.id, one.attempt, None), "nobody who fetches it is told to stop"


def test_an_operators_requeue_has_all_patience_again(
    house: House, ann: Asker, host: Callable[..., None]
) -> None:
    host(DRAWQUEUE_FAILOVER="")
    one = claimed(house, ann)
    with house.database.write() as connection:
        since = {BUSY_SINCE: (now() - elsewhere.BUSY * 1.01).isoformat()}
        connection.execute(update(generations).values(task=since))
    ended = house.elsewhere.postpone(row(house, one), 10.0, "Busy.")
    assert ended and ended.state == State.FAILED
    assert house.generations.requeued(ended)
    mine = house.generations.claim(one.id)
    assert mine
    again = house.elsewhere.postpone(mine, 10.0, "Busy.")
    assert again and again.state == State.QUEUED


@pytest.mark.parametrize("state", [State.WAITING, State.FAILED, State.QUEUED, State.GENERATING])
def test_one_that_nobody_can_read_keeps_no_other_from_being_fetched(
    house: House, ann: Asker, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = asked(house, ann)
    one, _where = waiting(house, ann, "e2")
    let_pass(house, 31)
    with house.database.write() as connection:
        # As a later version wrote it, which the host has taken back.
        request = {**odd.request.__dict__, "mode": "sculpt"}
        connection.execute(
            update(generations).where(generations.c.id == odd.id)
            .values(request=request, state=state, ended=now(), enqueued=1)
        )  # fmt: skip
    monkeypatch.setattr(mending, "STRANDED_SECONDS", 0.0)
    monkeypatch.setattr(mending, "UNWRITTEN_SECONDS", 0.0)
    house.mending.sweep()
    assert f"collect-{one.id}-1" in house.queue.line("kie").rq.get_job_ids()
    house.mending.sweep()


@pytest.mark.parametrize("failover", ["kie, pollinations:flux", ""])
def test_nobody_waits_for_ever_for_an_engine_that_is_asked_no_more(
    house: House, ann: Asker, host: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
    failover: str,
) -> None:  # fmt: skip
    host(DRAWQUEUE_FAILOVER=failover)
    monkeypatch.setattr(mending, "STRANDED_SECONDS", 0.0)
    one, _where = waiting(house, ann)
    late, _there = waiting(house, ann, "e2")
    with house.database.write() as connection:
        began = now() - elsewhere.PATIENCE - timedelta(seconds=1)
        connection.execute(
            update(generations).where(generations.c.id == late.id).values(started=began)
        )
    line = house.queue.line("kie")
    line.present("m1:cpu:1:x")
    house.mending.sweep()
    assert row(house, late).state == State.WAITING, "who works on its line looks after it"
    line.absent("m1:cpu:1:x")
    house.mending.sweep()
    assert row(house, one).state == State.WAITING, "it may be back in time"
    found = row(house, late)
    if failover:
        assert found.state == State.QUEUED and found.request.model == "pollinations:flux"
    else:
        assert found.state == State.FAILED and found.error == "No worker for kie was on line."
