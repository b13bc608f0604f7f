"""Mends whatever a crash or an operator left behind, by looking at rows, lines and who is alive."""

import contextlib
import logging
import time
from datetime import timedelta

from sqlalchemy import select

from core.database import generations, now
from core.elsewhere import Elsewhere
from core.errors import NotFound, report
from core.fair import Claim
from core.generations import ENQUEUE_GRACE, Generations
from core.languages import speaking, tr
from core.lifecycle import FINAL, State
from core.policy import policy
from core.queue import DRAW, JOB, KEEP_JOB_SECONDS, job_id
from core.rows import HELD, LOST, NOTED, UNREADABLE, Generation

log = logging.getLogger("drawqueue")

LOST_SECONDS = 10.0
# So long one waits for a worker where another engine may stand in.
STRANDED_SECONDS = 45.0
# So long a picture waits for somebody who writes its prompt.
UNWRITTEN_SECONDS = 12.0


class Mending:
    """What a sweep does, and remembers from one to the next."""

    def __init__(self, kept: Generations, elsewhere: Elsewhere) -> None:
        self._generations = kept
        self._elsewhere = elsewhere
        self._queue = kept.queue
        self._missing: dict[str, float] = {}
        # Since when nobody works on a line.
        self._idle: dict[str, float] = {}

    def sweep(self) -> int:
        """Mend whatever a crash or an operator left behind; answers how many rows moved.

        Redis emptied: the line is rebuilt from the rows. An enqueue that was lost: done again.
        A job an operator deleted: cancelled; requeued: queued. A worker that died: drawn again.
        """
        self._generations.rebuild_if_emptied()
        moved = 0
        for generation_id in self._odd():
            try:
                odd = self._generations.get(generation_id)
                with speaking(odd.language):
                    moved += self._mend(odd)
            except UNREADABLE as error:
                # One row that nobody can read must not keep the others from being mended.
                report(f"#{generation_id} could not be looked after", error)
        moved += self._requeued_by_operator()
        moved += self._given_to_others()
        for waiting in self._elsewhere.due():
            self._elsewhere.look_after(waiting)
        self._forget_the_dead()
        self._queue.clean()
        for line in self._queue.lines():
            line.rq.mend(self._claim_of)
        if moved:
            log.info("sweep moved %d generations", moved)
        return moved

    def _odd(self) -> list[int]:
        """The generations that wait and stand in no line, and those that nobody draws, or whose
        job is gone."""
        columns = generations.c
        with self._generations.database.read() as connection:
            rows = connection.execute(
                select(columns.id, columns.attempt, columns.state)
                .where(columns.state.in_([State.QUEUED, State.GENERATING]))
                .order_by(columns.id)
            ).all()
        listed = self._queue.listed()
        drawn = {row.id: row.attempt for row in rows if row.state != State.QUEUED}
        well = self._queue.well(drawn)
        return [
            row.id for row in rows
            if row.id not in well
            and (row.id in drawn or job_id(row.id, row.attempt) not in listed)
        ]  # fmt: skip

    def _lost(self, generation: Generation) -> bool:
        """Whether RQ holds a job as waiting or begun that has stood in no line for a while.

        A worker that was killed between taking a job and claiming it leaves one so.
        """
        moment = time.monotonic()
        self._missing = {job: since for job, since in self._missing.items() if moment - since < 60}
        since = self._missing.setdefault(generation.job, moment)
        alive = self._queue.alive(generation.id, generation.attempt)
        return not alive and moment - since > LOST_SECONDS

    def _mend(self, generation: Generation) -> bool:
        status = self._queue.status(generation.id, generation.attempt)
        if generation.state == State.QUEUED:
            if generation.enqueued == HELD:
                with self._generations.database.read() as connection:
                    if not self._generations.may_run(
                        connection, policy(), generation, in_line=True
                    ):
                        return False
                self._generations.line_up(generation)
                return True
            if status in ("queued", "started", "deferred", "scheduled"):
                if not self._lost(generation):
                    return False
                return bool(self._generations.put_back(generation))
            if status is not None:
                # RQ ended the job (a crash between its start and our claim): a new attempt.
                return bool(self._generations.put_back(generation))
            if generation.enqueued == NOTED:
                return bool(self._removed(generation, State.QUEUED))
            # Whoever accepted it may be about to put it in line.
            due = generation.due or generation.created + ENQUEUE_GRACE
            if generation.enqueued != LOST and now() < due:
                return False
            self._generations.line_up(generation)
            return True
        alive = self._queue.alive(generation.id, generation.attempt)
        if status is None and alive and generation.enqueued == NOTED:
            # An operator deleted a running job; its worker is told to stop.
            removed = self._removed(generation, State.GENERATING)
            if removed:
                self._queue.stop(generation.id, generation.attempt)
            return bool(removed)
        if alive or (generation.enqueued == LOST and self._queue.young()):
            return False
        if generation.started and now() - generation.started < timedelta(seconds=5):
            return False
        if self._elsewhere.adopt(generation):
            return True
        return bool(self._generations.restart(generation, tr("The worker that drew this stopped.")))

    def _given_to_others(self) -> int:
        """Let other engines draw what stands for long in a line that nobody works on."""
        moment, moved = time.monotonic(), 0
        manned = {name for name, workers in self._queue.workers().items() if workers}
        for line in self._queue.lines():
            if line.name in manned:
                self._idle.pop(line.name, None)
                continue
            self._idle.setdefault(line.name, moment)
            if line.name != DRAW and moment - self._idle[line.name] >= UNWRITTEN_SECONDS:
                moved += self._unwritten(line.name)
            if moment - self._idle[line.name] < STRANDED_SECONDS:
                continue
            # Where nobody works at all, all had best stay: they may all be coming.
            for one in self._elsewhere.stranded(line.name) if manned else ():
                with speaking(one.language):
                    words = tr("No worker for {model} was on line.", model=one.request.model)
                    moved += bool(self._elsewhere.stand_in(one, words, manned))
            for one in self._elsewhere.given_up(line.name):
                with speaking(one.language):
                    words = tr("No worker for {model} was on line.", model=one.request.model)
                    other = self._elsewhere.stand_in(one, words)
                    moved += bool(other or self._generations.fail(one, words))
        return moved

    def _unwritten(self, line: str) -> int:
        """Let no picture wait for a better prompt that nobody is there to write."""
        columns, moved = generations.c, 0
        waiting = self._generations.readable(
            select(generations).where(
                columns.state == State.QUEUED, columns.line == line,
                columns.request["enhance"].as_string() != "",
            )
        )  # fmt: skip
        for one in waiting:
            with speaking(one.language):
                words = tr("Drawn as you wrote it: nobody was there to write a better prompt.")
                moved += bool(self._generations.enhanced(one, None, words))
        return moved

    def _forget_the_dead(self) -> None:
        """Let RQ forget what a worker that died was drawing for nobody any more."""
        for generation_id, attempt in self._queue.begun():
            if self._queue.alive(generation_id, attempt):
                continue
            with contextlib.suppress(NotFound, *UNREADABLE):
                one = self._generations.get(generation_id)
                # One that is queued may be about to be claimed: if not, it is found to be lost.
                if one.state in FINAL or one.attempt != attempt:
                    self._queue.forget(generation_id, attempt)

    def _removed(self, generation: Generation, state: State) -> Generation | None:
        removed = self._generations.change(
            generation, {state}, State.CANCELLED,
            error=tr("An operator removed this from the queue."), ended=now(),
        )  # fmt: skip
        if removed:
            self._queue.forget(removed.id, removed.attempt)
        return removed

    def _requeued_by_operator(self) -> int:
        # RQ keeps a failed job for as long as it can be requeued.
        since = now() - timedelta(seconds=KEEP_JOB_SECONDS)
        failed = self._generations.readable(
            select(generations).where(
                generations.c.state == State.FAILED, generations.c.ended > since
            )
        )  # fmt: skip
        waiting = self._queue.listed() if failed else set()
        moved = 0
        for old in failed:
            if old.job in waiting:
                moved += bool(self._generations.requeued(old))
        return moved

    def _claim_of(self, job: str) -> Claim | None:
        """What a job asks of the line that somebody else pushed."""
        found = JOB.fullmatch(job)
        if not found:
            return None
        try:
            one = self._generations.get(int(found[1]))
        except (NotFound, *UNREADABLE):
            return None
        return self._generations.claim_of(one)
