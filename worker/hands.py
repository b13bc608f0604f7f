"""RQ's worker for tasks of ours: one at a time where models are warm, many where others draw."""

import contextlib
import copy
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from types import FrameType
from typing import Any

from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.command import parse_payload
from rq.exceptions import InvalidJobOperation, StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.timeouts import BaseDeathPenalty

from worker.tasks import ALLOWED, DrawingFailed, Studio

log = logging.getLogger("drawqueue")

# Docker and `drawqueue up` kill what has not ended 10 s after SIGTERM.
LEAVE_SECONDS = 6.0
# RQ's own would notice a worker that died after minutes.
INTERVALS = {"worker_ttl": 20, "maintenance_interval": 3600, "job_monitoring_interval": 5}
# How often a worker without a place left says that it lives.
ALIVE_SECONDS = 5.0
# So soon one whose work broke off, as where Redis was away for long, begins again.
AGAIN_SECONDS = 1.0
# What RQ says and asks of a worker around each job, one with many jobs a second does so often.
SAY_SECONDS = 1.0


class Hand(SimpleWorker):
    """Runs tasks in this process, one after the other, while an engine works in its own."""

    # RQ's own looks for a Redis that was away once a minute, while a GPU has nothing to do.
    max_connection_wait_time = 2.0

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **{**INTERVALS, **named})
        self.log.setLevel(logging.WARNING)
        # A drawing that failed was told to its asker; RQ need not print where.
        self.log.addFilter(lambda record: DrawingFailed.__name__ not in record.getMessage())

    def kill_horse(self, sig: Any = None) -> None:
        """RQ's stop-job and kill commands: stop at the next denoising step."""
        if job := self.get_current_job_id():
            Studio.stopped.add(job)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM: the drawing under way may end in a while, or else is put back in front."""
        leave = threading.Timer(LEAVE_SECONDS, _leave)
        leave.daemon = True
        leave.start()
        super().request_stop(signum, frame)

    def perform_job(self, job: Job, queue: Queue) -> bool:
        if job.func_name not in ALLOWED:
            log.error("refused to run %s: not on the list", job.func_name)
            job._func_name = "worker.hands.refused"
        return super().perform_job(job, queue)


class Untimed(BaseDeathPenalty):
    """No limit of RQ's: it knows signals alone, and engines elsewhere have limits of their own."""

    def setup_death_penalty(self) -> None:
        """Nothing ends a job from outside."""

    def cancel_death_penalty(self) -> None:
        """Nor does it now."""


class Place:
    """A job's place among those done at once; as many again stand behind them."""

    def __init__(self, first: threading.Semaphore, behind: threading.Semaphore) -> None:
        """Of the first ones, one is this job's already."""
        self._held, self._behind = first, behind

    def step_back(self) -> None:
        """Let the next job have this place, unless too many stand behind."""
        if self._held is not self._behind and self._behind.acquire(blocking=False):
            self._held.release()
            self._held = self._behind

    def leave(self) -> None:
        """The job is over."""
        self._held.release()


# That of the job which is done here, where many are done at once.
PLACE: ContextVar[Place | None] = ContextVar("place", default=None)


class Hands(Hand):
    """Runs tasks in threads, so many at once, each on a copy that notes its one job for RQ."""

    death_penalty_class = Untimed

    def __init__(self, *given: Any, places: int, **named: Any) -> None:
        super().__init__(*given, **named)
        self._said: dict[str, float] = {}
        self._left, self._behind = threading.Semaphore(places), threading.Semaphore(places)
        self._pool = ThreadPoolExecutor(2 * places, thread_name_prefix=self.name)

    def _install_signal_handlers(self) -> None:
        """The process has one main thread, which hears signals for all lines."""

    def leave(self) -> None:
        """Take no more jobs."""
        self._stop_requested = True

    def work(self, *given: Any, **named: Any) -> bool:
        """Work until told to leave. RQ's own ends with what is no fault of a job, such as a Redis
        that is away, and here no process would end with it and be started again."""
        while not self._stop_requested:
            try:
                super().work(*given, **named)
            except Exception as error:
                log.warning("%s cannot work now: %s", self.name, type(error).__name__)
            if not self._stop_requested:
                time.sleep(AGAIN_SECONDS)
        return False

    def register_birth(self) -> None:
        # The name is this process's own: what stands there is of before.
        self.connection.delete(self.key)
        super().register_birth()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            # Or it would listen beside the next one.
            if self.pubsub_thread:
                self.pubsub_thread.stop()
                with contextlib.suppress(RedisError):
                    self.pubsub.close()

    def handle_payload(self, message: Any) -> None:
        payload = parse_payload(message)
        if payload.get("command") == "stop-job":
            # Whichever of those under way is meant.
            Studio.stopped.add(str(payload["job_id"]))
            return
        super().handle_payload(message)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Say that it lives. Where Redis is away nobody hears it, and RQ would end the line."""
        if pipeline is not None or self._due("alive"):
            with contextlib.suppress(RedisError):
                super().heartbeat(timeout, pipeline)

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """Say whether it has something to do."""
        if pipeline is not None or self._due(f"state {state}"):
            super().set_state(state, pipeline)

    def check_for_suspension(self, burst: bool) -> None:
        """Wait where an operator has all workers wait, as far as that is known."""
        if self._due("suspended"):
            with contextlib.suppress(RedisError):
                super().check_for_suspension(burst)

    def _due(self, what: str) -> bool:
        """Whether something is to be said or asked again by now."""
        moment = time.monotonic()
        if moment - self._said.get(what, 0.0) < SAY_SECONDS:
            return False
        self._said[what] = moment
        return True

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        while not self._left.acquire(timeout=ALIVE_SECONDS):
            self.heartbeat()
            if self._stop_requested:
                raise StopRequested
        found: tuple[Job, Queue] | None = None
        try:
            # Not for ever: nothing but this loop hears that it shall stop.
            while found is None and not self._stop_requested:
                found = super().dequeue_job_and_maintain_ttl(1, 1)
        finally:
            if found is None:
                self._left.release()
        if found is None:
            raise StopRequested
        return found

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._pool.submit(copy_context().run, self._perform, job, queue)

    def _perform(self, job: Job, queue: Queue) -> None:
        place = Place(self._left, self._behind)
        PLACE.set(place)
        try:
            one = copy.copy(self)
            one.prepare_execution(job)
            one.perform_job(job, queue)
        except Exception as error:  # RQ without its Redis: the sweep finds what became of the row.
            log.warning("RQ could not note what became of %s: %s", job.id, type(error).__name__)
        finally:
            place.leave()

    def drain(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True)


def _leave() -> None:
    Studio.leaving.set()
    # A step may take longer than there is time for.
    with contextlib.suppress(AttributeError):
        Studio.engine.end()


def refused(*_args: Any, **_kwargs: Any) -> None:
    """What runs in place of a function that is not on the list."""
    raise InvalidJobOperation("This function may not be run.")
