"""How long a drawing will take, learned from those that were drawn."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from core.options import Request

KEY = "drawqueue:pace"
SPEEDS = "drawqueue:speeds"
SPEEDS_SECONDS = 30 * 24 * 3600
# One drawing that hung or was answered at once must not turn a worker's speed around.
SPEED_LIMIT = 10.0
KINDS = 1000
FRESH_SECONDS = 1.0
FIRST_GUESS_SECONDS = 15.0
# Weight of the newest measurement, once there are a few.
NEWEST = 0.25


@dataclass(frozen=True)
class Expected:
    """Seconds of one worker's time, and whether such drawings have been measured."""

    seconds: float
    known: bool


def _work(request: Request) -> float:
    """Steps times megapixels times pictures, to which a model's time is roughly proportional."""
    return max(1e-6, request.steps * request.width * request.height * request.count / 1e6)


def _exact(request: Request) -> str:
    size = f"{request.width}x{request.height}"
    return f"{request.model}|{size}|{request.steps}|{request.count}"


class Pace:
    """Moving means in Redis: per model, size, steps and count, and per model's unit of work.

    Each worker's speed is kept beside them, 1 for one that draws as fast as they all do.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._read = -math.inf
        self._known: dict[str, float] = {}

    def expect(self, request: Request) -> Expected:
        """The seconds that a request will take one worker."""
        if time.monotonic() - self._read > FRESH_SECONDS:
            found: Any = self.redis.hgetall(KEY)
            self._known = {k.decode(): float(v.split(b" ")[0]) for k, v in found.items()}
            self._read = time.monotonic()
        exact, rate = self._known.get(_exact(request)), self._known.get(request.model)
        if exact is not None:
            return Expected(exact, known=True)
        if rate is not None:
            return Expected(rate * _work(request), known=False)
        return Expected(FIRST_GUESS_SECONDS, known=False)

    def speed(self, workers: Iterable[str]) -> float:
        """How many seconds of the mean's drawing these workers do in one."""
        known: Any = self.redis.hgetall(SPEEDS)
        return sum(float(known.get(one.encode(), 1.0)) for one in workers)

    def learn(self, request: Request, seconds: float, worker: str = "") -> None:
        """Take a drawing into account that a worker measured."""
        expected = self.expect(request)
        if worker and expected.known:
            share = min(SPEED_LIMIT, max(1 / SPEED_LIMIT, expected.seconds / max(1e-3, seconds)))
            before: Any = self.redis.hget(SPEEDS, worker)
            speed = float(before or 1.0)
            self.redis.hset(SPEEDS, worker, f"{speed + NEWEST * (share - speed):.4g}")
            self.redis.expire(SPEEDS, SPEEDS_SECONDS)
        for name, value in ((_exact(request), seconds), (request.model, seconds / _work(request))):
            old: Any = self.redis.hget(KEY, name)
            mean, count = map(float, old.split(b" ")) if old else (0.0, 0.0)
            weight = max(NEWEST, 1 / (count + 1))
            self.redis.hset(KEY, name, f"{mean + weight * (value - mean):.9g} {count + 1:.0f}")
        if int(self.redis.hlen(KEY)) > KINDS:
            # Any of them: what is drawn often comes back at once.
            chosen: Any = self.redis.hrandfield(KEY)
            self.redis.hdel(KEY, chosen)
        self._read = -math.inf
