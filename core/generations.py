"""A generation from asking to its end: the only writer of state.

Every change is one conditional UPDATE that also bumps `version`; who calls learns whether it
won. Two workers, double clicks and a cancel racing a finish settle themselves this way.
"""

import contextlib
import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Row, and_, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError, OperationalError

from core import events, lifecycle
from core.catalog import Request, settle
from core.database import Database, generations, now
from core.errors import NotAllowed, NotFound, TryAgain
from core.fair import Claim
from core.lifecycle import FINAL, PENDING, REDOABLE_IN_PLACE, State
from core.options import SEED_LIMIT, Options
from core.queue import Standing, WorkQueue, job_id

log = logging.getLogger("drawqueue")

MOST_RESTARTS = 2
ENQUEUE_GRACE = timedelta(seconds=2)
# What a row knows of its place in line, besides 0 for none yet.
NOTED, LOST = 1, -1
_JOB = re.compile(r"generation-(\d{1,9})-(\d{1,9})")
FIRST_EDITOR = "first"
EDITOR_LEASE = timedelta(seconds=30)


@dataclass(frozen=True)
class Asker:
    """Who asks: an id that is theirs within a platform, and whether they moderate here."""

    platform: str
    id: str
    name: str = ""
    moderator: bool = False


@dataclass(frozen=True)
class Generation:
    """One row, frozen."""

    id: int
    platform: str
    asker: str
    asker_name: str
    address: Mapping[str, Any]
    request: Request
    parent: int | None
    state: State
    attempt: int
    version: int
    enqueued: int
    error: str | None
    results: tuple[Mapping[str, Any], ...]
    seconds: float | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    message: str | None
    shown_version: int
    shown_media: int
    mentioned: int

    @property
    def job(self) -> str:
        return job_id(self.id, self.attempt)

    @property
    def user(self) -> str:
        """Who is served fairly: one person on one platform."""
        return f"{self.platform}:{self.asker}"


def _generation(row: Row[Any]) -> Generation:
    values = {name: row._mapping[name] for name in Generation.__dataclass_fields__}
    values["request"] = Request(**values["request"])
    values["state"] = State(values["state"])
    values["results"] = tuple(values["results"])
    return Generation(**values)


