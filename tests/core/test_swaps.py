"""Work for a loaded model first, and nobody waits for that beyond the bound: on a real Valkey."""

import random
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis
from rq.intermediate_queue import IntermediateQueue
from rq.serializers import JSONSerializer

from core import catalog
from core.catalog import settle
from core.fair import NEAR, PREFIX, TIMES, Claim, FairQueue
from core.house import House
from core.options import Mode, validate
from core.people import Asker
from tests.conftest import ROOT

MOMENT = 1_790_000_000.0


@pytest.fixture
def line(redis_url: str) -> FairQueue:
    return FairQueue("draw", connection=Redis.from_url(redis_url), serializer=JSONSerializer)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The line is the same on every database."""
    return f"sqlite:///{tmp_path / 'rows.sqlite3'}"


def ask(
    line: FairQueue, name: str, model: str = "", cost: float = 10.0, priority: int = 1,
    user: str = "", *, first: bool = False,
) -> None:  # fmt: skip
    line.announce(name, Claim(user or name, cost, 1.0, priority, model))
    line.enqueue("worker.tasks.generate", 1, job_id=name, at_front=first)


def take(
    line: FairQueue, loaded: str = "a", patience: float = 60.0, moment: float = MOMENT
) -> str | None:
    """What is taken before the head, if anything is."""
    taken = line.take(loaded.split(), patience, moment)
    return taken.decode() if taken else None


def test_what_a_loaded_model_draws_is_taken_before_the_head(line: FairQueue) -> None:
    for name, model in (("b1", "b"), ("plain", ""), ("a1", "a"), ("a2", "a")):
        ask(line, name, model)
    assert take(line) == "a1"
    assert line.get_job_ids() == ["b1", "plain", "a2"]
    taken = IntermediateQueue(line.key, line.connection).get_job_ids()
    assert taken == ["a1"], "where RQ itself keeps what a worker has taken"
    line.settle("a1", 10.0)
    assert line.get_job_ids() == ["b1", "plain", "a2"]
    assert line.mend(lambda _name: None) == 0, "nothing is out of order by it"


@pytest.mark.parametrize(
    ("models", "loaded", "patience"),
    [
        ("a b a", "a", 60),  # The head needs no loading.
        (" b a", "a", 60),  # It needs no model at all.
        ("b c b", "a", 60),  # Nothing near fits.
        ("b a", "", 60),  # Nothing is loaded.
        ("b a", "a", 0),  # The host wants none of it.
        ("b" + " b" * (NEAR - 1) + " a", "a", 60),  # It stands too deep.
        ("", "a", 60),
    ],
)
def test_otherwise_the_head_is_next(
    line: FairQueue, models: str, loaded: str, patience: float
) -> None:
    for number, model in enumerate(models.split(" ") if models else ()):
        ask(line, f"{number}", model)
    before = line.get_job_ids()
    assert take(line, loaded, patience) is None
    assert line.get_job_ids() == before


def test_a_job_is_passed_until_its_patience_ends(line: FairQueue) -> None:
    ask(line, "b1", "b")
    for number in range(5):
        ask(line, f"a{number}", "a", cost=20)
    assert [take(line, moment=MOMENT + 20 * n) for n in range(3)] == ["a0", "a1", "a2"]
    assert take(line, moment=MOMENT + 60) is None, "b1 is next"
    assert take(line, moment=MOMENT + 1e6) is None


def test_one_that_takes_longer_than_the_patience_passes_nobody(line: FairQueue) -> None:
    ask(line, "b1", "b")
    ask(line, "long", "a", cost=61)
    ask(line, "short", "a", cost=59)
    assert take(line) == "short"
    assert take(line) is None


def test_so_many_small_ones_and_no_more_pass(line: FairQueue) -> None:
    ask(line, "b1", "b")
    for number in range(TIMES + 3):
        ask(line, f"a{number}", "a", cost=0.01)
    taken = [take(line) for _ in range(TIMES + 1)]
    assert None not in taken[:TIMES] and taken[TIMES] is None


def test_moving_ones_own_does_not_begin_the_patience_anew(line: FairQueue) -> None:
    ask(line, "b1", "b")
    ask(line, "a1", "a")
    ask(line, "a2", "a")
    assert take(line) == "a1"
    assert line.move("b1", Claim("b1", 10, model="b"))
    assert line.get_job_ids() == ["b1", "a2"] or line.get_job_ids() == ["a2", "b1"]
    line.leave("a2")
    ask(line, "a3", "a")
    assert take(line, moment=MOMENT + 61) is None


def test_what_a_moderator_put_first_is_passed_by_nobody(line: FairQueue) -> None:
    ask(line, "x", "a")
    ask(line, "b1", "b", first=True)
    assert line.get_job_ids() == ["b1", "x"]
    assert take(line) is None


def test_ones_own_priorities_hold(line: FairQueue) -> None:
    ask(line, "important", "b", priority=2, user="ann")
    ask(line, "plain", "a", user="ann")
    assert take(line) is None
    ask(line, "other", "a", user="bob")
    assert take(line) == "other"


def test_what_others_pushed_is_passed_by_nobody(line: FairQueue) -> None:
    line.connection.rpush(line.key, "stranger")
    ask(line, "a1", "a")
    assert line.get_job_ids() == ["stranger", "a1"] or line.get_job_ids() == ["a1", "stranger"]
    line.connection.delete(line.key)
    line.connection.rpush(line.key, "stranger", "a1")
    assert take(line) is None


@pytest.mark.parametrize("seed", range(10))
def test_nobody_waits_beyond_the_bound(line: FairQueue, seed: int) -> None:
    """Random submits, moves, cancels and services by two workers of one model each.

    Whoever is passed is passed for `patience` seconds at most, TIMES times at most, and never
    against their user's own priorities; the line keeps all its promises otherwise.
    """
    rng = random.Random(seed)
    patience = rng.choice((5.0, 30.0, 60.0))
    models = "abc"[: rng.choice((2, 3))]
    moment, made = MOMENT, 0
    # Each worker: when it is free, and what it has loaded.
    workers = [[moment, "a"], [moment, "b"]][: rng.choice((1, 2))]
    about: dict[str, tuple[str, float, int, str]] = {}
    waiting: set[str] = set()
    first: set[str] = set()
    since: dict[str, float] = {}
    times: Counter[str] = Counter()
    preferred = 0
    for _ in range(300):
        what = rng.random()
        listed = line.get_job_ids()
        if what < 0.5 or not listed:
            name, user = f"{made}", rng.choice("stuvwxyz")
            made += 1
            job = rng.choice(models), rng.choice((1.0, 4.0, 12.0)), rng.choice((1, 1, 1, 2)), user
            about[name] = job
            front = rng.random() < 0.03
            first |= {name} if front else set()
            ask(line, name, job[0], job[1], job[2], user, first=front)
            waiting.add(name)
        elif what < 0.56:
            name = rng.choice(listed)
            line.leave(name)
            waiting.discard(name)
        elif what < 0.6:
            name = rng.choice(listed)
            model, cost, _, user = about[name]
            about[name] = model, cost, rng.choice((0, 1, 2)), user
            line.move(name, Claim(user, cost, 1.0, about[name][2], model))
            first.discard(name)
        else:
            worker = min(workers, key=lambda one: one[0])
            moment = max(moment, worker[0])
            taken = line.take([worker[1]], patience, moment)
            name = (taken or line.connection.lpop(line.key)).decode()
            model, cost, priority, user = about[name]
            if taken:
                preferred += 1
                assert model == worker[1] != about[listed[0]][0]
            for other in listed[: listed.index(name)]:
                times[other] += 1
                since.setdefault(other, moment)
                assert moment + cost <= since[other] + patience + 1e-3
                assert times[other] <= TIMES
                assert other not in first
                assert about[other][3] != user or about[other][2] <= priority
            waiting.discard(name)
            worker[0] = moment + cost + (0 if model == worker[1] else 8)
            worker[1] = model
            if rng.random() < 0.7:
                line.settle(name, cost)
        moment += rng.random()
        listed = line.get_job_ids()
        assert sorted(listed) == sorted(waiting)
        line._say("", "")
        members = line.connection.zrange(PREFIX + "order", 0, -1)
        assert [one.split(b":", 1)[1].decode() for one in members] == listed
    assert preferred > 5


def taken_by(line: FairQueue, seconds: int) -> str:
    """What a worker gets that waits in line as RQ's do."""
    _key, name = FairQueue.lmove(line.connection, line.key, seconds)
    return str(name.decode())


