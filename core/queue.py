"""The order of work: RQ's own lists, seen by workers and operators alike.

What the same machines draw or write stands in one line: the GPUs' own, that of the models that
write here, and one for each engine elsewhere. Jobs are enqueued by function name with one database
id as their argument. Nothing here changes a generation's state.
"""

import contextlib
import hashlib
import json
import math
import random
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import accumulate, chain, islice
from typing import Any

from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.worker_registration import clean_worker_registry

from core.fair import FIRST_LINE, LEAST_COST, Claim, FairQueue
from core.options import Request
from core.pace import Pace

# The lines of this house's own machines; an engine elsewhere has one of its own name.
DRAW, WRITE = FIRST_LINE, "write"
OURS = (DRAW, WRITE)
TASK, COLLECT = "worker.tasks.generate", "worker.tasks.collect"
# The lines that were ever stood in.
LINES = "drawqueue:lines"
EPOCH = "drawqueue:epoch"
WORKERS = "drawqueue:workers"
# The models that each worker has loaded.
LOADED = "drawqueue:loaded"
REVISIONS = "drawqueue:revisions"
ALIVE_SECONDS = 15
PROGRESS_SECONDS = 120
KEEP_JOB_SECONDS = 24 * 3600
# Whose turn it is when the house itself looks after something.
NOBODY = "house"
RUNNING = "drawqueue:running"
# How deep the line is looked at exactly, and how long that look is good for.
DEPTH = 2000
FRESH_SECONDS = 0.3
# How many cards' places are shown anew at one look: those in front, and some of the rest.
NEAREST, OTHERS = 40, 20
JOB = re.compile(r"generation-(\d{1,9})-(\d{1,9})")
_DESCRIBE = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'description', ARGV[1]) end
"""


@dataclass(frozen=True)
class Standing:
    """A queued job's place in line (1 is next), the seconds until its picture, and workers.

    `sure` says that such drawings have been measured before; `ahead` is the work before it, in
    seconds of one worker; `share` is its user's part of the drawing while all in line wait.
    """

    place: int
    seconds: float
    workers: int
    sure: bool = True
    ahead: float = 0.0
    share: float = 1.0


@dataclass(frozen=True)
class _Look:
    """The line as it stood: places by job, seconds of work before each place, workers.

    `loads` are the seconds of those for which a model must be loaded.
    """

    places: Mapping[str, int]
    sums: Sequence[float]
    workers: int
    speed: float
    weights: Mapping[str, float]
    loads: Mapping[str, float] = field(default_factory=dict)

    def ahead(self, index: int) -> float:
        """Seconds of work before a place, in the mean's measure where one did not look."""
        if index < len(self.sums):
            return self.sums[index]
        mean = self.sums[-1] / max(1, len(self.sums) - 1)
        return self.sums[-1] + mean * (index - len(self.sums) + 1)


def job_id(generation: int, attempt: int) -> str:
    """The RQ job's id; it carries the attempt, because RQ remembers ids that ended."""
    return f"generation-{generation}-{attempt}"


def _preview(job: str) -> str:
    return f"drawqueue:preview:{job}"


def _said(job: str) -> str:
    return f"drawqueue:said:{job}"


def _alive(job: str) -> str:
    return f"drawqueue:alive:{job}"


def _of(line: str, key: str) -> str:
    """A key of one line's; the drawing's own has none of its own name."""
    return key if line == DRAW else f"{key}:{line}"


