"""How long a drawing will take, learned from those that were drawn."""

import math
import time
from dataclasses import dataclass
from typing import Any

from redis import Redis

from core.options import Request

KEY = "drawqueue:pace"
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
    """Moving means in Redis: per model, size, steps and count, and per model's unit of work."""

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

    def learn(self, request: Request, seconds: float) -> None:
        """Take a measured drawing into account."""
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