class Generations:
    """All generations, over a database and a queue."""

    def __init__(self, database: Database, queue: WorkQueue) -> None:
        self.database = database
        self.queue = queue

    # Asking

    def submit(
        self,
        options: Options | Request,
        asker: Asker,
        event: str,
        address: Mapping[str, Any],
        parent: int | None = None,
        message: str | None = None,
    ) -> Generation:
        """Accept a request: commit its row, then put it in line.

        `message` is the chat's message that will be its card, where there is one already; who
        asks has half a minute to draw it first (FIRST_EDITOR).

        An event seen before answers the generation it made. Raises UserError when the request
        cannot be met, TryAgain when nothing could be stored.
        """
        request = (
            options
            if isinstance(options, Request)
            else settle(options, secrets.randbelow(SEED_LIMIT + 1))
        )
        row = {
            "platform": asker.platform,
            "event": event,
            "asker": asker.id,
            "asker_name": asker.name[:128],
            "address": dict(address),
            "request": asdict(request),
            "parent": parent,
            "state": State.QUEUED,
            "created": now(),
        }
        if message:
            row |= {"message": message, "editor": FIRST_EDITOR,
                    "editor_until": now() + EDITOR_LEASE}  # fmt: skip
        try:
            with self.database.write() as connection:
                made = connection.execute(insert(generations).values(row).returning(generations))
                generation = _generation(made.one())
        except IntegrityError:
            with self.database.read() as connection:
                known = connection.execute(
                    select(generations).where(
                        generations.c.platform == asker.platform, generations.c.event == event
                    )
                ).one()
            return _generation(known)
        except OperationalError as error:
            log.warning("could not accept a request: %s", error.__class__.__name__)
            raise TryAgain("I could not take that in just now. Please try again.") from error
        self._enqueue(generation)
        return generation

    def redo(
        self, generation_id: int, asker: Asker, event: str, *, new_seed: bool = False,
        address: Mapping[str, Any] | None = None, message: str | None = None,
    ) -> Generation:  # fmt: skip
        """Draw again: in place when it failed or was cancelled, else as a child of its own.

        Answers the generation that will run. Raises NotFound and NotAllowed.
        """
        old = self.get(generation_id)
        if old.state in REDOABLE_IN_PLACE and not new_seed:
            _may_touch(old, asker)
            # The same place, but what lets one speak there may be fresh (a new interaction).
            same = address and address.get("channel") == old.address.get("channel")
            again = self._change(
                old.id, old.attempt, REDOABLE_IN_PLACE, State.QUEUED,
                next_attempt=old.attempt + 1, restarts=0, error=None, started=None, ended=None,
                enqueued=0, seconds=None, created=now(), undeliverable=None,
                address=dict(address if address and same else old.address),
            )  # fmt: skip
            if again:
                self._enqueue(again)
            return again or self.get(generation_id)
        if old.state in PENDING and not new_seed:
            raise NotAllowed(f"#{old.id} is still {old.state}; it can be retried when it is over.")
        request = old.request
        if new_seed:
            request = replace(request, seed=secrets.randbelow(SEED_LIMIT + 1))
        return self.submit(
            request, asker, event, address or old.address, parent=old.id, message=message
        )

    def cancel(self, generation_id: int, asker: Asker) -> Generation:
        """Cancel from any state that is not over. Raises NotFound and NotAllowed."""
        old = self.get(generation_id)
        _may_touch(old, asker)
        ended = self._change(
            old.id, old.attempt, lifecycle.sources(State.CANCELLED), State.CANCELLED, ended=now()
        )
        if not ended:
            raise NotAllowed(f"#{old.id} is already {self.get(old.id).state}.")
        with contextlib.suppress(RedisError):
            self.queue.stop(old.id, old.attempt)
            if old.state == State.QUEUED:
                self.queue.forget(old.id, old.attempt)
        return ended

    # Drawing

    def claim(self, generation_id: int, job: str = "") -> Generation | None:
        """Take a queued generation to draw it; None when somebody else has it or it is over.

        A failed one whose own job runs again was requeued by an operator.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(generations).where(generations.c.id == generation_id)
            ).one_or_none()
        if row is None:
            return None
        old = _generation(row)
        if old.state == State.FAILED and job == old.job:
            self._requeued(old)
        # The word "alive" comes before the row says so, or a sweep might think its worker dead.
        self.queue.beat(old.id, old.attempt, 0.0)
        won = self._change(old.id, old.attempt, {State.QUEUED}, State.GENERATING, started=now())
        if won:
            self.queue.began(won.id, won.attempt, won.request)
        return won

    def finish(
        self, drawn: Generation, results: Iterable[Mapping[str, Any]], seconds: float
    ) -> Generation | None:
        """Note the stored pictures; None when the attempt is no longer the row's."""
        won = self._change(
            drawn.id, drawn.attempt, lifecycle.sources(State.DONE), State.DONE,
            results=[dict(result) for result in results], seconds=seconds, ended=now(), error=None,
        )  # fmt: skip
        if won:
            with contextlib.suppress(RedisError):
                self.queue.ended(drawn.id, drawn.attempt, seconds, drawn.request)
        return won

    def fail(self, drawn: Generation, words: str) -> Generation | None:
        """End an attempt with words for its asker; None when it is no longer the row's."""
        return self._change(
            drawn.id, drawn.attempt, lifecycle.sources(State.FAILED), State.FAILED,
            error=words, ended=now(),
        )  # fmt: skip

    def restart(self, drawn: Generation, words: str) -> Generation | None:
        """Put an attempt that its worker lost back in line, or fail it after too many."""
        with self.database.read() as connection:
            restarts = connection.execute(
                select(generations.c.restarts).where(generations.c.id == drawn.id)
            ).scalar_one()
        if restarts >= MOST_RESTARTS:
            return self.fail(drawn, f"{words} I tried {restarts + 1} times.")
        again = self._change(
            drawn.id, drawn.attempt, lifecycle.RUNNING, State.QUEUED,
            next_attempt=drawn.attempt + 1, restarts=restarts + 1,
            started=None, enqueued=0, error=words,
        )  # fmt: skip
        if again:
            self.queue.forget(drawn.id, drawn.attempt)
            self._enqueue(again)
        return again

    # Looking

    def get(self, generation_id: int) -> Generation:
        """One generation. Raises NotFound."""
        if not 0 < generation_id < 2**31:  # The column's own bound.
            raise NotFound(f"There is no #{generation_id}.")
        with self.database.read() as connection:
            row = connection.execute(
                select(generations).where(generations.c.id == generation_id)
            ).one_or_none()
        if row is None:
            raise NotFound(f"There is no #{generation_id}.")
        return _generation(row)

    def visible(self, generation_id: int, asker: Asker) -> Generation:
        """One generation of the asker's own (or any, for a moderator). Raises NotFound."""
        found = self.get(generation_id)
        if (found.platform, found.asker) != (asker.platform, asker.id) and not asker.moderator:
            raise NotFound(f"There is no #{generation_id} of yours.")
        return found

    def of(
        self, asker: Asker, states: Iterable[State] = State, limit: int = 50,
        before: int | None = None,
    ) -> list[Generation]:  # fmt: skip
        """The asker's generations in these states, newest first, older than `before`."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .where(
                    generations.c.platform == asker.platform,
                    generations.c.asker == asker.id,
                    generations.c.state.in_(list(states)),
                    generations.c.id < before if before else true(),
                )
                .order_by(generations.c.id.desc())
                .limit(limit)
            ).all()
        return [_generation(row) for row in rows]

    def counts(self) -> dict[State, int]:
        """How many generations of everybody stand in each state that is not over."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations.c.state, func.count())
                .where(generations.c.state.in_(list(PENDING)))
                .group_by(generations.c.state)
            ).all()
        return {State(state): count for state, count in rows}

    def standing(self, generation: Generation) -> Standing | None:
        """Place and estimate while queued; None when Redis does not answer."""
        with contextlib.suppress(RedisError):
            return self.queue.standing(generation.id, generation.attempt, generation.request)
        return None

    def progress(self, generation: Generation) -> float:
        """The share drawn, 0 to 1; 0 when Redis does not answer."""
        with contextlib.suppress(RedisError):
            return self.queue.progress(generation.id, generation.attempt)
        return 0.0

    # Showing

    def stale(self, platforms: Iterable[str], limit: int = 200) -> list[Generation]:
        """Cards that show less than their row, finals first; moving ones come along."""
        behind = and_(
            generations.c.platform.in_(list(platforms)),
            generations.c.message.is_not(None),
            generations.c.undeliverable.is_(None),
            or_(
                generations.c.shown_version < generations.c.version,
                generations.c.state.in_(list(PENDING)),
            ),
        )
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .where(behind)
                .order_by(
                    generations.c.state.in_(list(FINAL)).desc(),
                    (generations.c.shown_version < generations.c.version).desc(),
                    (generations.c.state != State.QUEUED).desc(),
                    generations.c.id,
                )
                .limit(limit)
            ).all()
        return [_generation(row) for row in rows]

    def place(
        self, generation: Generation, message: str, address: Mapping[str, Any] | None = None
    ) -> None:
        """Note which message is the generation's card, and what it showed when it was sent."""
        values: dict[str, Any] = {"address": dict(address)} if address else {}
        with self.database.write() as connection:
            connection.execute(
                update(generations)
                .where(generations.c.id == generation.id)
                .values(
                    message=message, shown_version=generation.version, undeliverable=None, **values
                )
            )
        self._publish(generation.id)

    def lease(self, generation_id: int, editor: str) -> bool:
        """Become the one editor of a card for a short while; whether that was granted."""
        moment = now()
        with self.database.write() as connection:
            taken = connection.execute(
                update(generations)
                .where(
                    generations.c.id == generation_id,
                    or_(
                        generations.c.editor_until.is_(None),
                        generations.c.editor_until < moment,
                        generations.c.editor == editor,
                    ),
                )
                .values(editor=editor, editor_until=moment + EDITOR_LEASE)
            )
        return taken.rowcount == 1

    def shown(
        self, generation_id: int, editor: str, version: int | None = None,
        message: str | None = None, media: int | None = None, mentioned: int | None = None,
        undeliverable: str | None = None, address: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Note what the card now shows, and give the lease back; False when it was lost."""
        told = {
            "shown_version": version,
            "message": message,
            "shown_media": media,
            "mentioned": mentioned,
            "undeliverable": undeliverable,
            "address": dict(address) if address else None,
        }
        values = {name: value for name, value in told.items() if value is not None}
        with self.database.write() as connection:
            noted = connection.execute(
                update(generations)
                .where(generations.c.id == generation_id, generations.c.editor == editor)
                .values(**values, editor=None, editor_until=None)
            )
        return noted.rowcount == 1

    # Mending

    def sweep(self) -> int:
        """Mend whatever a crash or an operator left behind; answers how many rows moved.

        Redis emptied: the line is rebuilt from the rows. An enqueue that was lost: done again.
        A job an operator deleted: cancelled; requeued: queued. A worker that died: drawn again.
        """
        self._rebuild_if_emptied()
        moved = 0
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations)
                .where(generations.c.state.in_([State.QUEUED, State.GENERATING]))
                .order_by(generations.c.id)
            ).all()
        for generation in map(_generation, rows):
            moved += self._mend(generation)
        moved += self._requeued_by_operator()
        self.queue.rq.mend(self._claim_of)
        if moved:
            log.info("sweep moved %d generations", moved)
        return moved

    def _rebuild_if_emptied(self) -> None:
        """Forget, for every row at once, that it stood in a line that is gone.

        The mark comes last: whoever is cut off here, another does it again.
        """
        if self.queue.known():
            return
        with self.database.write() as connection:
            connection.execute(
                update(generations)
                .where(generations.c.state.in_([State.QUEUED, State.GENERATING]))
                .values(enqueued=LOST)
            )
        self.queue.begin()

    def _mend(self, generation: Generation) -> bool:
        status = self.queue.status(generation.id, generation.attempt)
        if generation.state == State.QUEUED:
            if status in ("queued", "started", "deferred", "scheduled"):
                return False
            if status is not None:
                # RQ ended the job (a crash between its start and our claim): a new attempt.
                self.queue.forget(generation.id, generation.attempt)
            elif generation.enqueued == NOTED:
                return bool(
                    self._change(
                        generation.id, generation.attempt, {State.QUEUED}, State.CANCELLED,
                        error="An operator removed this from the queue.", ended=now(),
                    )
                )  # fmt: skip
            elif generation.enqueued != LOST and now() - generation.created < ENQUEUE_GRACE:
                return False
            self._enqueue(generation)
            return True
        alive = self.queue.alive(generation.id, generation.attempt)
        if status is None and alive and generation.enqueued == NOTED:
            # An operator deleted a running job; its worker is told to stop.
            self.queue.stop(generation.id, generation.attempt)
            return bool(
                self._change(
                    generation.id, generation.attempt, {State.GENERATING}, State.CANCELLED,
                    error="An operator removed this from the queue.", ended=now(),
                )
            )  # fmt: skip
        if alive:
            return False
        if generation.started and now() - generation.started < timedelta(seconds=5):
            return False
        return bool(self.restart(generation, "The worker that drew this stopped."))

    def _requeued_by_operator(self) -> int:
        waiting = set(self.queue.rq.get_job_ids())
        ids = {int(found[1]) for name in waiting if (found := _JOB.fullmatch(name))}
        if not ids:
            return 0
        with self.database.read() as connection:
            rows = connection.execute(
                select(generations).where(
                    generations.c.id.in_(ids), generations.c.state == State.FAILED
                )
            ).all()
        moved = 0
        for old in map(_generation, rows):
            if old.job in waiting:
                moved += bool(self._requeued(old))
        return moved

    def _requeued(self, old: Generation) -> Generation | None:
        return self._change(
            old.id, old.attempt, {State.FAILED}, State.QUEUED,
            error=None, ended=None, started=None, restarts=0,
        )  # fmt: skip

    def _claim_of(self, job: str) -> Claim | None:
        """What a job asks of the line that somebody else pushed."""
        found = _JOB.fullmatch(job)
        if not found:
            return None
        try:
            one = self.get(int(found[1]))
        except NotFound:
            return None
        return Claim(one.user, self.queue.pace.expect(one.request).seconds)

    # Within

    def _enqueue(self, generation: Generation) -> None:
        words = json.dumps(generation.request.prompt[:40], ensure_ascii=True)
        try:
            self._rebuild_if_emptied()
            self.queue.enqueue(
                generation.id, generation.attempt, f"#{generation.id} {words}",
                generation.user, generation.request,
            )  # fmt: skip
        except RedisError as error:
            log.warning("enqueue of #%d is left to the sweep: %s", generation.id, type(error))
            return
        with self.database.write() as connection:
            connection.execute(
                update(generations)
                .where(
                    generations.c.id == generation.id, generations.c.attempt == generation.attempt
                )
                .values(enqueued=NOTED)
            )
        self._publish(generation.id)

    def _change(
        self, generation_id: int, attempt: int, allowed: Iterable[State], target: State,
        next_attempt: int | None = None, **values: Any,
    ) -> Generation | None:  # fmt: skip
        with self.database.write() as connection:
            row = connection.execute(
                update(generations)
                .where(
                    generations.c.id == generation_id,
                    generations.c.attempt == attempt,
                    generations.c.state.in_(list(allowed)),
                )
                .values(attempt=next_attempt or attempt, **values, state=target,
                        version=generations.c.version + 1)
                .returning(generations)
            ).one_or_none()  # fmt: skip
        if row is None:
            return None
        self._publish(generation_id)
        return _generation(row)

    def _publish(self, generation_id: int) -> None:
        with contextlib.suppress(RedisError):
            events.publish(self.queue.redis, generation_id)


def _may_touch(generation: Generation, asker: Asker) -> None:
    own = (generation.platform, generation.asker) == (asker.platform, asker.id)
    if not own and not asker.moderator:
        raise NotAllowed("Only the person who asked for this picture, or a moderator, can do that.")
