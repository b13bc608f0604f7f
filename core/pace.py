"""How long a drawing will take, learned from those that were drawn."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import linear_regression
from typing import Any

from redis import Redis

from core.options import Mode, Request

KEY = "drawqueue:pace"
LOADS = "drawqueue:loads"
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
    """Steps times megapixels times pictures, with which a model's time grows."""
    return _work_of(_exact(request))


def _work_of(kind: str) -> float:
    size, steps, count = kind.rsplit("|", 3)[1:]
    width, height = size.split("x")
    return max(1e-6, int(steps) * int(width) * int(height) * int(count) / 1e6)


def _exact(request: Request) -> str:
    if request.enhance:
        return f"{request.enhance}|1x1|1|1"
    size = f"{request.width}x{request.height}"
    return f"{_artist(request)}|{size}|{request.passes}|{request.count}"


def _artist(request: Request) -> str:
    if request.enhance:
        return request.enhance
    return request.upscaler if request.mode == Mode.UPSCALE else request.model


class Pace:
    """Moving means in Redis, per model, size, steps and count.

    Each worker's speed is kept beside them, 1 for one that draws as fast as they all do.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._read = -math.inf
        self._known: dict[str, float] = {}
        self._lines: dict[str, tuple[float, float]] = {}

    def expect(self, request: Request) -> Expected:
        """The seconds that a request will take one worker."""
        if time.monotonic() - self._read > FRESH_SECONDS:
            found: Any = self.redis.hgetall(KEY)
            self._known = {k.decode(): float(v.split(b" ")[0]) for k, v in found.items()}
            self._read = time.monotonic()
            self._lines = {}
        exact = self._known.get(_exact(request))
        if exact is not None:
            return Expected(exact, known=True)
        artist = _artist(request)
        if artist not in self._lines:
            self._lines[artist] = self._line(artist)
        start, rate = self._lines[artist]
        return Expected(start + rate * _work(request), known=False)

    def whole(self, request: Request) -> float:
        """The seconds of all that a request takes: first its prompt may have to be written."""
        seconds = self.expect(request).seconds
        if request.enhance:
            seconds += self.expect(replace(request, enhance="")).seconds
        return seconds

    def _line(self, model: str) -> tuple[float, float]:
        """Seconds that every drawing of a model takes, and seconds per unit of work besides.

        Least squares over the kinds that were measured: a picture of one step is mostly what every
        drawing takes, and says little about one of a hundred.
        """
        points = [
            (_work_of(kind), seconds)
            for kind, seconds in self._known.items()
            if kind.startswith(f"{model}|")
        ]
        if not points:
            return FIRST_GUESS_SECONDS, 0.0
        works, times = zip(*points, strict=True)
        if len(set(works)) > 1:
            rate, start = linear_regression(works, times)
            if rate > 0 and start > 0:
                return start, rate
        rate, _ = linear_regression((0.0, *works), (0.0, *times), proportional=True)
        return 0.0, rate

    def loading(self, model: str) -> float:
        """The seconds that loading a model takes a worker; 0 as long as nobody measured it."""
        return float(self.redis.hget(LOADS, model) or 0.0)

    def learn_loading(self, model: str, seconds: float) -> None:
        """Take into account how long loading a model took a worker."""
        before = self.loading(model) or seconds
        self.redis.hset(LOADS, model, f"{before + NEWEST * (seconds - before):.4g}")

    def speed(self, workers: Iterable[str]) -> float:
        """How many seconds of the mean's drawing these workers do in one."""
        known: Any = self.redis.hgetall(SPEEDS)
        return sum(float(known.get(one.encode(), 1.0)) for one in workers)

    def learn(self, request: Request, seconds: float, worker: str = "") -> None:
        """Take a drawing into account that a worker measured."""
        name, expected = _exact(request), self.expect(request)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hget(KEY, name)
            pipe.hget(SPEEDS, worker)
            pipe.hlen(KEY)
            # Any of them: what is drawn often comes back at once.
            pipe.hrandfield(KEY)
            old, before, kinds, chosen = pipe.execute()
        mean, count = map(float, old.split(b" ")) if old else (0.0, 0.0)
        mean += max(NEWEST, 1 / (count + 1)) * (seconds - mean)
        with self.redis.pipeline(transaction=False) as pipe:
            if not old and kinds >= KINDS:
                pipe.hdel(KEY, chosen)
            pipe.hset(KEY, name, f"{mean:.9g} {count + 1:.0f}")
            if worker and expected.known:
                share = min(
                    SPEED_LIMIT, max(1 / SPEED_LIMIT, expected.seconds / max(1e-3, seconds))
                )
                speed = float(before or 1.0)
                pipe.hset(SPEEDS, worker, f"{speed + NEWEST * (share - speed):.4g}")
                pipe.expire(SPEEDS, SPEEDS_SECONDS)
            pipe.execute()
        # What others have learned meanwhile is read when it is due. Another thread may be reading.
        self._known, self._lines = {**self._known, name: mean}, {}