class Line:
    """One line: RQ's queue in its fair order, who works on it, and how long it takes."""

    def __init__(self, name: str, redis: Redis, pace: Pace, job_timeout: int, keep: int) -> None:
        self.name = name
        self.redis = redis
        self.pace = pace
        self._keep_seconds = keep
        # Machine and device, where this process is a worker.
        self.worker = ""
        self._looked = -math.inf
        self._seen = _Look({}, [0.0], 0, 1.0, {})
        self.rq = FairQueue(
            name, connection=redis, serializer=JSONSerializer, default_timeout=job_timeout
        )

    def enqueue(
        self, generation: int, attempt: int, description: str, claim: Claim, *, first: bool = False
    ) -> None:
        """Put a drawing in its fair place in line, or first; doing so twice puts it there once."""
        name = job_id(generation, attempt)
        if self.redis.exists(Job.key_for(name)):
            return
        self.redis.sadd(LINES, self.name)
        self.rq.announce(name, claim)
        self.rq.enqueue(
            TASK,
            generation,
            job_id=name,
            at_front=first,
            description=description,
            result_ttl=self._keep_seconds,
            failure_ttl=KEEP_JOB_SECONDS,
        )

    def collect(self, generation: int, attempt: int, description: str) -> None:
        """Let a worker look, before all else, after a drawing that another machine has taken on;
        once, however often it is asked for meanwhile."""
        name = f"collect-{generation}-{attempt}"
        status = self.redis.hget(Job.key_for(name), "status")
        if status == b"queued" and self.redis.lpos(self.rq.key, name) is not None:
            return
        if status == b"started" and self.redis.exists(_alive(job_id(generation, attempt))):
            return
        # Whatever RQ still believes, whoever had it has died over it.
        self.dropped(name)
        self.redis.sadd(LINES, self.name)
        self.rq.announce(name, Claim(NOBODY, LEAST_COST))
        self.rq.enqueue(
            COLLECT, generation, job_id=name, at_front=True, description=description,
            result_ttl=0, failure_ttl=KEEP_JOB_SECONDS,
        )  # fmt: skip

    def move(self, generation: int, attempt: int, claim: Claim, *, first: bool = False) -> bool:
        """Give a drawing that stands in line another place in it; False when it stands in none."""
        return self.rq.move(job_id(generation, attempt), claim, first=first)

    def change(self, generation: int, attempt: int, description: str, claim: Claim) -> None:
        """Let a drawing that keeps its place be described and charged as it is from now on."""
        name = job_id(generation, attempt)
        self.rq.charge(name, claim.cost, claim.model)
        # One that an operator deleted meanwhile stays deleted.
        self.redis.eval(_DESCRIBE, 1, Job.key_for(name), description)

    def failed(self, generation: int, attempt: int, words: str) -> None:
        """Let RQ count a job among the failed that it believes to be done, so that an operator
        can requeue it."""
        name = job_id(generation, attempt)
        with contextlib.suppress(NoSuchJobError):
            job = Job.fetch(name, connection=self.redis, serializer=JSONSerializer)
            self.rq.finished_job_registry.remove(job)
            job.set_status(JobStatus.FAILED)
            self.rq.failed_job_registry.add(job, ttl=KEEP_JOB_SECONDS, exc_string=words)

    def begun(self) -> list[tuple[int, int]]:
        """Generation and attempt of every job that RQ believes to be running."""
        found = (JOB.match(execution) for execution in self._executions())
        return [(int(one[1]), int(one[2])) for one in found if one]

    def dropped(self, job: str) -> None:
        """Let RQ believe no more that a job is running."""
        for execution in self._executions():
            if execution.startswith(f"{job}:"):
                self.redis.zrem(self.rq.started_job_registry.key, execution)

    def _executions(self) -> list[str]:
        listed: Any = self.redis.zrange(self.rq.started_job_registry.key, 0, -1)
        return [one.decode() for one in listed]

    def present(self, worker: str, loaded: Collection[str] = (), at_once: int = 1) -> None:
        """Say that a worker is on line, for a while: machine and device, process, something random.

        And which models it has loaded, and how many it does at once. RQ keeps a worker that was
        killed while drawing for minutes, and on its list for ever.
        """
        until = time.time() + ALIVE_SECONDS
        names = [worker, *(f"{worker}.{slot}" for slot in range(2, at_once + 1))]
        # A line where nobody stood yet has workers, too.
        self.redis.sadd(LINES, self.name)
        self.redis.zadd(self._key(WORKERS), dict.fromkeys(names, until))
        self.redis.hset(self._key(LOADED), worker, json.dumps(sorted(loaded)))

    def absent(self, worker: str) -> None:
        """Say that a worker has left."""
        known: Any = self.redis.zrange(self._key(WORKERS), 0, -1)
        mine = [one for one in known if one.decode().startswith(worker)]
        self.redis.zrem(self._key(WORKERS), worker, *mine)
        self.redis.hdel(self._key(LOADED), worker)

    def loaded(self) -> frozenset[str]:
        """The models that workers on line have loaded."""
        names: Any = self.redis.zrange(self._key(WORKERS), time.time(), "+inf", byscore=True)
        told: Any = self.redis.hmget(self._key(LOADED), names) if names else []
        return frozenset(model for one in told if one for model in json.loads(one))

    def length(self) -> int:
        """How many drawings stand in line."""
        return int(self.redis.llen(self.rq.key))

    def workers(self) -> int:
        """How many workers are on line."""
        return int(self.redis.zcount(self._key(WORKERS), time.time(), "+inf"))

    def _at_work(self) -> list[str]:
        """The machines and devices of the workers on line."""
        names: Any = self.redis.zrange(self._key(WORKERS), time.time(), "+inf", byscore=True)
        return [name.decode().rsplit("-", 2)[0] for name in names]

    def clean(self) -> None:
        """Forget workers that were killed, and jobs that ended long ago, in RQ's lists as well."""
        gone: Any = self.redis.zrange(self._key(WORKERS), "-inf", time.time(), byscore=True)
        if gone:
            self.redis.hdel(self._key(LOADED), *gone)
        self.redis.zremrangebyscore(self._key(WORKERS), "-inf", time.time())
        clean_worker_registry(self.rq)
        self.rq.finished_job_registry.cleanup()
        self.rq.failed_job_registry.cleanup()

    def began(self, generation: int, attempt: int, request: Request) -> None:
        """Note until when a drawing that begins now is expected to take."""
        ends = time.time() + self.pace.expect(request).seconds
        self.redis.zadd(self._key(RUNNING), {job_id(generation, attempt): ends})

    def ended(
        self, generation: int, attempt: int, seconds: float, drawn: Request | None = None,
        revision: str = "",
    ) -> None:  # fmt: skip
        """Charge what a drawing took; a whole one teaches the estimate, and which revision of its
        model draws."""
        name = job_id(generation, attempt)
        if drawn:
            self.pace.learn(drawn, seconds, self.worker)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrem(self._key(RUNNING), name)
            pipe.delete(_preview(name), _said(name))
            if drawn and revision:
                pipe.hset(REVISIONS, drawn.model, revision)
            self.rq.settle(name, seconds, pipe)
            pipe.execute()

    def standing(
        self, generation: int, attempt: int, request: Request, user: str = ""
    ) -> Standing | None:
        """Place and estimate of a queued drawing, or None when it stands in no line.

        Many are told from one look at the line, a fraction of a second old.
        """
        name = job_id(generation, attempt)
        look = self._look()
        index = look.places.get(name)
        if index is None:
            # It came since, or stands deeper than one looks.
            found: Any = self.redis.lpos(self.rq.key, name)
            if found is None:
                return None
            index = int(found)
        own = self.pace.expect(request)
        ahead = look.ahead(index)
        alone = own.seconds + look.loads.get(name, 0.0)
        seconds = ahead / look.speed + alone * max(1, look.workers) / look.speed
        weight = look.weights.get(user, 1.0)
        share = weight / (sum(look.weights.values()) or weight)
        return Standing(index + 1, seconds, look.workers, own.known, ahead, share)

    def moving(self) -> list[int]:
        """The generations in line whose place is worth showing now, the nearest first.

        Those about to be drawn always, and a few of the others in turn: their places change as
        often and matter less.
        """
        names = list(self._look().places)
        chosen = names[:NEAREST] + random.sample(names[NEAREST:], min(OTHERS, len(names[NEAREST:])))
        return [int(found[1]) for name in chosen if (found := JOB.fullmatch(name))]

    def leaving(self) -> Iterator[float]:
        """The seconds until each has left the line, as far as one can tell."""
        look = self._look()
        return (look.ahead(place + 1) / look.speed for place in range(self.length()))

    def listed(self) -> set[str]:
        """The jobs that stand in line."""
        return set(self.rq.get_job_ids())

    def _look(self) -> "_Look":
        if time.monotonic() - self._looked > FRESH_SECONDS:
            moment = time.time()
            # A drawing that is long overdue belongs to a worker that died.
            self.redis.zremrangebyscore(self._key(RUNNING), "-inf", moment - 600)
            going: Any = self.redis.zrange(self._key(RUNNING), 0, -1, withscores=True)
            first = sum(max(0.0, ends - moment) for _name, ends in going)
            listed: Any = self.redis.lrange(self.rq.key, 0, DEPTH - 1)
            names = [name.decode() for name in listed]
            claims = self.rq.claims(names)
            # Whatever nobody has loaded is, where it is drawn first.
            there, loads = self.loaded() | {""}, {}
            for name, claim in zip(names, claims, strict=True):
                if claim.model not in there:
                    there |= {claim.model}
                    loads[name] = self.pace.loading(claim.model)
            costs = [
                claim.cost + loads.get(name, 0.0)
                for name, claim in zip(names, claims, strict=True)
            ]  # fmt: skip
            self._seen = _Look(
                {name: index for index, name in enumerate(names)},
                list(accumulate(costs, initial=first)),
                self.workers(),
                max(0.01, self.pace.speed(self._at_work()) or 1.0),
                {claim.user: claim.weight for claim in claims},
                loads,
            )
            self._looked = time.monotonic()
        return self._seen

    def _key(self, key: str) -> str:
        return _of(self.name, key)


