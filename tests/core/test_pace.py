"""What is told about the time to come."""

from dataclasses import replace

import pytest
from rq import Worker

from core import commands
from core.asking import Ask
from core.cards import status_line
from core.catalog import settle
from core.house import House
from core.options import Request, validate
from core.pace import FIRST_GUESS_SECONDS
from core.people import Asker


def request(**changes: object) -> Request:
    return replace(settle(validate({"prompt": "a fox", "steps": 20}), 1), **changes)  # type: ignore[arg-type]


def test_it_learns_what_each_kind_of_drawing_takes(house: House) -> None:
    pace = house.queue.pace
    assert pace.expect(request()).seconds == FIRST_GUESS_SECONDS
    for _ in range(4):
        pace.learn(request(), 8.0)
    assert pace.expect(request()).seconds == 8.0 and pace.expect(request()).known
    longer = pace.expect(request(steps=40, count=2))
    assert 31 < longer.seconds < 33 and not longer.known, "in proportion to the work"
    for _ in range(10):
        pace.learn(request(steps=40, count=2), 20.0)
    assert abs(pace.expect(request(steps=40, count=2)).seconds - 20) < 0.1
    assert pace.expect(request()).seconds == 8.0


def test_a_card_tells_a_range_first_and_a_time_later(house: House, ann: Asker) -> None:
    def ask(event: str) -> str:
        made = house.generations.submit(request(), ann, event, {})
        house.queue.draw._looked = float("-inf")
        standing = house.generations.standing(made)
        assert standing
        return status_line(made, replace(standing, workers=1), 0.0)

    assert ask("e1") == "queued (place 1, 8 s to 30 s)"
    house.queue.pace.learn(request(), 4.0)
    assert ask("e2") == "queued (place 2, about 19 s)", "15 s as guessed for the first, 4 s"


def test_each_workers_speed_is_learned(house: House, ann: Asker) -> None:
    pace, queue = house.queue.pace, house.queue
    for _ in range(30):
        pace.learn(request(), 5.0, "big-cuda:0")
        pace.learn(request(), 20.0, "old-cpu")
    seconds = pace.expect(request()).seconds
    assert pace.speed(["big-cuda:0"]) > 2 * pace.speed(["old-cpu"]) > 0
    assert pace.speed(["new"]) == 1.0

    def told(*names: str) -> float:
        queue.draw._looked = float("-inf")
        workers = [f"{name}-1-a" for name in names]
        for one in workers:
            queue.draw.present(one)
        standing = house.generations.standing(made)
        for one in workers:
            queue.draw.absent(one)
        assert standing and standing.workers == len(names)
        return standing.seconds

    made = [house.generations.submit(request(), ann, f"e{i}", {}) for i in range(4)][-1]
    assert told("big-cuda:0") < 0.6 * told("old-cpu")
    assert told("big-cuda:0", "old-cpu") < 0.6 * told("old-cpu")
    assert told("big-cuda:0") < 4 * seconds
    pace.learn(request(), 1e9, "big-cuda:0")
    assert pace.speed(["big-cuda:0"]) > 0.5, "one drawing that hung is no new speed"


def test_small_pictures_say_little_about_large_ones(house: House) -> None:
    """Each takes two seconds and a hundredth of a second a step."""
    pace = house.queue.pace

    def measured(steps: int) -> None:
        pace.learn(request(steps=steps), 2 + 0.01 * steps)

    measured(20)
    for _ in range(20):
        measured(1)
    seconds = pace.expect(request(steps=150)).seconds
    assert seconds == pytest.approx(3.5, rel=0.1)
    assert pace.expect(request(steps=10)).seconds == pytest.approx(2.1, rel=0.1)
    assert not pace.expect(request(steps=150)).known
    pace.learn(request(steps=150), 0.1)  # Whatever that was, more steps never take less.
    assert pace.expect(request(steps=140)).seconds > pace.expect(request(steps=130)).seconds


def test_a_worker_that_was_killed_is_soon_not_on_line(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = house.queue
    killed = Worker([queue.draw.rq], connection=queue.redis, name="machine-cpu-1-a")
    killed.register_birth()
    queue.draw.present("machine-cpu-1-a")
    assert queue.draw.workers() == 1
    monkeypatch.setattr("core.queue.ALIVE_SECONDS", -1)
    queue.draw.present("machine-cpu-1-a")
    assert queue.draw.workers() == 0
    queue.redis.delete(killed.key)
    house.mending.sweep()
    assert not queue.redis.zcard("drawqueue:workers")
    assert not Worker.all_keys(queue.redis, queue.draw.rq), "nor does rq-dashboard list it"


def test_what_is_being_drawn_counts_as_ahead(house: House, ann: Asker) -> None:
    house.queue.pace.learn(request(), 30.0)
    first = house.generations.submit(request(), ann, "e1", {})
    house.queue.redis.lpop(house.queue.draw.rq.key)
    assert house.generations.claim(first.id)
    second = house.generations.submit(request(), ann, "e2", {})
    standing = house.generations.standing(second)
    assert standing and standing.place == 1 and 58 < standing.seconds <= 60
    house.queue.draw.ended(first.id, 1, 30.0)
    house.queue.draw._looked = float("-inf")
    standing = house.generations.standing(second)
    assert standing and standing.seconds == 30


def test_users_are_served_in_turn_through_the_whole_house(house: House, ann: Asker) -> None:
    flood = [house.generations.submit(request(), ann, f"f{i}", {}) for i in range(5)]
    house.queue.redis.lpop(house.queue.draw.rq.key)
    assert house.generations.claim(flood[0].id)
    bob = house.generations.submit(request(), Asker("web", "bob"), "b0", {})
    assert house.queue.draw.rq.get_job_ids()[0] == bob.job
    house.generations.cancel(flood[1].id, ann)
    assert house.queue.draw.rq.get_job_ids() == [one.job for one in (bob, *flood[2:])]


def test_a_button_tells_why_one_waits_and_names_nobody(house: House, ann: Asker) -> None:
    house.queue.pace.learn(request(), 20.0)
    house.generations.submit(request(), Asker("web", "bob", "Bob"), "b0", {})
    made = house.generations.submit(request(), ann, "e0", {})

    def why() -> str:
        house.queue.draw._looked = float("-inf")
        return commands.press(house, "why", made.id, Ask(ann, "w", {}, {})).text

    assert why() == "No worker is on line. Before yours: 1 picture. Nothing is lost meanwhile."
    house.queue.draw.present("machine-cpu-1-a")
    told = why()
    assert told.startswith("Place 2. Before yours: 1 picture, 20 s of drawing, on 1 worker.")
    assert "Bob" not in told and len(told) <= 200, "Telegram's alerts hold 200 characters"
    house.generations.cancel(made.id, ann)
    assert why() == f"#{made.id} cancelled: a fox"