def test_an_idle_worker_gets_what_it_has_loaded(line: FairQueue, redis_url: str) -> None:
    """The other one has waited for longer, and so is given the job first."""
    got: list[str] = []

    def wait() -> None:
        other = FairQueue("draw", connection=Redis.from_url(redis_url), serializer=JSONSerializer)
        got.append(taken_by(other, 20))

    ask(line, "a1", "a")
    assert taken_by(line, 1) == "a1"
    line.idle("a-worker", ["a"], 30)
    waiter = threading.Thread(target=wait)
    waiter.start()
    assert line.hand_over("a1", "b-worker")
    waiter.join(20)
    assert got == ["a1"] and not line.get_job_ids()
    assert IntermediateQueue(line.key, line.connection).get_job_ids() == ["a1"]


@pytest.mark.parametrize("why", ["nobody", "itself", "another model", "long gone", "busy", "plain"])
def test_otherwise_who_took_it_draws_it(line: FairQueue, why: str) -> None:
    ask(line, "a1", "" if why == "plain" else "a")
    ask(line, "a2", "a")
    assert taken_by(line, 1) == "a1"
    line.idle(
        "a-worker", ["b"] if why == "another model" else ["a"], -1 if why == "long gone" else 9
    )
    if why in ("nobody", "busy"):
        line.busy("a-worker")
    assert not line.hand_over("a1", "a-worker" if why == "itself" else "b-worker")
    assert line.get_job_ids() == ["a2"]