class WorkQueue:
    """All lines, and what passes through Redis beside them."""

    def __init__(self, url: str, job_timeout: int = 600, keep_minutes: int = 60) -> None:
        self.redis: Redis = Redis.from_url(url, socket_timeout=30, health_check_interval=30)
        self.pace = Pace(self.redis)
        self._made: dict[str, Line] = {}
        self._job_timeout, self._keep = job_timeout, keep_minutes * 60
        self.draw = self.line(DRAW)

    def line(self, name: str) -> Line:
        """A line by its name."""
        if name not in self._made:
            self._made[name] = Line(name, self.redis, self.pace, self._job_timeout, self._keep)
        return self._made[name]

    def lines(self) -> list[Line]:
        """The lines that anybody ever stood in, the drawing's own first."""
        known: Any = self.redis.smembers(LINES)
        names = sorted(name.decode() for name in known)
        return [self.draw, *(self.line(name) for name in names if name != DRAW)]

    def length(self) -> int:
        """How many stand in any line."""
        return sum(one.length() for one in self.lines())

    def room_in(self, jobs: int) -> float:
        """Seconds until so many have left the lines, as far as one can tell."""
        lines = self.lines()
        # What nobody works on leaves after all else.
        leaving = (
            merge(*(one.leaving() for one in lines if bool(one.workers()) == working))
            for working in (True, False)
        )
        return next(islice(chain.from_iterable(leaving), jobs - 1, None), 0.0)

    def workers(self) -> dict[str, int]:
        """How many work on each line that there is, at once."""
        return {one.name: one.workers() for one in self.lines()}

    def listed(self) -> set[str]:
        """The jobs that stand in any line."""
        return set().union(*(one.listed() for one in self.lines()))

    def begun(self) -> list[tuple[int, int]]:
        """Generation and attempt of every job that RQ believes to be running."""
        return [found for one in self.lines() for found in one.begun()]

    def moving(self) -> list[int]:
        """The generations whose place is worth showing now, the nearest of each line first."""
        return [found for one in self.lines() for found in one.moving()]

    def clean(self) -> None:
        """Forget workers that were killed, and jobs that ended long ago, in RQ's lists as well."""
        for one in self.lines():
            one.clean()

    def exists(self, generation: int, attempt: int) -> bool:
        """Whether RQ knows the job, in whatever state."""
        return bool(self.redis.exists(Job.key_for(job_id(generation, attempt))))

    def status(self, generation: int, attempt: int) -> str | None:
        """RQ's word for the job's state, or None when it is gone."""
        found: Any = self.redis.hget(Job.key_for(job_id(generation, attempt)), "status")
        return found.decode() if found else None

    def forget(self, generation: int, attempt: int) -> None:
        """Take a job out of its line and out of every registry, its cost given back."""
        name = job_id(generation, attempt)
        self.redis.delete(_preview(name), _said(name))
        lines = self.lines()
        for line in lines:
            line.rq.leave(name)
        try:
            Job.fetch(name, connection=self.redis, serializer=JSONSerializer).delete()
        except Exception:  # A job that is gone or unreadable: the row decides, not RQ.
            self.redis.delete(Job.key_for(name))
        for line in lines:
            line.dropped(name)

    def stop(self, generation: int, attempt: int) -> None:
        """Ask the worker that draws this attempt to stop at its next step."""
        name = job_id(generation, attempt)
        self.redis.set(f"drawqueue:stop:{name}", 1, ex=3600)
        self.redis.delete(_preview(name), _said(name))

    def beat(self, generation: int, attempt: int, share: float | None) -> bool:
        """Say that an attempt is being drawn, and how far it is; False: it shall stop."""
        name = job_id(generation, attempt)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.set(_alive(name), 1, ex=ALIVE_SECONDS)
            if share is not None:
                pipe.set(f"drawqueue:progress:{name}", f"{share:.3f}", ex=PROGRESS_SECONDS)
                pipe.expire(_preview(name), PROGRESS_SECONDS)
            pipe.exists(f"drawqueue:stop:{name}")
            return not pipe.execute()[-1]

    def alive(self, generation: int, attempt: int) -> bool:
        """Whether some worker said lately that it draws this attempt."""
        return bool(self.redis.exists(_alive(job_id(generation, attempt))))

    def well(self, attempts: Mapping[int, int]) -> set[int]:
        """Those of some generations, by their attempts, that somebody draws as RQ knows."""
        names = {one: job_id(one, attempt) for one, attempt in attempts.items()}
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names.values():
                pipe.exists(_alive(name))
                pipe.exists(Job.key_for(name))
            told = pipe.execute()
        both = zip(names, told[::2], told[1::2], strict=True)
        return {one for one, alive, known in both if alive and known}

    def progress(self, generation: int, attempt: int) -> float:
        """The share drawn, 0 to 1."""
        found = self.redis.get(f"drawqueue:progress:{job_id(generation, attempt)}")
        return float(found) if found else 0.0

    def preview(self, generation: int, attempt: int, picture: bytes) -> None:
        """Keep what an attempt under way looks like, and nothing older, for a while."""
        mark = hashlib.sha256(picture).hexdigest()[:12]
        key = _preview(job_id(generation, attempt))
        with self.redis.pipeline() as pipe:
            pipe.hset(key, mapping={"mark": mark, "picture": picture})
            pipe.expire(key, PROGRESS_SECONDS)
            pipe.execute()

    def previewed(self, generation: int, attempt: int) -> str:
        """What tells an attempt's newest preview from those before; empty where there is none."""
        mark: Any = self.redis.hget(_preview(job_id(generation, attempt)), "mark")
        return mark.decode() if mark else ""

    def picture(self, generation: int, attempt: int) -> tuple[str, bytes] | None:
        """An attempt's newest preview with its mark, or None where there is none (any more)."""
        found: Any = self.redis.hmget(_preview(job_id(generation, attempt)), "mark", "picture")
        return (found[0].decode(), found[1]) if all(found) else None

    def say(self, generation: int, attempt: int, words: str) -> None:
        """Keep what an attempt under way has written by now, for a while."""
        self.redis.set(_said(job_id(generation, attempt)), words, ex=PROGRESS_SECONDS)

    def said(self, generation: int, attempt: int) -> str:
        """What an attempt under way has written by now."""
        found: Any = self.redis.get(_said(job_id(generation, attempt)))
        return found.decode() if found else ""

    def revisions(self) -> dict[str, str]:
        """The revision that drew last, by model."""
        found: Any = self.redis.hgetall(REVISIONS)
        return {name.decode(): revision.decode() for name, revision in found.items()}

    def known(self) -> bool:
        """Whether this is the Redis we filled; False when it was emptied or replaced."""
        return bool(self.redis.exists(EPOCH))

    def begin(self) -> None:
        """Mark this Redis as ours."""
        self.redis.set(EPOCH, f"{time.time():.3f}", nx=True)

    def young(self) -> bool:
        """Whether this Redis was emptied so lately that who is alive need not have said so yet."""
        found: Any = self.redis.get(EPOCH)
        with contextlib.suppress(ValueError):  # An older version kept a mark without a time.
            return bool(found) and time.time() - float(found) < ALIVE_SECONDS
        return False
