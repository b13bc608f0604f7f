"""The order of work: RQ's own list, seen by workers and operators alike.

Jobs are enqueued by function name with one database id as their argument. Nothing here
changes a generation's state.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

QUEUE = "draw"
TASK = "worker.tasks.generate"
EPOCH = "drawqueue:epoch"
STARTING = "drawqueue:starting"
STARTING_SECONDS = 600
ALIVE_SECONDS = 15
PROGRESS_SECONDS = 120
KEEP_JOB_SECONDS = 24 * 3600
FIRST_GUESS_SECONDS = 15.0


@dataclass(frozen=True)
class Standing:
    """A queued job's place in line (1 is next), the seconds until its picture, and workers."""

    place: int
    seconds: float
    workers: int


def job_id(generation: int, attempt: int) -> str:
    """The RQ job's id; it carries the attempt, because RQ remembers ids that ended."""
    return f"generation-{generation}-{attempt}"


class WorkQueue:
    """RQ's queue of drawings, and what passes through Redis beside it."""

    def __init__(self, url: str, job_timeout: int = 600) -> None:
        self.redis: Redis = Redis.from_url(url, socket_timeout=30, health_check_interval=30)
        self.rq = Queue(
            QUEUE,
            connection=self.redis,
            serializer=JSONSerializer,
            default_timeout=job_timeout,
        )

    def enqueue(self, generation: int, attempt: int, description: str) -> None:
        """Put a drawing in line; doing so twice puts it there once."""
        name = job_id(generation, attempt)
        if self.exists(generation, attempt):
            return
        self.rq.enqueue(
            TASK,
            generation,
            job_id=name,
            description=description,
            result_ttl=3600,
            failure_ttl=KEEP_JOB_SECONDS,
        )

    def exists(self, generation: int, attempt: int) -> bool:
        """Whether RQ knows the job, in whatever state."""
        return bool(self.redis.exists(Job.key_for(job_id(generation, attempt))))

    def status(self, generation: int, attempt: int) -> str | None:
        """RQ's word for the job's state, or None when it is gone."""
        found: Any = self.redis.hget(Job.key_for(job_id(generation, attempt)), "status")
        return found.decode() if found else None

    def forget(self, generation: int, attempt: int) -> None:
        """Take a job out of the line and out of every registry."""
        name = job_id(generation, attempt)
        self.redis.lrem(self.rq.key, 1, name)
        try:
            Job.fetch(name, connection=self.redis, serializer=JSONSerializer).delete()
        except Exception:  # A job that is gone or unreadable: the row decides, not RQ.
            self.redis.delete(Job.key_for(name))

    def stop(self, generation: int, attempt: int) -> None:
        """Ask the worker that draws this attempt to stop at its next step."""
        self.redis.set(f"drawqueue:stop:{job_id(generation, attempt)}", 1, ex=3600)

    def beat(self, generation: int, attempt: int, share: float | None) -> bool:
        """Say that an attempt is being drawn, and how far it is; False: it shall stop."""
        name = job_id(generation, attempt)
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.set(f"drawqueue:alive:{name}", 1, ex=ALIVE_SECONDS)
            if share is not None:
                pipe.set(f"drawqueue:progress:{name}", f"{share:.3f}", ex=PROGRESS_SECONDS)
            pipe.exists(f"drawqueue:stop:{name}")
            return not pipe.execute()[-1]

    def alive(self, generation: int, attempt: int) -> bool:
        """Whether some worker said lately that it draws this attempt."""
        return bool(self.redis.exists(f"drawqueue:alive:{job_id(generation, attempt)}"))

    def progress(self, generation: int, attempt: int) -> float:
        """The share drawn, 0 to 1."""
        found = self.redis.get(f"drawqueue:progress:{job_id(generation, attempt)}")
        return float(found) if found else 0.0

    def starting(self, yes: bool) -> None:
        """Say that a worker is loading its model, and so is as good as on line."""
        if yes:
            self.redis.set(STARTING, 1, ex=STARTING_SECONDS)
        else:
            self.redis.delete(STARTING)

    def length(self) -> int:
        """How many drawings stand in line."""
        return int(self.redis.llen(self.rq.key))

    def workers(self) -> int:
        """How many workers are on line."""
        loading = int(self.redis.exists(STARTING))
        return max(loading, int(Worker.count(queue=self.rq)))

    def standing(self, generation: int, attempt: int) -> Standing | None:
        """Place and estimate of a queued drawing, or None when it stands in no line."""
        index: Any = self.redis.lpos(self.rq.key, job_id(generation, attempt))
        if index is None:
            return None
        workers = self.workers()
        mean = float(self.redis.get("drawqueue:seconds") or FIRST_GUESS_SECONDS)
        return Standing(int(index) + 1, mean * (int(index) + 1) / max(1, workers), workers)

    def learn(self, seconds: float) -> None:
        """Let the estimate learn from a drawing's measured time (moving mean, weight 0.2)."""
        old = self.redis.get("drawqueue:seconds")
        mean = seconds if old is None else 0.8 * float(old) + 0.2 * seconds
        self.redis.set("drawqueue:seconds", f"{mean:.3f}")

    def epoch(self) -> tuple[str, bool]:
        """Redis's epoch, and whether it is new: then Redis was emptied or replaced."""
        fresh = secrets.token_hex(8)
        new = bool(self.redis.set(EPOCH, fresh, nx=True))
        known: Any = self.redis.get(EPOCH)
        return (known or b"").decode() if not new else fresh, new