def test_what_is_handed_back_keeps_its_place(line: FairQueue) -> None:
    for number in range(4):
        ask(line, f"{number}", "a", user="ab"[number % 2])
    assert taken_by(line, 1) == "0"
    line._say("", "")  # Another process looked meanwhile: it counts as taken.
    line.idle("a-worker", ["a"], 30)
    assert line.hand_over("0", "b-worker")
    ask(line, "new", "a", user="c")
    assert line.get_job_ids()[0] == "0" and line.mend(lambda _name: None) == 0
    members = line.connection.zrange(PREFIX + "order", 0, -1)
    assert [one.split(b":", 1)[1].decode() for one in members] == line.get_job_ids()


CROWD = """
import sys, time
from redis import Redis
from rq.serializers import JSONSerializer
from core.fair import FairQueue
url, model = sys.argv[1:]
line = FairQueue("draw", connection=Redis.from_url(url), serializer=JSONSerializer)
while True:
    found = line.take([model], 60) or line.connection.lpop(line.key)
    if not found:
        break
    print(found.decode())
"""


def test_several_workers_take_each_job_once(line: FairQueue, redis_url: str) -> None:
    for number in range(300):
        ask(line, f"{number}", "ab"[number % 2], cost=0.01, user=f"u{number % 7}")
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, redis_url, model],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for model in "ab"
    ]  # fmt: skip
    got = [one.communicate()[0].split() for one in crowd]
    assert sorted(map(int, got[0] + got[1])) == list(range(300))


# Through the house


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.models(), "b", replace(catalog.models()["pattern"], name="b"))


@pytest.mark.usefixtures("two_models")
def test_the_house_tells_the_line_what_draws_each(house: House, ann: Asker) -> None:
    plain = settle(validate({"prompt": "a fox"}), 1)
    large = replace(plain, mode=Mode.UPSCALE, sources=("k",), upscaler="Lanczos")
    for number, request in enumerate((replace(plain, model="b"), large, plain)):
        house.generations.submit(request, ann, f"e{number}", {})
    assert [one.model for one in house.queue.draw.rq.claims(house.queue.draw.rq.get_job_ids())] == [
        "b", "", "pattern",
    ]  # fmt: skip


@pytest.mark.usefixtures("two_models")
def test_what_must_be_loaded_first_is_told_and_by_whom_it_is_loaded(
    house: House, ann: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = house.queue
    request = settle(validate({"prompt": "a fox"}), 1)
    for one in (request, replace(request, model="b")):
        queue.pace.learn(one, 10.0)
    queue.pace.learn_loading("b", 30.0)
    queue.pace.learn_loading("b", 30.0)
    queue.draw.present("machine-cpu-1-a", ["pattern"])
    assert queue.draw.loaded() == {"pattern"}
    made = [
        house.generations.submit(replace(request, model=model), ann, f"e{index}", {})
        for index, model in enumerate(("pattern", "b", "b"))
    ]

    def told() -> list[float]:
        queue.draw._looked = float("-inf")
        standings = [house.generations.standing(one) for one in made]
        return [round(one.seconds) for one in standings if one]

    assert told() == [10, 50, 60], "its model is loaded once"
    queue.draw.present("machine-cpu-1-a", ["pattern", "b"])
    assert told() == [10, 20, 30]
    monkeypatch.setattr("core.queue.ALIVE_SECONDS", -1)
    queue.draw.present("machine-cpu-1-a", ["pattern", "b"])
    assert queue.draw.loaded() == frozenset(), "who was killed has nothing loaded"
    queue.clean()
    assert not queue.redis.exists("drawqueue:loaded")
